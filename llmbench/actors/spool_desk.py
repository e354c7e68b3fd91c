"""The spool's desk: answers what people ask of the spool of a running engine, through a Unix socket beside it.

Only processes of the same user are answered. A request is a line of JSON, `llmbench.actors.spool_requests` says which;
whoever sends anything else is told so, and cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
from anyio.abc import TaskStatus

from llmbench.actors.spool_requests import (
    LONGEST_REQUEST,
    SOCKET,
    Line,
    address,
    answered,
    decoded,
    is_ours,
    lines_of,
)
from llmbench.actors.supervision import ActorDown
from llmbench.error_text import clean
from llmbench.messages import StoreState
from llmbench.stores.base import StoreError
from llmbench.stores.spool import Spool, SpoolFailed

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS = 8
_IDLE_SECONDS = 30.0
_SEND_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 60.0
_CHUNK = 16 * 1024


class _Refused(Exception):
    """The connection ends with this sentence."""


class SpoolDesk:
    """The desk of an open spool. ``delivery`` tells how its engine gets on with the store."""

    def __init__(self, spool: Spool, folder: Path, delivery: Callable[[], StoreState | None]) -> None:
        self._spool = spool
        self._folder = folder
        self._delivery = delivery
        self._connections = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; the spool has to be open as long. Raises ActorDown if there can be no socket."""
        try:
            listener, made = await anyio.to_thread.run_sync(_listening, self._folder)
        except OSError as error:
            raise ActorDown(
                f"llmbench spool can't ask this engine: no socket in '{self._folder}' ({error})", _LOOK_AGAIN_SECONDS
            ) from error
        task_status.started()
        try:
            with listener:
                await self._accept(listener)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_remove, self._folder, made)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as group:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:  # out of descriptors, mostly: whoever asks has to wait
                    logger.warning("a question to the spool can't be taken: %s", error)
                    await anyio.sleep(1.0)
                    continue
                self._connections += 1
                group.start_soon(self._serve, connection)

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                await self._talk(connection)
        except OSError:
            pass  # it is gone
        finally:
            self._connections -= 1

    async def _talk(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            self._check(connection)
            await self._answer_all(connection)
        except _Refused as refused:
            with contextlib.suppress(TimeoutError):
                await _send(connection, msgspec.json.encode(Line(error=str(refused))) + b"\n")
        except TimeoutError:
            pass  # it asks nothing, or does not take the answer

    def _check(self, connection: socket.socket) -> None:
        if not is_ours(connection):
            raise _Refused("this spool belongs to another user")
        if self._connections > _MOST_CONNECTIONS:
            raise _Refused("too many questions at a time: ask again")

    async def _answer_all(self, connection: socket.socket) -> None:
        received = b""
        while True:
            line, newline, rest = received.partition(b"\n")
            if newline and len(line) <= LONGEST_REQUEST:
                await self._answer(connection, line)
                received = rest
                continue
            if len(line) > LONGEST_REQUEST:
                raise _Refused(f"a request has at most {LONGEST_REQUEST} bytes")
            with anyio.fail_after(_IDLE_SECONDS):
                chunk = await asyncio.get_running_loop().sock_recv(connection, _CHUNK)
            if not chunk:
                return
            received += chunk

    async def _answer(self, connection: socket.socket, line: bytes) -> None:
        try:
            answer = await answered(self._spool, decoded(line), self._delivery)
        except ValueError as error:
            raise _Refused(f"this is no request: {clean(str(error))}") from error
        except (StoreError, SpoolFailed, OSError) as error:
            raise _Refused(str(error)) from error
        for part in lines_of(answer):  # line by line: in between, the engine gets on
            await _send(connection, part)


async def _send(connection: socket.socket, data: bytes) -> None:
    with anyio.fail_after(_SEND_SECONDS):
        await asyncio.get_running_loop().sock_sendall(connection, data)
    await anyio.lowlevel.checkpoint()


def _listening(folder: Path) -> tuple[socket.socket, int]:
    """Return a socket (mode 0600) that is listened at, and its inode. It replaces one that a killed engine left.

    Whoever has the spool's lock is the only one who does this.
    """
    path = folder / SOCKET
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(f"'{path}' is no socket: remove it")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        with address(folder) as place:
            listener.bind(place)
        path.chmod(0o600)  # before anybody can connect
        listener.listen(_MOST_CONNECTIONS)
        return listener, path.lstat().st_ino
    except BaseException:
        listener.close()
        raise


def _remove(folder: Path, made: int) -> None:
    """Remove the socket, unless it is another one by now."""
    path = folder / SOCKET
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == made:
            path.unlink()

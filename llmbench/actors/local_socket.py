"""A Unix socket in a folder, which only processes of the same user are answered through, line by line.

Whoever sends what is no line, or too long a one, asks nothing, or does not take the answer, is cut off. What is said on
a connection is a handler's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskStatus

from llmbench.actors.supervision import ActorDown

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS = 8
_IDLE_SECONDS = 30.0
_SEND_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 60.0
_CHUNK = 16 * 1024

_LONGEST_ADDRESS = 100
"""Bytes; an address of a Unix socket has 108 on Linux and 104 elsewhere."""


class Refused(Exception):
    """The connection ends with this sentence."""


class Connection:
    """One that was taken, seen from our side."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._received = b""

    async def line(self, longest: int) -> bytes | None:
        """Return the next line without its end, None if the other side has ended.

        Raises `Refused` for one of more than ``longest`` bytes, `TimeoutError` if none comes in half a minute.
        """
        with anyio.fail_after(_IDLE_SECONDS):
            while True:
                line, newline, rest = self._received.partition(b"\n")
                if len(line) > longest:
                    raise Refused(f"a request has at most {longest} bytes")
                if newline:
                    self._received = rest
                    return line
                if not (chunk := await self._receive()):
                    return None
                self._received += chunk

    async def until_ended(self) -> None:
        """Return once the other side has ended its part, or has said anything more."""
        if not self._received:
            await self._receive()

    async def send(self, data: bytes, seconds: float | None = None) -> None:
        """Send all of it. Raises `TimeoutError` if the other side does not take it, after ten seconds if not told."""
        with anyio.fail_after(_SEND_SECONDS if seconds is None else seconds):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        await anyio.lowlevel.checkpoint()

    async def _receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, _CHUNK)


class LocalSocket:
    """Listens at a name in a folder. ``handle`` serves a connection to its end; ``refusal`` makes of a sentence what
    is sent to whoever is refused. ``whose`` and ``purpose`` name the socket in what is told.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        handle: Callable[[Connection], Awaitable[None]],
        refusal: Callable[[str], bytes],
        *,
        whose: str,
        purpose: str,
    ) -> None:
        self._folder = folder
        self._name = name
        self._handle = handle
        self._refusal = refusal
        self._whose = whose
        self._purpose = purpose
        self._connections = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled. Raises `ActorDown` if there can be no socket."""
        try:
            listener, made = await anyio.to_thread.run_sync(_listening, self._folder, self._name)
        except OSError as error:
            raise ActorDown(f"{self._purpose}: no socket in '{self._folder}' ({error})", _LOOK_AGAIN_SECONDS) from error
        task_status.started()
        try:
            with listener:
                await self._accept(listener)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_remove, self._folder / self._name, made)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as group:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:  # out of descriptors, mostly: whoever asks has to wait
                    logger.warning("a question to the %s can't be taken: %s", self._whose, error)
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

    async def _talk(self, taken: socket.socket) -> None:
        connection = Connection(taken)
        try:
            self._check(taken)
            await self._handle(connection)
        except Refused as refused:
            with contextlib.suppress(TimeoutError):
                await connection.send(self._refusal(str(refused)))
        except TimeoutError:
            pass  # it asks nothing, or does not take the answer

    def _check(self, connection: socket.socket) -> None:
        if not is_ours(connection):
            raise Refused(f"this {self._whose} belongs to another user")
        if self._connections > _MOST_CONNECTIONS:
            raise Refused("too many questions at a time: ask again")


def is_ours(connection: socket.socket) -> bool:
    """Say whether the other side is a process of our own user; where nobody can tell, the folder's mode has to do."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return bool(user == os.geteuid())


@contextmanager
def address(folder: Path, name: str) -> Iterator[str]:
    """Yield an address of a socket in a folder that is short enough for the system, however long the path is.

    Raises `OSError` if there is none.
    """
    path = str(folder / name)
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield path
        return
    if not Path("/proc/self/fd").is_dir():
        raise OSError(f"the path of the folder is too long for a socket in it: {path}")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def _listening(folder: Path, name: str) -> tuple[socket.socket, int]:
    """Return a socket (mode 0600) that is listened at, and its inode. It replaces one that a killed engine left.

    Whoever has the spool's lock is the only one who does this.
    """
    path = folder / name
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(f"'{path}' is no socket: remove it")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        with address(folder, name) as place:
            listener.bind(place)
        path.chmod(0o600)  # before anybody can connect
        listener.listen(_MOST_CONNECTIONS)
        return listener, path.lstat().st_ino
    except BaseException:
        listener.close()
        raise


def _remove(path: Path, made: int) -> None:
    """Remove the socket, unless it is another one by now."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == made:
            path.unlink()

"""How a command gets at the spool: through the desk of the engine that has it, or by opening it itself."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from llmbench.actors.local_socket import address
from llmbench.actors.spool_requests import SOCKET, Answer, Line, Request, answered
from llmbench.cli import output
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.config import Config
from llmbench.error_text import visible
from llmbench.stores.base import StoreError, StoreUnusable
from llmbench.stores.spool import Kept, Limits, Spool, SpoolFailed, SpoolInUse
from llmbench.stores.spool_lock import committed
from llmbench.stores.spool_salvage import MARKER, SPOOL

Ask = Callable[[Request], Awaitable[Answer]]

_SECONDS = 30.0
_SECONDS_OF_A_START = 1.0
_LONGEST_LINE = 2**30

_lines = msgspec.json.Decoder(Line)


class NoSpool(Exception):
    """There is none, which is no fault; the message is a sentence."""


def limits(config: Config) -> Limits:
    """Return the spool's limits as they are configured."""
    return Limits(cap_bytes=config.spool.cap_mb * 2**20, keep_seconds=config.spool.keep_hours * 3600)


@asynccontextmanager
async def asking(config: Config) -> AsyncIterator[Ask]:
    """Yield what answers requests; it raises CommandError.

    Raises `NoSpool`, and CommandError for a spool that can't be got at.
    """
    folder = config.spool_folder
    _check_place(folder)
    async with AsyncExitStack() as stack:
        yield await _way(stack, folder, limits(config))


async def ask_engine(folder: Path, request: Request) -> Answer:
    """Put a request to the engine that has the spool in this folder. Raises CommandError, also if there is none."""
    stream = await _connected(folder)
    if stream is None:
        raise CommandError(f"no engine answers for the spool in '{folder}'", ExitCode.UNREACHABLE)
    async with stream:
        return await _Desk(stream).ask(request)


def _check_place(folder: Path) -> None:
    try:
        owner = folder.stat().st_uid
        if owner == os.geteuid():
            there = any((folder / name).exists() for name in (SPOOL, f"{SPOOL}-wal", MARKER)) or committed(folder)
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise CommandError(f"the spool's folder '{folder}' can't be looked at: {error.strerror}") from error
    else:
        if owner != os.geteuid():
            raise CommandError(
                f"the spool in '{folder}' belongs to the user with the id {owner}: run this as that user"
            )
    if not there:
        raise NoSpool(f"there is no spool in '{folder}': an engine makes it when it starts")


async def _way(stack: AsyncExitStack, folder: Path, limits: Limits) -> Ask:
    end = time.monotonic() + _SECONDS_OF_A_START
    while True:
        stream = await _connected(folder)
        if stream is not None:
            await stack.enter_async_context(stream)
            return _Desk(stream).ask
        try:
            return await _opened(stack, folder, limits)
        except SpoolInUse as error:
            if time.monotonic() < end:  # it may be starting, or ending
                await anyio.sleep(0.1)
                continue
            who = "a process" if error.pid is None else f"the process with the id {error.pid}"
            raise CommandError(
                f"the spool in '{folder}' is in use by {who}, which does not answer at {SOCKET} there: "
                "try again in a minute; if it stays so, look at its log, or stop it",
                ExitCode.UNREACHABLE,
            ) from error


async def _connected(folder: Path) -> ByteStream | None:
    try:
        with address(folder, SOCKET) as place, anyio.fail_after(_SECONDS):
            return await anyio.connect_unix(place)
    except OSError:  # nobody is there, or nobody answers, which is told by who has the lock
        return None


async def _opened(stack: AsyncExitStack, folder: Path, limits: Limits) -> Ask:
    spool = Spool(folder, limits=limits)
    try:
        interrupted = await spool.open()
    except SpoolInUse:
        raise
    except StoreUnusable as error:
        raise CommandError(str(error)) from error
    except (StoreError, SpoolFailed) as error:
        raise CommandError(str(error), ExitCode.UNREACHABLE) from error
    stack.push_async_callback(spool.close)
    if interrupted:
        output.note(f"runs that an engine left when it ended, recorded as interrupted: {len(interrupted)}")

    async def ask(request: Request) -> Answer:
        try:
            return await answered(spool, request)
        except (StoreError, SpoolFailed) as error:
            raise CommandError(str(error), ExitCode.UNREACHABLE) from error

    return ask


class _Desk:
    """The desk of an engine, at the other end of a connection."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._received = BufferedByteReceiveStream(stream)

    async def ask(self, request: Request) -> Answer:
        try:
            with anyio.fail_after(_SECONDS):
                return await self._ask(request)
        except TimeoutError:
            why = f"in {_SECONDS:g} s"
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, OSError):
            why = "any more: it has ended"
        except (ValueError, anyio.DelimiterNotFound):
            why = "as this llmbench expects: is it another version?"
        raise CommandError(f"the engine that has the spool does not answer {why}", ExitCode.UNREACHABLE)

    async def _ask(self, request: Request) -> Answer:
        with contextlib.suppress(anyio.BrokenResourceError):  # it may have ended with a word before it was asked
            await self._stream.send(msgspec.json.encode(request) + b"\n")
        rows: list[Kept] = []
        while True:
            line = _lines.decode(await self._received.receive_until(b"\n", _LONGEST_LINE))
            if line.error is not None:
                raise CommandError(f"the engine that has the spool says: {visible(line.error)}", ExitCode.UNREACHABLE)
            if line.answer is not None:
                return msgspec.structs.replace(line.answer, rows=rows)
            if line.row is not None:
                rows.append(line.row)

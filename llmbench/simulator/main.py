"""The simulator as a program of its own."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic
from typing import BinaryIO

import anyio
import anyio.to_thread
import msgspec

from llmbench.simulator.pacing import PACED_BACKEND_OPTIONS, lower_timer_slack
from llmbench.simulator.record import RequestRecord, encoder
from llmbench.simulator.server import Simulator, SimulatorError, server_context

_WANTED_FILES = 65_536
_IDLE_SECONDS = 10.0
_AT_THE_LATEST_SECONDS = 600.0


class Announcement(msgspec.Struct, frozen=True):
    """The line that a parent process reads: where the simulator listens, and which process it is."""

    port: int
    pid: int
    url: str


def announce_as_json(simulator: Simulator) -> None:
    """Write an `Announcement` to standard output."""
    line = msgspec.json.encode(Announcement(simulator.port, os.getpid(), simulator.url))
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    record: str | None = None,
    announce: Callable[[Simulator], None] = announce_as_json,
    *,
    until_stdin_closes: bool = False,
) -> int:
    """Run a simulator until SIGTERM or SIGINT and return the exit code 0.

    ``record`` names a file that gets a JSON line for each request. ``announce`` is called once it listens.
    ``until_stdin_closes`` ends it also when standard input does: then it never outlives the process that started it.
    Raises `SimulatorError` if it can't start as asked.
    """
    if (tls_cert is None) != (tls_key is None):
        raise SimulatorError("TLS needs a certificate and its key; give both or neither")
    if until_stdin_closes and not _stdin_is_pipe():
        raise SimulatorError("standard input is no pipe, so it can't tell that the parent process is gone")
    context = server_context(tls_cert, tls_key) if tls_cert and tls_key else None
    _allow_many_connections()
    lower_timer_slack()
    with contextlib.ExitStack() as stack:
        recorder = Recorder(stack.enter_context(_record_file(record))) if record is not None else None

        async def run() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async with (
                    Simulator(
                        host=host, port=port, tls=context, keen=True, on_ended=recorder.add if recorder else None
                    ) as simulator,
                    anyio.create_task_group() as group,
                ):
                    group.start_soon(_collect_garbage_when_idle, simulator)
                    group.start_soon(_cancel_at_signal, group.cancel_scope, signals)
                    if recorder:
                        group.start_soon(recorder.run)
                    if until_stdin_closes:
                        group.start_soon(_cancel_at_end_of_stdin, group.cancel_scope)
                    announce(simulator)

        anyio.run(run, backend_options=PACED_BACKEND_OPTIONS)
        if recorder:
            recorder.write()
    return 0


def _stdin_is_pipe() -> bool:
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files: a connection takes one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _cancel_at_signal(scope: anyio.CancelScope, signals: AsyncIterator[signal.Signals]) -> None:
    async for _signal in signals:
        scope.cancel()


async def _cancel_at_end_of_stdin(scope: anyio.CancelScope) -> None:
    """Read standard input, a pipe whose other end only our parent holds, until it is closed."""
    descriptor = sys.stdin.fileno()
    os.set_blocking(descriptor, False)
    while True:
        await anyio.wait_readable(descriptor)
        with contextlib.suppress(BlockingIOError):
            if not os.read(descriptor, 4096):
                break
    scope.cancel()


async def _collect_garbage_when_idle(simulator: Simulator) -> None:
    """Keep the garbage collector out of the streams: its pauses would make writes late.

    Memory stays bounded all the same: a connection takes its own cycles apart when it closes, records are capped, and
    what else there may be goes when no answer is running, or after ten minutes without such a moment.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    seen, collected = 0, monotonic()
    while True:
        await anyio.sleep(_IDLE_SECONDS)
        idle = simulator.counts.running == 0 and simulator.counts.requests != seen
        if idle or monotonic() - collected > _AT_THE_LATEST_SECONDS:
            seen, collected = simulator.counts.requests, monotonic()
            gc.collect()


def _record_file(path: str) -> BinaryIO:
    try:
        return Path(path).open("ab")
    except OSError as error:
        raise SimulatorError(f"the record file {path!r} can't be opened: {error.strerror}") from error


class Recorder:
    """Writes records to a file, a line each, in a thread, so that the disk holds no answer up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._more = anyio.Event()

    def add(self, record: RequestRecord) -> None:
        """Take a record that is complete."""
        self._lines.append(encoder.encode(record) + b"\n")
        self._more.set()

    async def run(self) -> None:
        """Write what comes, for ever."""
        while True:
            await self._more.wait()
            self._more = anyio.Event()
            await anyio.to_thread.run_sync(self.write)

    def write(self) -> None:
        """Write what has come so far, and forget it."""
        count = len(self._lines)
        self._file.write(b"".join(self._lines[:count]))
        self._file.flush()
        del self._lines[:count]

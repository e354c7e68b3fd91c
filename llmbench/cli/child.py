"""An engine that a viewer started: a process and a session of its own, which goes on if the viewer ends without a word.

Unless it is there for the viewer alone, and ends with it. What it would say on a terminal goes into a file beside its
spool.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec

from llmbench.cli.parser import LOG_FILE, UNTIL_STDIN_CLOSES
from llmbench.config import Config
from llmbench.error_text import clean
from llmbench.files import make_folder
from llmbench.log_file import open_log, put_aside
from llmbench.tui.feed import Trouble

LOG = "engine.log"
_LOCK = "engine.lock"
"""An engine that a window started has the lock of this file for as long as it lives: it can't answer all that time."""

_LOOKED_AT_BYTES = 16 * 1024
_SHOWN_LINES = 8
_LINE_LIMIT = 500


class AlreadyStarted(Exception):
    """Another window has started an engine there, which has not ended."""


class _Logged(msgspec.Struct):
    """A line of the engine's log."""

    level: str = ""
    message: str = ""


_logged = msgspec.json.Decoder(_Logged)


class Child:
    """An engine as a child process. ``log`` is where its words go."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log
        self.pid = process.pid

    @property
    def code(self) -> int | None:
        """The exit code, as a shell has it, None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    @property
    def ended_by(self) -> int | None:
        """The number of the signal that ended it, None if it heeded it and ended by itself, or if it runs."""
        code = self._process.poll()
        return -code if code is not None and code < 0 else None

    def terminate(self) -> None:
        """Ask it to finish what streams and to end; the second time, to end at once."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        while (code := self.code) is None:  # else its number may be another process's by now
            await self._exited()
        return code

    async def _exited(self) -> None:
        descriptor = os.pidfd_open(self.pid)
        try:
            await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    def explain(self, reason: str, *, heard_before: bool) -> Trouble:
        """Tell why it is not heard: it starts, it has ended, or what the connection says."""
        if self.code is not None:
            return Trouble(
                "lost", f"the engine that this window started ended with exit code {self.code}{self._last()}"
            )
        if not heard_before:
            return Trouble("connecting", f"the engine starts as process {self.pid}{self._last()}")
        return Trouble("lost", reason)

    def last_lines(self) -> list[str]:
        """Return the end of what it said, safe to show."""
        return last_lines(self.log)

    def _last(self) -> str:
        lines = self.last_lines()
        return f": {lines[-1]}" if lines else ""


def start(config: Config, env: Mapping[str, str], *, ends_with_us: bool = False) -> Child:
    """Start an engine with this configuration; ``ends_with_us``: it ends also if this process is killed.

    Raises AlreadyStarted, OSError.
    """
    folder = config.spool_folder
    make_folder(folder)
    with _opened(folder / _LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyStarted from error
        log = folder / LOG
        put_aside(log)
        with _opened(log) as told:
            return Child(_process(_command(config, log, ends_with_us=ends_with_us), env, told, lock), log)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = open_log(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _process(command: list[str], env: Mapping[str, str], told: int, lock: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  our own module under our own interpreter
        command,
        env=dict(env),
        stdin=subprocess.PIPE if UNTIL_STDIN_CLOSES in command else subprocess.DEVNULL,
        stdout=told,
        stderr=told,
        pass_fds=(lock,),
        start_new_session=True,  # neither Ctrl-C at this terminal nor its end is for it
    )


def last_lines(log: Path) -> list[str]:
    """Return the last lines of an engine's log, those of JSON as their messages; safe to show."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOOKED_AT_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    shown = (clean(_message(line), _LINE_LIMIT) for line in text.split("\n")[-_SHOWN_LINES - 1 :])
    return [line for line in shown if line.strip()]


def _message(line: str) -> str:
    try:
        return _logged.decode(line).message
    except ValueError:
        return line


def _command(config: Config, log: Path, *, ends_with_us: bool) -> list[str]:
    configured = ["--config", str(config.source)] if config.source is not None else []
    bound = [UNTIL_STDIN_CLOSES] if ends_with_us else []
    return [sys.executable, "-m", "llmbench", "--headless", *configured, LOG_FILE, str(log), *bound]

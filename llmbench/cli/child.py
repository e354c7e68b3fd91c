"""An engine that a viewer started: a process and a session of its own, which goes on if the viewer ends without a word.

What it would say on a terminal goes into a file beside its spool.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import msgspec

from llmbench.config import Config
from llmbench.error_text import clean
from llmbench.files import make_folder
from llmbench.tui.feed import Trouble

LOG = "engine.log"
_OLD_LOG = "engine.log.1"

_LOOKED_AT_BYTES = 16 * 1024
_SHOWN_LINES = 8
_LINE_LIMIT = 500


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

    def terminate(self) -> None:
        """Ask it to finish what streams and to end; the second time, to end at once."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        descriptor = os.pidfd_open(self.pid)
        try:
            while self.code is None:
                await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        code = self.code
        assert code is not None
        return code

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


def start(config: Config, env: Mapping[str, str]) -> Child:
    """Start an engine with this configuration. Raises OSError."""
    folder = config.spool_folder
    make_folder(folder)
    log = folder / LOG
    with contextlib.suppress(FileNotFoundError):
        log.replace(folder / _OLD_LOG)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603  our own module under our own interpreter
            _command(config),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,  # neither Ctrl-C at this terminal nor its end is for it
        )
    finally:
        os.close(descriptor)
    return Child(process, log)


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


def _command(config: Config) -> list[str]:
    configured = ["--config", str(config.source)] if config.source is not None else []
    return [sys.executable, "-m", "llmbench", "--headless", *configured]

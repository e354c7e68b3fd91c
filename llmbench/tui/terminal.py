"""The terminal while something is drawn on it: given back as it was, however that ends."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import termios
from collections.abc import Mapping
from typing import Any, TextIO, TypeVar, cast

from rich.console import Console
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

T = TypeVar("T")

_LEAVE = (
    "\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l"  # paste, wrapping, mouse, focus
    "\x1b[<u\x1b[?1049l\x1b[?25h"  # keys, the other screen, the cursor
)
"""What takes back all that the driver asks of a terminal."""

_DRIVERS = (signal.SIGTSTP, signal.SIGCONT)
"""Signals that the driver handles, and goes on handling."""

_DUMB = ("", "dumb", "unknown")


class Crashed(Exception):
    """The drawing failed; the message is what the toolkit said of it."""


def problem(env: Mapping[str, str]) -> str | None:
    """Return why nothing can be drawn here, None if it can be."""
    streams = {"input": sys.stdin, "output": sys.stdout, "error": sys.stderr}
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            return f"standard {name} is no terminal"
    if env.get("TERM", "") in _DUMB:
        return f"the terminal can't place text (TERM is {env.get('TERM', '')!r:.40})"
    return None


class Terminal:
    """This process's terminal, as it is when this is made."""

    def __init__(self) -> None:
        self._modes = _modes()
        self._handlers = {number: signal.getsignal(number) for number in _DRIVERS}

    async def draw(self, app: App[T]) -> T | None:
        """Run an app and return what it returns, the terminal being as before. Raises what it ended of."""
        app.driver_class = _Driver
        # Its own tracebacks show what variables hold, keys included.
        app.error_console = Console(file=(said := io.StringIO()), width=120)
        try:
            result = await app.run_async()
        except BaseException:
            self.give_back()
            raise
        finally:
            self._take_back_handlers()
        _set(self._modes)
        if app._exception is not None:  # noqa: SLF001  nothing public has it
            raise app._exception  # noqa: SLF001
        if app.return_code:
            raise Crashed(said.getvalue().strip() or "the dashboard broke")
        return result

    def _take_back_handlers(self) -> None:
        """Or the driver would begin to draw again when the process goes on, long after the app has ended."""
        for number, handler in self._handlers.items():
            if handler is not None:  # one that was set from elsewhere is out of reach
                signal.signal(number, handler)

    def give_back(self) -> None:
        """Take back what was asked of the terminal, without waiting for it, and set its modes as they were."""
        with contextlib.suppress(OSError, ValueError):
            _write_at_once(_LEAVE)
        _set(self._modes)


def _write_at_once(text: str) -> None:
    if sys.__stderr__ is None:
        return
    descriptor = sys.__stderr__.fileno()
    blocking = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.set_blocking(descriptor, blocking)


def _modes() -> list[Any] | None:
    try:
        return termios.tcgetattr(sys.__stdin__.fileno()) if sys.__stdin__ is not None else None
    except (termios.error, OSError, ValueError):
        return None


def _set(modes: list[Any] | None) -> None:
    if modes is not None and sys.__stdin__ is not None:
        with contextlib.suppress(termios.error, OSError, ValueError):
            termios.tcsetattr(sys.__stdin__.fileno(), termios.TCSANOW, modes)


class _Driver(LinuxDriver):
    """Writes to a terminal that may go away."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        assert self._file is not None, "`problem` has been asked"
        self._file = cast("Any", _Forgiving(self._file))


class _Forgiving:
    """A terminal. What can't be written to it any more is gone, or the thread that writes would be, and all wait."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return True

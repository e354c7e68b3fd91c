"""SIGINT, SIGTERM and SIGHUP for a command that draws on the terminal: told to whoever listens, and never in vain."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_PATIENCE_SECONDS = 10.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Listener = Callable[[int], None]


class Signals:
    """Takes the signals while it is entered. ``first`` is the number of the first that came."""

    def __init__(self, *, patience: float = _PATIENCE_SECONDS) -> None:
        self.first: int | None = None
        self._untold: int | None = None
        self._patience = patience
        self._listener: Listener | None = None
        self._guard: threading.Timer | None = None
        self._last_resort: Callable[[], None] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def told_to(self, listener: Listener, last_resort: Callable[[], None] | None = None) -> Iterator[None]:
        """Call the listener in the event loop, once for each signal, and now for one that nobody was told of yet.

        With a ``last_resort`` this has to end some seconds after the first signal. If it does not, as the event loop
        is stuck (at a terminal that takes nothing any more), that is called in a thread, and then the process ends.
        """
        loop = asyncio.get_running_loop()

        def tell(number: int) -> None:
            loop.call_soon_threadsafe(listener, number)

        self._listener = tell
        self._last_resort = last_resort
        if self._untold is not None:
            listener(self._untold)
            self._untold = None
            self._watch()
        try:
            yield
        finally:
            self._listener = self._last_resort = None
            if self._guard is not None:
                self._guard.cancel()
                self._guard = None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # Python calls this between two instructions of the main thread, also of a loop that waits for a full queue.
        if self.first is None:
            self.first = number
        if self._listener is None:
            self._untold = number
        else:
            self._listener(number)
            self._watch()

    def _watch(self) -> None:
        if self._guard is None and self._last_resort is not None:
            self._guard = threading.Timer(self._patience, self._end, [self._last_resort])
            self._guard.daemon = True
            self._guard.start()

    def _end(self, last_resort: Callable[[], None]) -> None:
        try:
            last_resort()
        finally:
            os._exit(128 + (self.first or signal.SIGTERM))

"""An event loop that knows how late it is.

The loop's selector is the one place that every iteration passes: the time between its return and its next call is
exactly how long callbacks kept the loop from looking at its sockets. Two questions are answered from that:

- How long was the loop away, at worst, while a run went on (`LagWindow`)?
- How old can the oldest bytes of this read be (`LoopWatch.blind_since_ns`)? Segments that queue behind each other
  merge in the kernel and take the newest stamp, so a read that carries several events is only as sharp as this.
"""

from __future__ import annotations

import asyncio
import selectors
from time import perf_counter_ns
from typing import Any

_WAITED_NS = 50_000
"""A select call that took longer than this was waiting: nothing had queued up before it."""

_NOTEWORTHY_NS = 200_000
"""Shorter absences are not handed to the windows; no gap between tokens is that short."""


class LagWindow:
    """The worst absence of the loop during one run, in nanoseconds."""

    __slots__ = ("worst_ns",)

    def __init__(self) -> None:
        self.worst_ns = 0


class LoopWatch(selectors.DefaultSelector):
    """The platform's selector, which also keeps the time. One belongs to one loop."""

    def __init__(self) -> None:
        super().__init__()
        self._returned_ns = perf_counter_ns()
        self._windows: set[LagWindow] = set()
        self.blind_since_ns = self._returned_ns
        """Bytes that are read in this iteration of the loop did not arrive before this time, apart from those
        that were left unread on purpose (`perf_counter_ns`)."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        called = perf_counter_ns()
        absent = called - self._returned_ns
        ready = super().select(timeout)
        returned = perf_counter_ns()
        self.blind_since_ns = returned if returned - called > _WAITED_NS else self._returned_ns
        self._returned_ns = returned
        if absent > _NOTEWORTHY_NS:
            for window in self._windows:
                if absent > window.worst_ns:
                    window.worst_ns = absent
        return ready

    def watch(self) -> LagWindow:
        """Start a window; `unwatch` ends it."""
        window = LagWindow()
        self._windows.add(window)
        return window

    def unwatch(self, window: LagWindow) -> None:
        """End a window, the current iteration included."""
        self._windows.discard(window)
        window.worst_ns = max(window.worst_ns, perf_counter_ns() - self._returned_ns)


class WatchedEventLoop(asyncio.SelectorEventLoop):
    """The standard event loop on a `LoopWatch`. Hand it to anyio as ``backend_options={"loop_factory": …}``."""

    def __init__(self) -> None:
        self.watch = LoopWatch()
        super().__init__(self.watch)


BACKEND_OPTIONS: dict[str, Any] = {"loop_factory": WatchedEventLoop}


def current_watch() -> LoopWatch:
    """Return the running loop's watch.

    Raises RuntimeError if the loop is of another kind: without its watch no row could say how good its stamps are.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, WatchedEventLoop):
        message = "the measuring path needs a WatchedEventLoop: run with measure.loopwatch.BACKEND_OPTIONS"
        raise RuntimeError(message)  # noqa: TRY004  the program was started wrongly; no argument has a wrong type
    return loop.watch

"""An event loop that knows how late it is.

The loop's selector is the one place that every iteration passes: the time between its return and its next call is
exactly how long callbacks kept the loop from looking at its sockets. Two questions are answered from that:

- How long was the loop away, at worst, since a run began (`LoopWatch.worst_since`)?
- How old can the oldest bytes of this read be (`LoopWatch.blind_since_ns`)? Segments that queue behind each other
  merge in the kernel and take the newest stamp, so a read that carries several events is only as sharp as this. A loop
  that was woken, and had to queue for a processor, was blind while it stood there; the kernel counts that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
from bisect import bisect_left
from time import perf_counter_ns
from typing import Any

_WAITED_NS = 50_000
_LISTED_NS = 4_000
"""A select call that took longer than this, and this for each ready socket, was waiting: nothing had queued."""

_LOOK_FIRST_NS = 200_000
"""On a busy machine a call may take that long without a wait. So behind an absence of more than this, when much may
have queued, the loop looks first, and waits only if nothing is ready."""


class LoopWatch(selectors.DefaultSelector):
    """The platform's selector, which also keeps the time. One belongs to one loop, and to the thread that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self._held_up = HeldUp()
        self._returned_ns = perf_counter_ns()
        self._ends_ns: list[int] = []
        self._absences_ns: list[int] = []
        self.blind_since_ns = self._returned_ns
        """Bytes that are read in this iteration of the loop did not arrive before this time, apart from those
        that were left unread on purpose (`perf_counter_ns`)."""
        self.idle_ns = 0
        """When the loop last had nothing to do (`perf_counter_ns`)."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout != 0:
            self._held_up.since_last_ns()  # what was before counts as absence; what comes from here on, as blindness
        called = perf_counter_ns()
        absence = called - self._returned_ns
        self._note_absence(called, absence)
        queued = super().select(0) if absence > _LOOK_FIRST_NS else []
        ready = queued or super().select(timeout)
        returned = perf_counter_ns()
        waited = timeout != 0 and not queued and returned - called > _WAITED_NS + _LISTED_NS * len(ready)
        self.blind_since_ns = self._returned_ns
        self._returned_ns = returned
        if waited:
            self.blind_since_ns = max(self.blind_since_ns, returned - self._held_up.since_last_ns())
            self.idle_ns = returned
        return ready

    def close(self) -> None:
        super().close()
        self._held_up.close()

    def _note_absence(self, end_ns: int, absence_ns: int) -> None:
        """Keep only absences that no later one exceeds: the longest of any stretch up to now is then its first."""
        absences, ends = self._absences_ns, self._ends_ns
        while absences and absences[-1] <= absence_ns:
            absences.pop()
            ends.pop()
        absences.append(absence_ns)
        ends.append(end_ns)

    def worst_since(self, start_ns: int) -> int:
        """Return the longest time, in nanoseconds, that the loop was away since ``start_ns``, up to now."""
        current = perf_counter_ns() - self._returned_ns
        first = bisect_left(self._ends_ns, start_ns)
        return max(current, self._absences_ns[first]) if first < len(self._absences_ns) else current


class HeldUp:
    """How long the thread that makes this one stood in the scheduler's queue, ready to run while others ran.

    Linux counts that (the second figure of ``/proc/thread-self/schedstat``, in nanoseconds); where nobody does, it is
    0. A loop that is woken late can't see it by itself: to it, all of that time was spent waiting.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        self._total_ns = 0
        self._total_ns = self._read()

    def since_last_ns(self) -> int:
        """Return how much it has become since it was last asked."""
        before, self._total_ns = self._total_ns, self._read()
        return self._total_ns - before

    def _read(self) -> int:
        """Return the total, the last one known if the file tells none: that must not end the loop."""
        if self._file is None:
            return self._total_ns
        try:
            return int(os.pread(self._file, 64, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return self._total_ns

    def close(self) -> None:
        """Give the file back. Closing twice is harmless."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class WatchedEventLoop(asyncio.SelectorEventLoop):
    """The standard event loop on a `LoopWatch`. Hand it to anyio as ``backend_options={"loop_factory": …}``."""

    def __init__(self, watch: LoopWatch | None = None) -> None:
        self.watch = watch or LoopWatch()
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

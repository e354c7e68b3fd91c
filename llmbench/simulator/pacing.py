"""Doing things at their time: an event loop that waits in microseconds, and absolute deadlines on it.

Three things make a write late on a quiet machine. epoll counts whole milliseconds; the kernel lets a sleeping thread
oversleep by its timer slack, 50 µs by default; and a core that went idle takes some tens of microseconds to wake up.
The loop here waits with select(2) on epoll's own descriptor, the slack can be lowered, and a `Pacer` may be allowed to
get up early and spend the rest awake, within a budget of CPU.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import select
import selectors
import sys
from collections import deque
from time import perf_counter_ns
from typing import Any, Protocol

from llmbench.measure.loopwatch import LoopWatch, WatchedEventLoop

_SELECTABLE = 1024
"""select(2) takes descriptors below this (FD_SETSIZE)."""

_PR_SET_TIMERSLACK = 29
"""linux/prctl.h."""

_EARLIEST_NS = 150_000
_LATEST_NS = 20_000
_LEARNING_NS = 2_000
"""How early to get up is learnt: about the lateness that nine wake-ups of ten stay below, within these bounds."""

_AWAKE_SHARE = 0.15
"""Of the wall-clock time, this share at most is spent awake while waiting."""
_AWAKE_SAVINGS_NS = 5_000_000

if sys.platform == "linux":

    class MicrosecondSelector(selectors.EpollSelector):
        """epoll, but the time to wait is in microseconds."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout <= 0 or self.fileno() >= _SELECTABLE:
                return super().select(timeout)
            select.select([self.fileno()], [], [], timeout)
            return super().select(0)

else:
    MicrosecondSelector = selectors.DefaultSelector  # kqueue's timeouts are fine already


class PacedWatch(LoopWatch, MicrosecondSelector):
    """A `LoopWatch` that waits in microseconds."""


class PacedEventLoop(WatchedEventLoop):
    """The watched event loop on a `PacedWatch`."""

    def __init__(self) -> None:
        self.watch = PacedWatch()
        asyncio.SelectorEventLoop.__init__(self, self.watch)


PACED_BACKEND_OPTIONS: dict[str, Any] = {"loop_factory": PacedEventLoop}


def lower_timer_slack() -> bool:
    """Ask the kernel to wake this thread on time; False where it can't be asked."""
    if sys.platform != "linux":
        return False
    result: int = ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    return result == 0


class Paced(Protocol):
    """Something with a next thing to do."""

    def fire(self) -> None:
        """Do it; its time has come."""
        ...


class Pacer:
    """Fires each `Paced` at its absolute time on `perf_counter_ns`; lateness of one never shifts the next.

    ``keen`` lets it stay awake in front of a deadline, so that waking up does not make it late.
    """

    def __init__(self, *, keen: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: list[tuple[int, int, Paced]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_ns = 0
        self._alarm_ns = 0
        self._early_ns = _EARLIEST_NS
        self._firing = False
        self._keen = keen
        self._awake_ns = 0.0
        self._counted_ns = perf_counter_ns()

    def at(self, due_ns: int, paced: Paced) -> None:
        """Fire ``paced`` once at ``due_ns``. What is due at the same time is fired in the order of these calls."""
        self._count += 1
        heapq.heappush(self._due, (due_ns, self._count, paced))
        if not self._firing and (self._timer is None or due_ns < self._armed_ns):
            self._arm(due_ns)

    def close(self) -> None:
        """Forget all deadlines."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = due_ns
        now = perf_counter_ns()
        alarm = due_ns - self._early_ns if self._may_stay_awake(now) else due_ns
        self._alarm_ns = alarm if alarm > now else 0
        self._timer = self._loop.call_later(max(0, alarm - now) / 1e9, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._firing = True
        now = self._await_deadline()
        batch: deque[Paced] = deque()
        while self._due and self._due[0][0] <= now:
            batch.append(heapq.heappop(self._due)[2])
        try:
            while batch:  # what becomes due meanwhile waits for the next turn, so that sockets get theirs
                batch.popleft().fire()
        finally:
            for paced in batch:  # one of them raised; the others keep their turn
                self.at(now, paced)
            self._firing = False
            if self._due:
                self._arm(self._due[0][0])

    def _await_deadline(self) -> int:
        started = now = perf_counter_ns()
        if self._keen and self._due:
            self._learn(started)
            due = self._due[0][0]
            if due - now <= _EARLIEST_NS:
                while now < due:
                    now = perf_counter_ns()
                self._awake_ns -= now - started
        return now

    def _learn(self, woken_ns: int) -> None:
        if self._alarm_ns:
            late = woken_ns - self._alarm_ns > self._early_ns
            self._early_ns += 9 * _LEARNING_NS if late else -_LEARNING_NS
            self._early_ns = min(max(self._early_ns, _LATEST_NS), _EARLIEST_NS)
            self._alarm_ns = 0

    def _may_stay_awake(self, now: int) -> bool:
        if not self._keen:
            return False
        earned = (now - self._counted_ns) * _AWAKE_SHARE
        self._counted_ns = now
        self._awake_ns = min(self._awake_ns + earned, _AWAKE_SAVINGS_NS)
        return self._awake_ns > 0

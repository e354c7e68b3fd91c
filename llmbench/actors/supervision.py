"""Keeping one actor alive: restart after a crash, with capped, jittered backoff, every change of state said aloud."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic

import anyio

from llmbench.actors.bus import Bus
from llmbench.clock import Clock
from llmbench.messages import LaneState, LaneStatus

logger = logging.getLogger(__name__)


class ActorDown(Exception):
    """The actor can't work as things are. The message says what to do.

    ``rest`` is how many seconds later to look again; None if nothing can change while the program runs.
    """

    def __init__(self, message: str, rest: float | None = None) -> None:
        super().__init__(message)
        self.rest = rest


class RestartBudget:
    """How soon to restart, and when to stop trying so soon: more than ``burst`` crashes in ``window`` seconds."""

    def __init__(
        self,
        *,
        first: float = 1.0,
        longest: float = 60.0,
        burst: int = 5,
        window: float = 300.0,
        rest: float = 900.0,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first = first
        self._longest = longest
        self._burst = burst
        self._window = window
        self._rest = rest
        self._jitter = jitter
        self._crashes: deque[float] = deque()

    @property
    def recent(self) -> int:
        """Crashes within the window."""
        return len(self._crashes)

    @property
    def exhausted(self) -> bool:
        return self.recent > self._burst

    def crashed(self, now: float) -> float:
        """Count a crash at ``now`` (monotonic seconds); return how long to wait before the next start."""
        self._crashes.append(now)
        while self._crashes[0] < now - self._window:
            self._crashes.popleft()
        if self.exhausted:
            return self._rest
        delay = min(self._longest, self._first * 2.0 ** (self.recent - 1))
        return delay * self._jitter(0.75, 1.25)


class Supervised:
    """One actor under supervision. ``announces``: once it is started again, it says itself how it is."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        bus: Bus,
        clock: Clock,
        budget: RestartBudget,
        on_down: Callable[[str], None] | None = None,
        *,
        announces: bool = True,
    ) -> None:
        self._announces = announces
        self.name = name
        self._run = run
        self._bus = bus
        self._clock = clock
        self._budget = budget
        self._on_down = on_down
        self._stopping = False
        self._resting = anyio.CancelScope()
        self.restarts = 0
        self.down: str | None = None
        """Why the actor does not work now; None while it does."""

    def stop(self) -> None:
        """Do not start it again, once it returns or if it waits for a restart."""
        self._stopping = True
        self._resting.cancel()

    def wake(self) -> None:
        """If it waits for a restart, restart it now."""
        self._resting.cancel()

    async def run(self) -> None:
        """Run the actor until it returns by itself; a crash restarts it. Cancellation passes through."""
        while not self._stopping:
            try:
                await self._run()
            except ActorDown as error:
                logger.error("%s is down: %s", self.name, error)  # noqa: TRY400  the sentence is all there is to it
                self._tell("down", str(error), error.rest)
                if error.rest is None:
                    return
                await self._rest(error.rest)
            except Exception as error:  # noqa: BLE001  the seam where a crash becomes a restart
                await self._recover(error)
            else:
                self._tell("stopped", None)
                return

    async def _recover(self, error: Exception) -> None:
        delay = self._budget.crashed(monotonic())
        self.restarts += 1
        reason = f"crashed: {describe(error)}; restart {self._budget.recent} in {delay:.1f} s"
        logger.error("%s %s", self.name, reason, exc_info=error)
        if self._stopping:
            return
        self._tell("down" if self._budget.exhausted else "restarting", reason, delay)
        await self._rest(delay)

    async def _rest(self, seconds: float) -> None:
        with anyio.CancelScope() as self._resting:
            if self._stopping:
                return
            await anyio.sleep(seconds)
            self._tell("starting", None)
            if not self._announces:
                self._tell("ok", None)

    def _tell(self, status: LaneStatus, reason: str | None, delay: float | None = None) -> None:
        now = self._clock.now()
        self.down = reason if status == "down" else None
        if self.down is not None and self._on_down is not None:
            self._on_down(self.down)
        until = now + timedelta(seconds=delay) if delay is not None else None
        self._bus.publish(
            LaneState(lane=self.name, status=status, at=now, reason=reason, until=until, restarts=self.restarts)
        )


def describe(error: BaseException) -> str:
    """Return an error in a line; of a group, its first leaf."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"

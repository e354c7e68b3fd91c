"""Figures of every lane and of the engine itself, once a second, and only while somebody wants to see them.

They are made on the loop that measures, so they are made lane by lane, and what takes longer than that is asked for
aside: the spool's counts, and whether the kernel really stamps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from time import perf_counter_ns
from typing import Protocol

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import checkpoint

from llmbench import __version__
from llmbench.actors.bus import Bus
from llmbench.actors.plans import Load
from llmbench.actors.provider import ProviderActor
from llmbench.clock import Clock, SystemClock
from llmbench.measure.loopwatch import current_watch
from llmbench.measure.probe import kernel_stamps_work
from llmbench.messages import Clock as StampClock
from llmbench.messages import EngineFigures, LaneFigures, SpoolFigures
from llmbench.stores.base import StoreError
from llmbench.stores.spool import Spool, SpoolFailed

_SECONDS = 1.0
_SPOOL_SECONDS = 2.0


class Loads(Protocol):
    """A plan, as far as it is asked here."""

    def load(self, provider: str, now: datetime) -> Load: ...


class Holds(Protocol):
    """A scheduler, as far as it is asked here."""

    @property
    def hold(self) -> str | None: ...

    def paused_since(self, provider: str) -> datetime | None: ...


class About(msgspec.Struct, frozen=True):
    """What stays the same: who measures, and the description of the store."""

    runner_id: str
    store: str


class Figures:
    """Publishes `LaneFigures` for each lane and `EngineFigures`; ``spool`` is None where outcomes have none."""

    def __init__(
        self,
        bus: Bus,
        lanes: Iterable[ProviderActor],
        plan: Loads,
        scheduler: Holds,
        about: About,
        spool: Spool | None = None,
        *,
        clock: Clock | None = None,
        stamps_work: Callable[[], bool] = kernel_stamps_work,
    ) -> None:
        self._bus = bus
        self._lanes = list(lanes)
        self._plan = plan
        self._scheduler = scheduler
        self._about = about
        self._spool = spool
        self._clock = clock or SystemClock()
        self._stamps_work = stamps_work
        self._started_at = self._clock.now()
        self._stamps: StampClock | None = None
        self._counted: SpoolFigures | None = None
        self._looked_ns = 0

    async def run(self) -> None:
        while True:
            await self._bus.until_attended()
            self._looked_ns = perf_counter_ns()
            await self._prepare()
            async with anyio.create_task_group() as group:
                group.start_soon(self._look_at_spool)
                await self._publish_while_attended()
                group.cancel_scope.cancel()

    async def _prepare(self) -> None:
        if self._stamps is None:
            self._stamps = await anyio.to_thread.run_sync(self._clock_of_stamps)
        await self._count()

    async def _publish_while_attended(self) -> None:
        while self._bus.attended:
            await self._publish()
            await anyio.sleep(_SECONDS)

    async def _publish(self) -> None:
        self._bus.publish(self._engine())
        for lane in self._lanes:
            self._bus.publish(self._lane(lane))
            await checkpoint()

    def _lane(self, lane: ProviderActor) -> LaneFigures:
        now = self._clock.now()
        load = self._plan.load(lane.name, now)
        return LaneFigures(
            lane=lane.name,
            at=now,
            models=load.models,
            in_flight=lane.in_flight,
            due=load.due,
            next_due=load.next_due,
            concurrency=lane.concurrency,
            requests_per_minute=lane.requests_per_minute,
            slowdown=lane.slowdown,
            breaker=lane.breaker,
            paused_since=self._scheduler.paused_since(lane.name),
        )

    def _engine(self) -> EngineFigures:
        return EngineFigures(
            at=self._clock.now(),
            started_at=self._started_at,
            version=__version__,
            runner_id=self._about.runner_id,
            store=self._about.store,
            lanes=tuple(lane.name for lane in self._lanes),
            clock=self._stamps or "user",
            loop_lag=self._lag(),
            hold=self._scheduler.hold,
            spool=self._counted,
        )

    def _lag(self) -> float:
        """Return for how many seconds the loop was away at worst since this was last asked."""
        since, self._looked_ns = self._looked_ns, perf_counter_ns()
        return current_watch().worst_since(since) / 1e9

    def _clock_of_stamps(self) -> StampClock:
        try:
            return "kernel" if self._stamps_work() else "user"
        except OSError:  # there is no loopback interface to try it on
            return "user"

    async def _look_at_spool(self) -> None:
        while True:
            await anyio.sleep(_SPOOL_SECONDS)
            await self._count()

    async def _count(self) -> None:
        self._counted = await spool_figures(self._spool) if self._spool is not None else None


async def spool_figures(spool: Spool) -> SpoolFigures | None:
    """Return how full a spool is, None if it can't tell."""
    try:
        counts = await spool.counts()
    except (SpoolFailed, StoreError):
        return None
    return SpoolFigures(
        level=counts.level,
        waiting=counts.waiting,
        quarantined=sum(counts.quarantined.values()),
        damages=counts.damages,
        bytes=counts.used_bytes,
        cap_bytes=counts.cap_bytes,
        oldest=counts.oldest,
    )

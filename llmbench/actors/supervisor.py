"""The supervisor: makes every actor and channel, watches them, and stops them in order. Only it knows them all.

Stopping: 1. the scheduler ends, so nothing new starts; 2. lanes finish what streams, up to the grace period, and the
rest is cut off and recorded as such; 3. the sink stores what is left; 4. done.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec

from llmbench.actors.breaker import PROBE_SECONDS
from llmbench.actors.bus import Bus
from llmbench.actors.leasing import NAME as LEASES
from llmbench.actors.leasing import Leasing, Sharing
from llmbench.actors.plans import Plan
from llmbench.actors.provider import ProviderActor, Surroundings
from llmbench.actors.record import Runner
from llmbench.actors.scheduler import Scheduler
from llmbench.actors.sink import Sink
from llmbench.actors.supervision import ActorDown, RestartBudget, Supervised
from llmbench.clock import Clock, SystemClock
from llmbench.config import ResolvedProvider
from llmbench.logs import log_run
from llmbench.measure.quiet import QuietCollector
from llmbench.measure.transport import StartGate
from llmbench.messages import Envelope, Job, LaneBlocked, Outcome, SchedulerMessage
from llmbench.providers.base import Provider
from llmbench.stores.base import Store

logger = logging.getLogger(__name__)

_OUTCOMES = 64
_DRAIN_SECONDS = 10.0
_ABORT_SECONDS = 2.0


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A provider to be served. ``problem`` is why it can't be (a key that is not set), and then ``open`` is unused."""

    settings: ResolvedProvider
    open: Callable[[], Provider]
    problem: str | None = None


class Supervisor:
    """Runs one plan over some lanes into one store."""

    def __init__(
        self,
        lanes: Sequence[Lane],
        plan: Plan,
        store: Store,
        runner: Runner,
        *,
        bus: Bus | None = None,
        clock: Clock | None = None,
        grace_seconds: float = 30.0,
        refresh: Callable[[], Awaitable[None]] | None = None,
        probe_seconds: float = PROBE_SECONDS,
        budget: Callable[[], RestartBudget] = RestartBudget,
        on_stored: Callable[[Outcome], None] = log_run,
        store_patience: float | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.bus = bus or Bus()
        self._clock = clock or SystemClock()
        self.grace_seconds = grace_seconds
        self._gate = StartGate()
        self._quiet = QuietCollector()
        self._stop = anyio.Event()
        outcomes_in, outcomes_out = anyio.create_memory_object_stream[Envelope](_OUTCOMES)
        inbox_in, inbox_out = anyio.create_memory_object_stream[SchedulerMessage](math.inf)
        self._outcomes_in, self._outcomes_out = outcomes_in, outcomes_out
        self._inbox_in, self._inbox_out = inbox_in, inbox_out
        self.sink = Sink(store, outcomes_out, inbox_in, self.bus, self._clock, on_stored, store_patience)
        around = Surroundings(
            outcomes=outcomes_in,
            inbox=inbox_in,
            bus=self.bus,
            runner=runner,
            clock=self._clock,
            gate=self._gate,
            quiet=self._quiet,
            probe_seconds=probe_seconds,
        )
        self._mailboxes = {
            lane.settings.name: anyio.create_memory_object_stream[Job](2 * lane.settings.concurrency) for lane in lanes
        }
        self.actors = {
            lane.settings.name: ProviderActor(lane.settings, lane.open, self._mailboxes[lane.settings.name][1], around)
            for lane in lanes
        }
        self._leasing = Leasing(sharing, inbox_in, self.bus, self._clock, store_patience) if sharing else None
        scheduler = Scheduler(plan, inbox_out, self._mailboxes, self._clock, refresh, self._leasing)
        self._settle = scheduler.settle
        self.lanes = {lane.settings.name: self._supervise(lane, budget()) for lane in lanes}
        self._scheduler = Supervised("scheduler", scheduler.run, self.bus, self._clock, budget())
        self._sink = Supervised("sink", self.sink.run, self.bus, self._clock, budget(), on_down=self._without_store)
        self._leases = (
            Supervised(LEASES, self._leasing.run, self.bus, self._clock, budget())
            if self._leasing is not None
            else None
        )
        self._lanes_scope = anyio.CancelScope()
        self._drain_seconds = _DRAIN_SECONDS
        self._drain_scope: anyio.CancelScope | None = None

    def _supervise(self, lane: Lane, budget: RestartBudget) -> Supervised:
        name, actor = lane.settings.name, self.actors[lane.settings.name]

        async def run() -> None:
            if lane.problem is not None:
                raise ActorDown(lane.problem)
            await actor.run()

        def give_up(reason: str) -> None:
            message = LaneBlocked(provider=name, reason=reason, seconds=math.inf, lasting=True)
            self._inbox_in.send_nowait(message)

        return Supervised(name, run, self.bus, self._clock, budget, on_down=give_up)

    def stop(self) -> None:
        """Stop gracefully: nothing new starts."""
        self._stop.set()

    def abort(self) -> None:
        """Stop at once: what streams is cut off and recorded as such; what is measured has two seconds to be stored."""
        self._stop.set()
        self._drain_seconds = _ABORT_SECONDS
        self._lanes_scope.cancel()
        if self._drain_scope is not None:  # nothing streams any more, the store alone is waited for
            self._drain_scope.deadline = min(self._drain_scope.deadline, anyio.current_time() + _ABORT_SECONDS)

    def _without_store(self, reason: str) -> None:
        """The sink is down. An engine waits for its restart; a command that ends by itself has waited long enough."""
        if self.sink.gave_up:
            self.abort()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def anything_down(self) -> bool:
        """Whether any actor does not work now."""
        own = (self._sink, self._scheduler, *([self._leases] if self._leases is not None else []))
        return any(actor.down is not None for actor in (*own, *self.lanes.values()))

    async def run(self) -> None:
        """Run until the plan is finished or `stop` is called; then wind down in order."""
        self._quiet.freeze()
        try:
            async with self._holding_leases(), anyio.create_task_group() as sink_group:
                sink_group.start_soon(self._sink.run)
                with self._lanes_scope:
                    await self._run_lanes()
                self._outcomes_in.close()
                self.sink.drain()
                self._sink.wake()
                self._drain_scope = sink_group.cancel_scope
                self._drain_scope.deadline = anyio.current_time() + self._drain_seconds
        finally:
            if self.sink.waiting:
                logger.error("%d outcomes were not stored: the store did not take them in time", self.sink.waiting)
            self._quiet.release()
            self._close_channels()
            self.bus.close()

    @asynccontextmanager
    async def _holding_leases(self) -> AsyncIterator[None]:
        """Keep leases for as long as anything runs or waits to be stored, and give them back then."""
        if self._leasing is None or self._leases is None:
            yield
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._leases.run)
            yield
            group.cancel_scope.cancel()
        self._settle()
        await self._leasing.finish()

    async def _run_lanes(self) -> None:
        async with anyio.create_task_group() as lanes:
            for supervised in self.lanes.values():
                lanes.start_soon(supervised.run)
            await self._until_finished_or_stopped()
            for name, supervised in self.lanes.items():
                supervised.stop()
                self.actors[name].stop()
            lanes.cancel_scope.deadline = anyio.current_time() + self.grace_seconds

    async def _until_finished_or_stopped(self) -> None:
        async with anyio.create_task_group() as group:

            async def schedule() -> None:
                await self._scheduler.run()
                group.cancel_scope.cancel()

            group.start_soon(schedule)
            await self._stop.wait()
            group.cancel_scope.cancel()

    def _close_channels(self) -> None:
        for stream in (self._outcomes_in, self._outcomes_out, self._inbox_in, self._inbox_out):
            stream.close()
        for sender, receiver in self._mailboxes.values():
            sender.close()
            receiver.close()

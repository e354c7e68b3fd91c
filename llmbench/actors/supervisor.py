"""The supervisor: makes every actor and channel, watches them, and stops them in order. Only it knows them all.

Stopping: 1. the scheduler ends, so nothing new starts; 2. lanes finish what streams, up to the grace period, and the
rest is cut off and recorded as such; 3. the sink records what is left; 4. the delivery takes to the store what it
takes in time, the rest stays in the spool; 5. done.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import msgspec

from llmbench.actors.breaker import PROBE_SECONDS
from llmbench.actors.bus import Bus
from llmbench.actors.delivery import NAME as DELIVERY
from llmbench.actors.delivery import Delivery
from llmbench.actors.leasing import NAME as LEASES
from llmbench.actors.leasing import Leasing, Sharing
from llmbench.actors.plans import Plan
from llmbench.actors.provider import ProviderActor, Surroundings
from llmbench.actors.record import Runner
from llmbench.actors.refreshing import NAME as CATALOGUE
from llmbench.actors.refreshing import Refreshing
from llmbench.actors.scheduler import Scheduler
from llmbench.actors.sink import NAME as SINK
from llmbench.actors.sink import Sink
from llmbench.actors.spool_level import SpoolLevel
from llmbench.actors.supervision import ActorDown, RestartBudget, Supervised
from llmbench.clock import Clock, SystemClock
from llmbench.config import ResolvedProvider
from llmbench.logs import log_run
from llmbench.measure.quiet import QuietCollector
from llmbench.measure.transport import StartGate
from llmbench.messages import Envelope, Job, LaneBlocked, Outcome, SchedulerMessage
from llmbench.providers.base import Provider
from llmbench.stores.base import Store
from llmbench.stores.spool import Spool, SpoolFailed

logger = logging.getLogger(__name__)

_OUTCOMES = 64
_DRAIN_SECONDS = 10.0
_ABORT_SECONDS = 2.0


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """A provider to be served. ``problem`` is why it can't be (a key that is not set), and then ``open`` is unused."""

    settings: ResolvedProvider
    open: Callable[[], Provider]
    problem: str | None = None


class Companion(msgspec.Struct, frozen=True):
    """Something that runs for as long as the engine does, watched like every actor, such as the HTTP side."""

    name: str
    run: Callable[[], Awaitable[None]]


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """The spool, open, that outcomes are recorded in on their way to the store.

    ``store_open``: the store is open already, and need not be opened by the delivery. ``patience``: a plan that ends
    by itself waits for all to be delivered, unless the store takes nothing for so many seconds; None: ten seconds.
    """

    spool: Spool
    store_open: bool = True
    patience: float | None = None


class Supervisor:
    """Runs one plan over some lanes into one store, through a spool if there is one."""

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
        buffer: Buffer | None = None,
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
        self.spool_failure: str | None = None
        """Why the spool can't be trusted any more, if it can't."""
        self._buffer = buffer
        level = SpoolLevel(buffer.spool, inbox_in, self.bus, self._clock) if buffer else None
        self._level = level
        recorder = buffer.spool if buffer else store
        self.sink = Sink(recorder, outcomes_out, inbox_in, self.bus, self._clock, on_stored, store_patience, level)
        self.delivery = (
            Delivery(buffer.spool, store, level, self.bus, self._clock, opened=buffer.store_open)
            if buffer and level
            else None
        )
        around = Surroundings(
            outcomes=outcomes_in,
            inbox=inbox_in,
            bus=self.bus,
            runner=runner,
            clock=self._clock,
            gate=self._gate,
            quiet=self._quiet,
            probe_seconds=probe_seconds,
            ledger=_Ledger(buffer.spool, self._without_spool) if buffer else None,
            paused=lambda lane: self.scheduler.paused(lane),
        )
        self._mailboxes = {
            lane.settings.name: anyio.create_memory_object_stream[Job](2 * lane.settings.concurrency) for lane in lanes
        }
        self.actors = {
            lane.settings.name: ProviderActor(lane.settings, lane.open, self._mailboxes[lane.settings.name][1], around)
            for lane in lanes
        }
        self._leasing = Leasing(sharing, inbox_in, self.bus, self._clock, store_patience) if sharing else None
        self.scheduler = Scheduler(plan, inbox_out, self._mailboxes, self._clock, self._leasing)
        self.lanes = {lane.settings.name: self._supervise(lane, budget()) for lane in lanes}
        self._budget = budget
        self._scheduler = self._own("scheduler", self.scheduler.run)
        self._catalogue = self._own(CATALOGUE, Refreshing(refresh, self.scheduler).run) if refresh else None
        self._sink = self._own(SINK, self.sink.run, self._sink_down)
        self._leases = self._own(LEASES, self._leasing.run) if self._leasing else None
        self._delivery = self._own(DELIVERY, self.delivery.run, self._delivery_down) if self.delivery else None
        self._companions: list[Supervised] = []
        self._lanes_scope = anyio.CancelScope()
        self._drain_seconds = _DRAIN_SECONDS
        self._drain_scopes: list[anyio.CancelScope] = []

    def _own(
        self, name: str, run: Callable[[], Awaitable[None]], on_down: Callable[[str], None] | None = None
    ) -> Supervised:
        """Return an actor that is no lane, supervised; it does not say itself how it is."""
        return Supervised(name, run, self.bus, self._clock, self._budget(), on_down, announces=False)

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

    def accompany(self, companion: Companion) -> None:
        """Have this run beside the lanes, from the start of `run` until all is recorded and delivered."""
        self._companions.append(self._own(companion.name, companion.run))

    def tell(self, message: SchedulerMessage) -> None:
        """Tell the scheduler something that a person wants. After the end nobody hears it."""
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._inbox_in.send_nowait(message)

    def stop(self) -> None:
        """Stop gracefully: nothing new starts."""
        self._stop.set()
        self._hurry(_DRAIN_SECONDS)

    def abort(self) -> None:
        """Stop at once: what streams is cut off and recorded as such; what is measured has two seconds to be stored."""
        self._stop.set()
        self._drain_seconds = _ABORT_SECONDS
        self._lanes_scope.cancel()
        self._hurry(_ABORT_SECONDS)

    def _hurry(self, seconds: float) -> None:
        for scope in self._drain_scopes:  # nothing streams any more, the spool or the store alone is waited for
            scope.deadline = min(scope.deadline, anyio.current_time() + seconds)

    def _sink_down(self, reason: str) -> None:
        """Without a place for outcomes nothing is measured; an engine whose sink only crashed waits for its restart."""
        if self.sink.spool_failed:
            self._without_spool(reason)
        elif self.sink.gave_up:
            self.abort()

    def _delivery_down(self, reason: str) -> None:
        if self.delivery is None:
            return
        if self.delivery.spool_failed:
            self._without_spool(reason)
        elif self.delivery.draining:  # the end does not wait for what crashes each time: the spool keeps it
            self._hurry(0.0)

    def _without_spool(self, reason: str) -> None:
        """What is measured now could not be recorded."""
        if self.spool_failure is None:
            self.spool_failure = reason
            self.abort()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def anything_down(self) -> bool:
        """Whether any actor does not work now."""
        own = (self._sink, self._scheduler, self._catalogue, self._leases, self._delivery, *self._companions)
        return any(actor is not None and actor.down is not None for actor in (*own, *self.lanes.values()))

    async def run(self) -> None:
        """Run until the plan is finished or `stop` is called; then wind down in order."""
        self._quiet.freeze()
        try:
            async with self._accompanied(), self._holding_leases():
                await self._record_all()
        finally:
            if self.sink.waiting:
                what = "store" if self._buffer is None else "spool"
                logger.error("%d outcomes were not stored: the %s did not take them in time", self.sink.waiting, what)
            self._quiet.release()
            self._close_channels()
            self.bus.close()

    async def _record_all(self) -> None:
        """Run the lanes to their end, and have all that they measured recorded."""
        async with anyio.create_task_group() as sink_group:
            sink_group.start_soon(self._sink.run)
            with self._lanes_scope:
                await self._run_lanes()
            self._outcomes_in.close()
            self.sink.drain()
            self._sink.wake()
            self._limit(sink_group.cancel_scope)

    def _limit(self, scope: anyio.CancelScope, *, lenient: bool = False) -> None:
        """Let what goes on in the scope last for as long as a stop may take; ``lenient``: until there is a stop."""
        scope.deadline = math.inf if lenient else anyio.current_time() + self._drain_seconds
        self._drain_scopes.append(scope)

    @asynccontextmanager
    async def _accompanied(self) -> AsyncIterator[None]:
        """Keep the delivery and the companions running; at the end, deliver what the store takes in time."""
        if self._level is not None:
            self._level.look()
        async with anyio.create_task_group() as companions:
            for one in self._companions:
                companions.start_soon(one.run)
            async with anyio.create_task_group() as group:
                if self._delivery is not None:
                    group.start_soon(self._delivery.run)
                yield
                self._finish_delivery(group)
            companions.cancel_scope.cancel()

    def _finish_delivery(self, group: anyio.abc.TaskGroup) -> None:
        if self.delivery is None or self._delivery is None or self._buffer is None:
            return
        self.delivery.drain(self._buffer.patience)
        self._delivery.wake()
        self._limit(group.cancel_scope, lenient=self._buffer.patience is not None and not self.stopping)

    @asynccontextmanager
    async def _holding_leases(self) -> AsyncIterator[None]:
        """Keep leases for as long as anything runs or waits to be recorded, and give them back then."""
        if self._leasing is None or self._leases is None:
            yield
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._leases.run)
            yield
            group.cancel_scope.cancel()
        self.scheduler.settle()
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
            if self._catalogue is not None:
                group.start_soon(self._catalogue.run)
            await self._stop.wait()
            group.cancel_scope.cancel()

    def _close_channels(self) -> None:
        for stream in (self._outcomes_in, self._outcomes_out, self._inbox_in, self._inbox_out):
            stream.close()
        for sender, receiver in self._mailboxes.values():
            sender.close()
            receiver.close()


class _Ledger:
    """The spool, as lanes see it: a lane does not die of a spool that has failed, the engine ends."""

    def __init__(self, spool: Spool, failed: Callable[[str], None]) -> None:
        self._spool = spool
        self._failed = failed

    def opened(self, envelope: Envelope) -> None:
        try:
            self._spool.opened(envelope)
        except SpoolFailed as error:
            self._failed(str(error))

    def withdrawn(self, *ids: str) -> None:
        try:
            self._spool.withdrawn(*ids)
        except SpoolFailed as error:
            self._failed(str(error))

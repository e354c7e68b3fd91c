"""The provider actor, one a lane: takes jobs, times streams, and sends exactly one outcome for each run.

Each of its workers asks for a job only when it could start at once: the breaker is closed, the rate limiter has room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import anyio
from aiolimiter import AsyncLimiter
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.actors.attempt import Attempt
from llmbench.actors.breaker import PROBE_SECONDS, Breaker, Pause
from llmbench.actors.bus import Bus
from llmbench.actors.progress import Progress
from llmbench.actors.record import Runner
from llmbench.actors.supervision import ActorDown
from llmbench.clock import Clock
from llmbench.config import ResolvedProvider
from llmbench.measure.quiet import QuietCollector
from llmbench.measure.transport import StartGate
from llmbench.messages import (
    BreakerStatus,
    Deferred,
    Envelope,
    Failure,
    Job,
    LaneBlocked,
    LaneReset,
    LaneState,
    Outcome,
    Ready,
    RunFinished,
    RunStarted,
    SchedulerMessage,
)
from llmbench.providers.base import Provider, Unusable

logger = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 2.0


class LaneFault(Exception):
    """A run of this lane met a bug in llmbench. It is recorded; the lane starts afresh."""


class Ledger(Protocol):
    """Where it is noted which runs have begun, so that one that a crash takes with it is known of afterwards."""

    def opened(self, envelope: Envelope) -> None:
        """Note, without waiting for it, that a run begins: this is its outcome, should nothing more be told of it."""
        ...

    def withdrawn(self, *ids: str) -> None:
        """Note that a run which began has no outcome, and will be made again."""
        ...


class NoLedger:
    """For commands that end by themselves: nothing is noted."""

    def opened(self, envelope: Envelope) -> None:
        pass

    def withdrawn(self, *ids: str) -> None:
        pass


class Surroundings:
    """What all lanes share, made by the supervisor: channels, the start gate, the collector, who measures.

    ``paused`` says whether a person has paused a lane.
    """

    def __init__(
        self,
        *,
        outcomes: MemoryObjectSendStream[Envelope],
        inbox: MemoryObjectSendStream[SchedulerMessage],
        bus: Bus,
        runner: Runner,
        clock: Clock,
        gate: StartGate,
        quiet: QuietCollector,
        probe_seconds: float = PROBE_SECONDS,
        ledger: Ledger | None = None,
        paused: Callable[[str], bool] = lambda _lane: False,
    ) -> None:
        self.ledger = ledger or NoLedger()
        self.paused = paused
        self.outcomes = outcomes
        self.inbox = inbox
        self.bus = bus
        self.runner = runner
        self.clock = clock
        self.gate = gate
        self.quiet = quiet
        self.probe_seconds = probe_seconds


class ProviderActor:
    """One lane. Its breaker outlives a restart, so that a crash does not reopen what a provider has closed."""

    def __init__(
        self,
        settings: ResolvedProvider,
        open_provider: Callable[[], Provider],
        mailbox: MemoryObjectReceiveStream[Job],
        around: Surroundings,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._open_provider = open_provider
        self._mailbox = mailbox
        self._around = around
        self._breaker = Breaker(around.probe_seconds)
        self._limiter = self._new_limiter()
        self._asking = anyio.Lock()
        self._changed = anyio.Event()
        self._waiting: set[anyio.CancelScope] = set()
        self._stopping = False
        self._fault: str | None = None
        self._pause_reason = ""
        self.in_flight = 0

    @property
    def concurrency(self) -> int:
        return self._settings.concurrency

    @property
    def requests_per_minute(self) -> float:
        """As configured; `slowdown` divides it."""
        return self._settings.requests_per_minute

    @property
    def slowdown(self) -> float:
        return self._breaker.slowdown

    @property
    def breaker(self) -> BreakerStatus:
        return self._breaker.state

    def stop(self) -> None:
        """Start nothing new; what runs goes on to its end, and then `run` returns."""
        self._stopping = True
        for scope in self._waiting:
            scope.cancel()

    async def run(self) -> None:
        """Work until stopped. Raises `LaneFault` if a run met a bug, and whatever goes wrong in the lane itself."""
        self._fault = None
        self._breaker.withdrawn()  # a probe that a crash took with it will tell nothing any more
        provider = self._open_provider()
        try:
            await self._check(provider)
            self._around.inbox.send_nowait(LaneReset(provider=self.name))
            self._publish_state(self._still_closed())
            async with anyio.create_task_group() as workers:
                for _ in range(self._settings.concurrency):
                    workers.start_soon(self._work, provider)
        finally:
            self._around.inbox.send_nowait(LaneReset(provider=self.name))
            with anyio.CancelScope(shield=True):
                await provider.close()
        if self._fault is not None:
            raise LaneFault(self._fault)

    async def _check(self, provider: Provider) -> None:
        """Without credentials there is no lane; it looks for them again later, as the machine may be given some."""
        try:
            await provider.check()
        except Unusable as error:
            raise ActorDown(str(error), rest=self._around.probe_seconds) from error

    # asking for work

    async def _work(self, provider: Provider) -> None:
        while not self._winding_down():
            found = await self._wait_for_job()
            if found is None:
                return
            job, epoch = found
            if self._winding_down():
                self._give_back(job, "the lane is stopping")
                return
            await self._carry_out(provider, job, epoch)

    def _winding_down(self) -> bool:
        return self._stopping or self._fault is not None

    async def _wait_for_job(self) -> tuple[Job, int] | None:
        found = None
        with anyio.CancelScope() as waiting:
            self._waiting.add(waiting)
            try:
                found = await self._next_job()
            finally:
                self._waiting.discard(waiting)
        return found

    async def _next_job(self) -> tuple[Job, int]:
        """Ask for a job, one worker at a time: idle ones would save up starts, and make them all at once later."""
        async with self._asking:
            while True:
                await self._until_allowed()
                await self._limiter.acquire()
                self._around.inbox.send_nowait(Ready(provider=self.name))
                job = await self._mailbox.receive()
                now = monotonic()
                if job.start_before is not None and now >= job.start_before:
                    self._give_back(job, "its lease ran out before it could start")
                elif self._around.paused(self.name):  # whoever did so has been told that nothing starts any more
                    self._give_back(job, "the lane was paused while the job was on its way")
                elif self._breaker.delay(now) == 0:
                    epoch = self._breaker.started()
                    await self._begin_interval()
                    return job, epoch
                else:
                    self._give_back(job, "the lane was paused meanwhile")

    async def _until_allowed(self) -> None:
        while (delay := self._breaker.delay(monotonic())) != 0:
            changed = self._changed
            with anyio.move_on_after(delay):  # None: until the probe's outcome is known
                await changed.wait()

    def _give_back(self, job: Job, reason: str) -> None:
        """Never waits, as nothing that goes to the inbox does: a cancellation on the way would lose the message."""
        model = job.model
        message = Deferred(outcome_id=job.outcome_id, provider=model.provider, model_id=model.model_id, reason=reason)
        self._around.inbox.send_nowait(message)

    # carrying out

    async def _carry_out(self, provider: Provider, job: Job, epoch: int) -> None:
        around = self._around
        attempt = Attempt(
            job, provider, gate=around.gate, runner=around.runner, clock=around.clock, on_text=Progress(around.bus, job)
        )
        model = job.model
        around.bus.publish(
            RunStarted(
                outcome_id=job.outcome_id, provider=model.provider, model_id=model.model_id, at=around.clock.now()
            )
        )
        around.ledger.opened(self._envelope(job, attempt.interrupted()))
        self.in_flight += 1
        try:
            with around.quiet.streaming():
                outcome = await attempt.run()
        except anyio.get_cancelled_exc_class():
            await self._last_words(job, attempt.cancelled())
            raise
        except Exception:
            around.ledger.withdrawn(job.outcome_id)
            self._give_back(job, "the lane crashed")  # or the plan would take it for in flight for ever
            raise
        finally:
            self.in_flight -= 1
        await self._deliver(job, outcome)
        await self._learn(outcome, epoch)

    async def _deliver(self, job: Job, outcome: Outcome) -> None:
        envelope = self._finished(job, outcome)
        try:
            await self._around.outcomes.send(envelope)
        except anyio.get_cancelled_exc_class():
            await self._send_shielded(envelope)
            raise

    async def _last_words(self, job: Job, outcome: Outcome) -> None:
        await self._send_shielded(self._finished(job, outcome))

    def _finished(self, job: Job, outcome: Outcome) -> Envelope:
        """Tell the watchers, and return the outcome addressed."""
        self._around.bus.publish(RunFinished(provider=job.model.provider, model_id=job.model.model_id, outcome=outcome))
        return self._envelope(job, outcome)

    def _envelope(self, job: Job, outcome: Outcome) -> Envelope:
        """Address an outcome: only the schedule's own runs belong to the public collection."""
        return Envelope(outcome=outcome, publish=job.profile.publish and job.role == "scheduled")

    async def _send_shielded(self, envelope: Envelope) -> None:
        """Hand an outcome over in spite of a cancellation, for a bounded time; the id absorbs a second copy."""
        with anyio.move_on_after(_LAST_WORDS_SECONDS, shield=True) as limit:
            await self._around.outcomes.send(envelope)
        if limit.cancelled_caught:
            logger.error("outcome %s of %s was not stored: the store did not take it", envelope.outcome.id, self.name)

    # learning

    async def _learn(self, outcome: Outcome, epoch: int) -> None:
        before = self._breaker.state
        if isinstance(outcome, Failure):
            if outcome.error_kind == "internal":
                self._fail(outcome)
            reason = f"{outcome.error_kind}: {outcome.message[:200]}; {outcome.advice}"
            pause = self._breaker.failed(outcome.error_kind, outcome.retry_after, reason, monotonic(), epoch)
            if pause is not None:
                self._report_pause(pause)
        else:
            self._breaker.succeeded(epoch)
        if self._limiter.time_period != self._interval():
            await self._begin_interval()
        if before != self._breaker.state and self._breaker.state == "closed":
            logger.info("%s works again", self.name)
            self._publish_state()
        self._wake_workers()

    def _fail(self, outcome: Failure) -> None:
        """Wind the lane down: running streams end in peace, then `run` raises."""
        self._fault = f"run {outcome.id} of {outcome.model_name} met a bug: {outcome.message}"
        for scope in self._waiting:
            scope.cancel()

    def _report_pause(self, pause: Pause) -> None:
        logger.warning("%s starts nothing for %.0f s: %s", self.name, pause.seconds, pause.reason)
        self._pause_reason = pause.reason
        self._publish_state(pause)
        self._around.inbox.send_nowait(
            LaneBlocked(provider=self.name, reason=pause.reason, seconds=pause.seconds, lasting=pause.lasting)
        )

    def _still_closed(self) -> Pause | None:
        """Return what is left of a pause that the lane began before it was restarted."""
        left = self._breaker.delay(monotonic())
        if self._breaker.state == "closed" and not left:
            return None
        return Pause(left or 0.0, self._pause_reason, lasting=self._breaker.state != "closed")

    async def _begin_interval(self) -> None:
        """Let the next run start one interval from now, however long ago the limiter let this one pass."""
        self._limiter = self._new_limiter()
        await self._limiter.acquire()  # a new bucket has room: this does not wait

    def _interval(self) -> float:
        return 60.0 / self._settings.requests_per_minute * self._breaker.slowdown

    def _new_limiter(self) -> AsyncLimiter:
        """One start an interval: a bucket of a minute's worth would let them all through at once."""
        return AsyncLimiter(1, self._interval())

    def _wake_workers(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _publish_state(self, pause: Pause | None = None) -> None:
        now = self._around.clock.now()
        if pause is None:
            state = LaneState(lane=self.name, status="ok", at=now)
        else:
            state = LaneState(lane=self.name, status="blocked", at=now, reason=pause.reason, until=now + pause.duration)
        self._around.bus.publish(state)

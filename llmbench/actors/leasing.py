"""The leases actor: before a job is handed out, it asks the store whether this runner is to make it.

Other runners on the same store may measure the same models. A lease is claimed for a job just before it starts,
renewed while it runs, and given back once its outcome is acknowledged. While the store does not answer, nothing new is
claimed, and what is held counts until it expires; once that has lasted for a term, the runner goes on `Alone`.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream

from llmbench.actors.alone import Alone
from llmbench.actors.bus import Bus
from llmbench.actors.due import ModelClock, backoff
from llmbench.clock import Clock
from llmbench.errors import severity
from llmbench.messages import (
    Acknowledged,
    Deferred,
    Job,
    LaneBlocked,
    LaneState,
    LeaseGranted,
    NotStored,
    SchedulerMessage,
)
from llmbench.naming import Key, key_of
from llmbench.stores.base import StoreError
from llmbench.stores.leases import Claim, Ended, Granted, LeaseKey, Leases, Unanswered, Withheld

logger = logging.getLogger(__name__)

NAME = "leases"
"""What this actor is called in `LaneState`."""

_BATCH = 32
_RETRY_FIRST = 0.5
_RETRY_LONGEST = 10.0
_MARGIN_SECONDS = 0.05
_CLAIMS = "claims"
_RENEWALS = "renewals"
_LAST_SECONDS = 2.0
_DAMAGED_SECONDS = 30.0

_OWN = ("lane", "ours")
"""Failures that say nothing of the model: this runner's key was refused, it was stopped. Others need not wait."""

_REASONS = {"held": "{} is measuring it", "fresh": "{} has measured it", "resting": "{} has seen it fail"}


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How models are shared with other runners. ``region``: only with those of this region. ``term``: seconds."""

    leases: Leases
    fresh: timedelta
    term: float
    region: str | None = None


class Leasing:
    """Answers each job that is wanted with `LeaseGranted`, or with `Deferred`, which says who has it and how long.

    ``patience`` is for how many seconds a command that ends by itself waits for the store; None waits for ever.
    """

    def __init__(
        self,
        sharing: Sharing,
        inbox: MemoryObjectSendStream[SchedulerMessage],
        bus: Bus,
        clock: Clock,
        patience: float | None = None,
    ) -> None:
        self._leases = sharing.leases
        self._sharing = sharing
        self._inbox = inbox
        self._bus = bus
        self._clock = clock
        self._patience = patience
        self._wanted: dict[str, Job] = {}
        self._held: dict[str, Granted] = {}
        self._ended: dict[str, Ended] = {}
        self._woken = anyio.Event()
        self._failing: dict[str, float] = {}
        """Since when claims, or renewals, have failed."""
        self._alone = Alone()
        self._is_alone = False

    # told by the scheduler

    def want(self, job: Job) -> None:
        """Ask for a lease; the answer comes to the scheduler's inbox."""
        self._wanted[job.outcome_id] = job
        if self._is_alone:
            self._go_on_alone()
        self._woken.set()

    def want_no_more(self, job: Job) -> None:
        """Take the question back. An answer may be on its way already."""
        self._wanted.pop(job.outcome_id, None)

    def settle(self, message: Acknowledged | NotStored | Deferred) -> None:
        """Take note of what became of a job. If its lease was lost, that is nobody's business any more."""
        if self._alone.end(message):
            self._woken.set()  # others may take the model until the store knows
        lease = self._held.pop(message.outcome_id, None)
        if lease is None:
            return
        self._ended[message.outcome_id] = self._end(lease, message)
        self._woken.set()

    def give_back(self, message: LeaseGranted) -> None:
        """Take back a lease that came too late: the lane has been restarted meanwhile."""
        self._alone.forget(message.outcome_id)
        lease = self._held.pop(message.outcome_id, None)
        if lease is not None:
            self._ended[message.outcome_id] = Ended(lease=lease, result="unused")
            self._woken.set()

    def _end(self, lease: Granted, message: Acknowledged | NotStored | Deferred) -> Ended:
        if isinstance(message, Deferred):
            return Ended(lease=lease, result="unused")
        clock = ModelClock(failures_in_a_row=lease.failures_in_a_row)
        if isinstance(message, NotStored):
            clock = clock.after_refusal(self._clock.now())
        elif message.ok:
            return Ended(lease=lease, result="succeeded")
        elif severity(message.error_kind or "unknown") in _OWN:
            return Ended(lease=lease, result="unused")
        else:
            clock = clock.after(message)
        key: Key = (lease.key.provider, lease.key.model_id)
        rest = backoff(key, clock, self._sharing.fresh).total_seconds()
        return Ended(lease=lease, result="failed", failures_in_a_row=clock.failures_in_a_row, rest=rest)

    # the actor

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._renew)
            while True:
                await self._serve()

    async def finish(self) -> None:
        """Give everything back, within two seconds; what the store does not take then, expires."""
        held = bool(self._held)
        try:
            with anyio.fail_after(_LAST_SECONDS):
                await self._release()
                await self._tell()
                await self._leases.release_all()
        except (StoreError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_LAST_SECONDS:g} s"
            if not (held or self._ended):
                return
            logger.warning("leases were not given back (%s): they run out after %g s", reason, self._sharing.term)

    async def _serve(self) -> None:
        if not (self._wanted or self._ended or self._alone.has_news or _CLAIMS in self._failing):
            self._woken = anyio.Event()
            await self._woken.wait()
        try:
            await self._release()
            await self._tell()
            await self._claim()
        except StoreError as error:
            await self._failed(error)
        else:
            self._works(_CLAIMS)

    async def _release(self) -> None:
        ended = dict(self._ended)
        if ended:
            await self._leases.release(list(ended.values()))
            for outcome_id in ended:
                del self._ended[outcome_id]

    async def _tell(self) -> None:
        """Tell of what was measured alone. If there is nothing to ask either, find out whether the store is back."""
        measured = self._alone.measured()
        if measured or (_CLAIMS in self._failing and not self._wanted):
            await self._leases.note(measured)
            self._alone.told()

    async def _claim(self) -> None:
        jobs = list(self._wanted.values())[:_BATCH]
        if not jobs:
            return
        asked = monotonic()
        claims = [Claim(key=self._key(job), outcome_id=job.outcome_id, asked=job.asked) for job in jobs]
        answers = await self._leases.claim(claims, fresh=self._sharing.fresh.total_seconds())
        for job, answer in zip(jobs, answers, strict=True):
            wanted = self._wanted.pop(job.outcome_id, None) is not None
            if isinstance(answer, Granted) and not wanted:
                self._ended[job.outcome_id] = Ended(lease=answer, result="unused")
            elif isinstance(answer, Granted):
                self._granted(job, answer, asked + self._sharing.term)
            elif wanted:
                self._refused(job, answer)

    def _key(self, job: Job) -> LeaseKey:
        return LeaseKey(*key_of(job.model), self._sharing.region)

    def _granted(self, job: Job, lease: Granted, until: float) -> None:
        self._held[job.outcome_id] = lease
        self._alone.granted(lease.key, lease.taken_from)
        if lease.taken_from is not None:
            logger.warning("%s is taken over from %s, whose lease ran out", _name(lease.key), lease.taken_from)
        self._start(job, until)

    def _start(self, job: Job, until: float) -> None:
        model = job.model
        self._inbox.send_nowait(
            LeaseGranted(outcome_id=job.outcome_id, provider=model.provider, model_id=model.model_id, until=until)
        )

    def _refused(self, job: Job, answer: Withheld | Unanswered) -> None:
        if isinstance(answer, Unanswered):
            self._unanswered(job, answer)
        else:
            self._withheld(job, answer)

    def _withheld(self, job: Job, answer: Withheld) -> None:
        if answer.runner != self._leases.runner:
            self._alone.withheld(answer.key)
        own = answer.runner == self._leases.runner
        reason = _REASONS[answer.reason].format("this runner" if own else answer.runner)
        logger.info("%s is left alone for %d s: %s", _name(answer.key), math.ceil(answer.seconds), reason)
        measured = None
        if answer.reason == "fresh":
            measured = self._clock.now() + timedelta(seconds=answer.seconds) - self._sharing.fresh
        self._defer(job, reason, answer.seconds + _MARGIN_SECONDS, measured)

    def _unanswered(self, job: Job, answer: Unanswered) -> None:
        """Leave a model alone whose lease is damaged, or it would hold up all others."""
        logger.error(
            "%s can't be claimed, and is left alone for %.0f s: %s", _name(answer.key), _DAMAGED_SECONDS, answer.error
        )
        self._defer(job, answer.error, _DAMAGED_SECONDS)

    def _defer(self, job: Job, reason: str, seconds: float | None = None, measured: datetime | None = None) -> None:
        model = job.model
        message = Deferred(
            outcome_id=job.outcome_id,
            provider=model.provider,
            model_id=model.model_id,
            reason=reason,
            seconds=seconds,
            measured=measured,
        )
        self._inbox.send_nowait(message)

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(self._sharing.term / 3)
            held = dict(self._held)
            if not held:
                self._works(_RENEWALS)
                continue
            try:
                lost = await self._leases.renew(list(held.values()))
            except StoreError as error:
                self._report(_RENEWALS, error)
            else:
                self._works(_RENEWALS)
                self._lose(lost)

    def _lose(self, lost: Sequence[Granted]) -> None:
        tokens = {(lease.key, lease.token) for lease in lost}
        for outcome_id, lease in list(self._held.items()):
            if (lease.key, lease.token) in tokens:
                del self._held[outcome_id]
                logger.warning("%s: its lease was lost to another runner; what runs is finished", _name(lease.key))

    # a store that does not answer

    async def _failed(self, error: StoreError) -> None:
        self._report(_CLAIMS, error)
        lasted = monotonic() - self._failing[_CLAIMS]
        if self._patience is not None and lasted > self._patience:
            self._give_up(f"no leases could be claimed for {self._patience:g} s: {error}")
        if self._patience is None and lasted > self._sharing.term:
            self._be_alone()
        longest = min(_RETRY_LONGEST, max(_RETRY_FIRST, lasted))
        await anyio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret

    def _be_alone(self) -> None:
        if not self._is_alone:
            self._is_alone = True
            logger.warning("going on without leases, with the models that were this runner's last")
            self._go_on_alone()

    def _go_on_alone(self) -> None:
        for outcome_id, job in list(self._wanted.items()):
            key = self._key(job)
            if self._alone.owns(key):
                del self._wanted[outcome_id]
                self._alone.begin(outcome_id, key)
                self._start(job, monotonic() + self._sharing.term)

    def _give_up(self, reason: str) -> None:
        """Hand every job back, and say that its lane will start nothing more."""
        jobs = list(self._wanted.values())
        self._wanted.clear()
        for provider in {job.model.provider for job in jobs}:
            self._inbox.send_nowait(LaneBlocked(provider=provider, reason=reason, seconds=0.0, lasting=True))
        for job in jobs:
            self._defer(job, reason)

    def _report(self, what: str, error: StoreError) -> None:
        known = bool(self._failing)
        self._failing.setdefault(what, monotonic())
        if not known:
            logger.error("nothing new is claimed, what is held counts until it expires: %s", error)
            self._bus.publish(LaneState(lane=NAME, status="blocked", at=self._clock.now(), reason=str(error)))

    def _works(self, what: str) -> None:
        self._is_alone = self._is_alone and what != _CLAIMS
        if self._failing.pop(what, None) is not None and not self._failing:
            logger.info("leases can be claimed again")
            self._bus.publish(LaneState(lane=NAME, status="ok", at=self._clock.now()))


def _name(key: LeaseKey) -> str:
    return f"{key.provider}/{key.model_id}"

"""What is to be run: a plan answers "which job next?" for a lane that asks.

`Rotation` is the daemon's: for ever, by freshness. `Batch` is a fixed list: one round of what is due (``--once``),
a demonstration, or a bench. Plans hold the scheduler's state, so that a scheduler that crashed finds it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from llmbench.actors.due import ModelClock, due_at, stalest_first
from llmbench.ids import new_outcome_id
from llmbench.messages import (
    Acknowledged,
    Deferred,
    Hold,
    Job,
    LaneBlocked,
    Model,
    NotStored,
    Profile,
    Role,
    SchedulerMessage,
)
from llmbench.naming import Key, fold, key_of


class Plan(Protocol):
    """Asked and told by the scheduler alone."""

    def next_job(self, provider: str, now: datetime) -> Job | None:
        """Return the next job of this lane that is due, and count it as in flight; None if there is none now."""
        ...

    def apply(self, message: SchedulerMessage) -> None:
        """Take note of what became of a job or a lane."""
        ...

    def next_due(self, now: datetime) -> datetime | None:
        """Return when a job that is not due now will be; None if only a message can change that."""
        ...

    @property
    def finished(self) -> bool:
        """Nothing is in flight and nothing will ever be due again."""
        ...


class InFlight:
    """The models that are being measured now: none is ever there twice."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def keys(self) -> set[Key]:
        return {key_of(job.model) for job in self._jobs.values()}

    def add(self, job: Job) -> None:
        self._jobs[job.outcome_id] = job

    def remove(self, outcome_id: str) -> Job | None:
        return self._jobs.pop(outcome_id, None)


class Rotation:
    """Every enabled model, each time its last acknowledged success has grown older than ``fresh``."""

    def __init__(
        self, models: Iterable[tuple[Model, Profile]], clocks: Mapping[Key, ModelClock], fresh: timedelta
    ) -> None:
        self._models: dict[Key, tuple[Model, Profile]] = {}
        self._clocks = dict(clocks)
        self._fresh = fresh
        self._in_flight = InFlight()
        self._handed_out: dict[str, datetime] = {}
        self._elsewhere: dict[Key, datetime] = {}
        self.replace_models(models)

    finished = False

    def replace_models(self, models: Iterable[tuple[Model, Profile]]) -> None:
        """Take over the catalogue as it is now; what is in flight goes on."""
        self._models = {key_of(model): (model, profile) for model, profile in models}

    def next_job(self, provider: str, now: datetime) -> Job | None:
        waiting = (key for key in self._models if key[0] == fold(provider))
        busy = self._in_flight.keys()
        due = [key for key in waiting if key not in busy and self._due_at(key, now) <= now]
        if not due:
            return None
        key = stalest_first(due, self._clocks)[0]
        model, profile = self._models[key]
        job = Job(outcome_id=new_outcome_id(), model=model, profile=profile)
        self._in_flight.add(job)
        self._elsewhere.pop(key, None)
        self._handed_out[job.outcome_id] = now
        return job

    def _due_at(self, key: Key, now: datetime) -> datetime:
        at = due_at(key, self._clocks.get(key, ModelClock()).as_of(now), self._fresh)
        return max(at, self._elsewhere.get(key, at))

    def apply(self, message: SchedulerMessage) -> None:
        if not isinstance(message, Acknowledged | NotStored | Deferred):
            return
        job = self._in_flight.remove(message.outcome_id)
        if job is None:
            return
        at, key = self._handed_out.pop(message.outcome_id), key_of(job.model)
        clock = self._clocks.get(key, ModelClock())
        if isinstance(message, Acknowledged):
            self._clocks[key] = clock.after(message)
        elif isinstance(message, NotStored):
            self._clocks[key] = clock.after_refusal(at)
        elif message.seconds is not None:
            self._elsewhere[key] = at + timedelta(seconds=message.seconds)
            if message.measured is not None:
                self._clocks[key] = ModelClock(last_success=message.measured)

    def next_due(self, now: datetime) -> datetime | None:
        busy = self._in_flight.keys()
        return min(
            (at for key in self._models if key not in busy and (at := self._due_at(key, now)) > now), default=None
        )

    def due_count(self, now: datetime) -> int:
        """How many models are due now, in flight or not."""
        return sum(self._due_at(key, now) <= now for key in self._models)


class Batch:
    """A fixed list of runs, each made once. What a lane that is closed for long has not started is given up.

    ``overlap`` lets several runs of one model go on at a time, which only a bench asks for. With a ``limit``, only
    so many are made, the first; for each of them that is left to another runner, the next one after them.
    """

    _PATIENCE_SECONDS = 120.0

    def __init__(
        self, runs: Iterable[tuple[Model, Profile]], role: Role, *, overlap: bool = False, limit: int | None = None
    ) -> None:
        self._waiting: dict[str, deque[Job]] = {}
        self._overlap = overlap
        self._in_flight = InFlight()
        self.total = 0
        self.done = 0
        self.elsewhere = 0
        """How many runs were left to other runners."""
        self.given_up: dict[str, tuple[int, str]] = {}
        """How many runs were not made, by provider, with the reason."""
        self._closed: dict[str, str] = {}
        self._reserve: deque[Job] = deque()
        for model, profile in runs:
            self._reserve.append(Job(outcome_id=new_outcome_id(), model=model, profile=profile, role=role))
        while self._reserve and (limit is None or self.total < limit):
            self._admit()
            self.total += 1

    @property
    def finished(self) -> bool:
        return not self._in_flight and not any(self._waiting.values())

    def next_job(self, provider: str, now: datetime) -> Job | None:
        waiting = self._waiting.get(provider)
        if not waiting:
            return None
        busy = frozenset() if self._overlap else self._in_flight.keys()
        job = next((job for job in waiting if key_of(job.model) not in busy), None)
        if job is not None:
            waiting.remove(job)
            self._in_flight.add(job)
        return job

    def apply(self, message: SchedulerMessage) -> None:
        match message:
            case Acknowledged() | NotStored():
                self.done += self._in_flight.remove(message.outcome_id) is not None
            case Deferred() if message.seconds is not None:
                if self._in_flight.remove(message.outcome_id) is not None:
                    self.elsewhere += 1
                    self._admit()
            case Deferred():
                job = self._in_flight.remove(message.outcome_id)
                if job is not None:
                    self._waiting.setdefault(message.provider, deque()).appendleft(job)
                    self._give_up_if_closed(message.provider)
            case LaneBlocked() if message.lasting or message.seconds > self._PATIENCE_SECONDS:
                self.close_lane(message.provider, message.reason)
            case Hold() if message.reason is not None:  # a round that ends by itself does not wait for room
                for provider in tuple(self._waiting):
                    self.close_lane(provider, message.reason)
            case _:
                pass

    def _admit(self) -> None:
        if self._reserve:
            job = self._reserve.popleft()
            self._waiting.setdefault(job.model.provider, deque()).append(job)
            self._give_up_if_closed(job.model.provider)

    def close_lane(self, provider: str, reason: str) -> None:
        """Give up what this lane has not started yet."""
        self._closed.setdefault(provider, reason)
        self._give_up_if_closed(provider)

    def _give_up_if_closed(self, provider: str) -> None:
        if provider in self._closed and (count := len(self._waiting.pop(provider, ()))):
            self.given_up[provider] = (self.given_up.get(provider, (0, ""))[0] + count, self._closed[provider])

    def next_due(self, now: datetime) -> datetime | None:
        return None

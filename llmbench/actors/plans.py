"""What is to be run: a plan answers "which job next?" for a lane that asks.

`Rotation` is the daemon's: for ever, by freshness. `Batch` is a fixed list: one round of what is due (``--once``),
a demonstration, or a bench. Plans hold the scheduler's state, so that a scheduler that crashed finds it again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal, Protocol

import msgspec

from llmbench.actors.due import DueTimes, ModelClock, stalest_first
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

Standing = Literal["in_flight", "waiting"]


class Load(msgspec.Struct, frozen=True):
    """What a lane has to do: its ``models``, how many of them are ``due`` and not in flight, and when the next one is.

    ``next_due`` is None if one is due, or none ever will be.
    """

    models: int
    due: int
    next_due: datetime | None = None


class Plan(Protocol):
    """Asked and told by the scheduler, and in between its steps by whoever carries out a person's orders."""

    def next_job(self, provider: str, now: datetime) -> Job | None:
        """Return the next job of this lane that is due, and count it as in flight; None if there is none now."""
        ...

    def apply(self, message: SchedulerMessage) -> None:
        """Take note of what became of a job or a lane."""
        ...

    def next_due(self, now: datetime) -> datetime | None:
        """Return when a job that is not due now will be; None if only a message can change that."""
        ...

    def load(self, provider: str, now: datetime) -> Load:
        """Return what a lane has to do; asked once a second for each, so it has to be quick with a thousand models."""
        ...

    @property
    def finished(self) -> bool:
        """Nothing is in flight and nothing will ever be due again."""
        ...


class InFlight:
    """The models that are being measured now: none is ever there twice."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._keys: Counter[Key] = Counter()

    def __len__(self) -> int:
        return len(self._jobs)

    def keys(self) -> Collection[Key]:
        return self._keys.keys()

    def add(self, job: Job) -> None:
        self._jobs[job.outcome_id] = job
        self._keys[key_of(job.model)] += 1

    def remove(self, outcome_id: str) -> Job | None:
        job = self._jobs.pop(outcome_id, None)
        if job is not None:
            key = key_of(job.model)
            self._keys[key] -= 1
            if not self._keys[key]:
                del self._keys[key]
        return job


class Rotation:
    """Every enabled model, each time its last acknowledged success has grown older than ``fresh``, or a person asks."""

    def __init__(
        self, models: Iterable[tuple[Model, Profile]], clocks: Mapping[Key, ModelClock], fresh: timedelta
    ) -> None:
        self._models: dict[Key, tuple[Model, Profile]] = {}
        self._of_lane: dict[str, list[Key]] = {}
        self._times = DueTimes(clocks, fresh)
        self._in_flight = InFlight()
        self._handed_out: dict[str, datetime] = {}
        self.replace_models(models)

    finished = False

    def replace_models(self, models: Iterable[tuple[Model, Profile]]) -> None:
        """Take over the catalogue as it is now; what is in flight goes on."""
        self._models = {key_of(model): (model, profile) for model, profile in models}
        self._of_lane = {}
        for key in self._models:
            self._of_lane.setdefault(key[0], []).append(key)
        self._times.unask(self._times.asked - self._models.keys())

    def next_job(self, provider: str, now: datetime) -> Job | None:
        idle = self._idle(provider)
        due = [key for key, at in zip(idle, self._times.of(idle, now), strict=True) if at <= now]
        if not due:
            return None
        asked = self._times.asked
        key = stalest_first(asked.intersection(due) or due, self._times.clocks)[0]
        model, profile = self._models[key]
        job = Job(outcome_id=new_outcome_id(), model=model, profile=profile, asked=key in asked)
        self._in_flight.add(job)
        self._times.leave(key, None)
        self._handed_out[job.outcome_id] = now
        return job

    def _idle(self, provider: str) -> list[Key]:
        """Return a lane's models that are not in flight."""
        busy = self._in_flight.keys()
        return [key for key in self._of_lane.get(fold(provider), ()) if key not in busy]

    def apply(self, message: SchedulerMessage) -> None:
        if isinstance(message, Acknowledged | NotStored | Deferred):
            self._settle(message)

    def ask_for(self, provider: str, model_id: str | None = None) -> int:
        """Have a model, or all of a lane, be due now, however fresh; return how many that concerns.

        What is in flight is being measured: that is enough.
        """
        name = fold(model_id) if model_id is not None else None
        keys = [key for key in self._idle(provider) if name in (None, key[1])]
        self._times.ask(keys)
        return len(keys)

    def _settle(self, message: Acknowledged | NotStored | Deferred) -> None:
        job = self._in_flight.remove(message.outcome_id)
        if job is None:
            return
        at, key = self._handed_out.pop(message.outcome_id), key_of(job.model)
        if isinstance(message, Deferred) and message.seconds is None:
            return
        self._times.unask([key])
        if isinstance(message, Acknowledged):
            self._times[key] = self._times[key].after(message)
        elif isinstance(message, NotStored):
            self._times[key] = self._times[key].after_refusal(at)
        else:
            self._leave(key, message, at)

    def _leave(self, key: Key, left: Deferred, at: datetime) -> None:
        self._times.leave(key, at + timedelta(seconds=left.seconds or 0.0))
        if left.measured is not None:
            self._times[key] = ModelClock(last_success=left.measured)

    def next_due(self, now: datetime) -> datetime | None:
        times = (at for lane in self._of_lane for at in self._times.of(self._idle(lane), now))
        return min((at for at in times if at > now), default=None)

    def due_count(self, now: datetime) -> int:
        """How many models are due now, in flight or not."""
        return sum(at <= now for at in self._times.of(self._models, now))

    def load(self, provider: str, now: datetime) -> Load:
        times = self._times.of(self._idle(provider), now)
        due = sum(at <= now for at in times)
        next_due = None if due else min(times, default=None)
        return Load(len(self._of_lane.get(fold(provider), ())), due, next_due)

    def measures(self, key: Key) -> bool:
        """Say whether a model is one of the plan's."""
        return key in self._models

    def standing(self, key: Key) -> Standing | None:
        """Say whether a model is being measured or waits for that; None if it is not one of the plan's."""
        if key in self._in_flight.keys():  # noqa: SIM118  it is no dictionary
            return "in_flight"
        return "waiting" if key in self._models else None


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
        self._models: dict[str, set[Key]] = {}
        for model, profile in runs:
            self._models.setdefault(model.provider, set()).add(key_of(model))
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

    def load(self, provider: str, now: datetime) -> Load:
        """Each run that waits is due. Of what is held in reserve nothing is told."""
        return Load(len(self._models.get(provider, ())), len(self._waiting.get(provider, ())))

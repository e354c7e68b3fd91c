"""When is a model due? The policy itself: pure, no clock, no store.

A model is due when its last acknowledged success is older than the freshness, and a failure's backoff has passed. The
population is never cut and no model is ever given up: every state has a time at which it is tried again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from llmbench.errors import severity
from llmbench.messages import Acknowledged
from llmbench.naming import Key
from llmbench.stores.base import ModelHistory
from llmbench.stores.counted import CLOCKS

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_TRANSIENT_FIRST = timedelta(minutes=5)
_HARD = timedelta(days=1)
_JITTER = 0.1
_LONGEST_ASKED_SECONDS = 900.0


class ModelClock(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one model's past; times are aware UTC."""

    last_success: datetime | None = None
    failures_in_a_row: int = 0
    last_failure: datetime | None = None
    last_failure_kind: str | None = None
    retry_after: float | None = None

    @classmethod
    def from_history(cls, history: ModelHistory) -> ModelClock:
        return cls(
            last_success=history.last_success,
            failures_in_a_row=history.failures_in_a_row,
            last_failure=history.last_failure,
            last_failure_kind=history.last_failure_kind,
            retry_after=history.last_failure_retry_after,
        )

    @property
    def newest(self) -> datetime:
        """When something last happened; the beginning of time if nothing did."""
        return max(self.last_success or LONG_AGO, self.last_failure or LONG_AGO)

    def after(self, result: Acknowledged) -> ModelClock:
        """Return the clock as it is once ``result`` has been acknowledged."""
        if result.ok:
            return ModelClock(last_success=result.at)
        ours = severity(result.error_kind or "unknown") == "ours"
        return msgspec.structs.replace(
            self,
            failures_in_a_row=self.failures_in_a_row + (0 if ours else 1),
            last_failure=result.at,
            last_failure_kind=result.error_kind,
            retry_after=result.retry_after,
        )

    def as_of(self, now: datetime) -> ModelClock:
        """Return the clock without what is said to be in the future: a wall clock was wrong, or was set back."""
        end = now + CLOCKS
        if self.last_failure is not None and self.last_failure > end:
            return msgspec.structs.replace(self, last_failure=None).as_of(now)
        if self.last_success is not None and self.last_success > end:
            return msgspec.structs.replace(self, last_success=None)
        return self

    def after_refusal(self, at: datetime) -> ModelClock:
        """Return the clock after a run at ``at`` that the store refused: not fresh, yet not due at once."""
        return msgspec.structs.replace(self, last_failure=at, last_failure_kind="internal", retry_after=None)


def later_of(one: ModelClock | None, other: ModelClock | None) -> ModelClock:
    """Return what two accounts of a model's past come to: the one that reaches further, with the later success."""
    if one is None or other is None:
        return one or other or ModelClock()
    last = one if one.newest >= other.newest else other
    successes = [clock.last_success for clock in (one, other) if clock.last_success is not None]
    return msgspec.structs.replace(last, last_success=max(successes, default=None))


def due_at(key: Key, clock: ModelClock, fresh: timedelta) -> datetime:
    """Return when the model is due; a time in the past means now."""
    fresh_until = clock.last_success + fresh if clock.last_success is not None else LONG_AGO
    if clock.last_failure is None:
        return fresh_until
    return max(fresh_until, clock.last_failure + backoff(key, clock, fresh))


class DueTimes:
    """When each model is due. It is worked out once for each change: the dashboard asks for all of them, each second.

    ``clocks`` are what is known at the start.
    """

    def __init__(self, clocks: Mapping[Key, ModelClock], fresh: timedelta) -> None:
        self.clocks = dict(clocks)
        self.asked: frozenset[Key] = frozenset()
        """What a person wants now, however fresh it is."""
        self._fresh = fresh
        self._elsewhere: dict[Key, datetime] = {}
        self._known: dict[Key, tuple[datetime, datetime]] = {}

    def __getitem__(self, key: Key) -> ModelClock:
        return self.clocks.get(key) or ModelClock()

    def __setitem__(self, key: Key, clock: ModelClock) -> None:
        self.clocks[key] = clock
        self._known.pop(key, None)

    def ask(self, keys: Iterable[Key]) -> None:
        """Have these be due until they are measured."""
        self._set_asked(self.asked.union(keys))

    def unask(self, keys: Iterable[Key]) -> None:
        self._set_asked(self.asked.difference(keys))

    def _set_asked(self, keys: frozenset[Key]) -> None:
        for key in keys ^ self.asked:
            self._known.pop(key, None)
        self.asked = keys

    def leave(self, key: Key, until: datetime | None) -> None:
        """Have a model be due no sooner than then; None: whenever it is by itself."""
        if until is not None:
            self._elsewhere[key] = until
        elif self._elsewhere.pop(key, None) is None:
            return
        self._known.pop(key, None)

    def of(self, keys: Iterable[Key], now: datetime) -> list[datetime]:
        """Return when models are due, in their order. What a past tells of the future does not count."""
        known, end = self._known, now + CLOCKS
        times = []
        for key in keys:
            one = known.get(key) or self._worked_out(key)
            times.append(one[1] if one[0] <= end else self._due_at(key, self[key].as_of(now)))
        return times

    def _worked_out(self, key: Key) -> tuple[datetime, datetime]:
        """Return when something last happened to a model, and when it is due if that was not in the future."""
        clock = self[key]
        self._known[key] = known = clock.newest, self._due_at(key, clock)
        return known

    def _due_at(self, key: Key, clock: ModelClock) -> datetime:
        if key in self.asked:
            return LONG_AGO
        at = due_at(key, clock, self._fresh)
        return max(at, self._elsewhere.get(key, at))


def backoff(key: Key, clock: ModelClock, fresh: timedelta) -> timedelta:
    """How long to leave a model alone after its last failure.

    Transient trouble: 5 minutes, doubling with each failure in a row, up to the freshness. What a person must mend:
    a day. A refused key or bill concerns the lane, whose breaker decides, so the model waits as for transient trouble.
    A provider that asked for more time gets it, up to a quarter of an hour.
    Spread by up to a tenth, always the same for one model and count, so that models do not return in step.
    """
    if severity(clock.last_failure_kind or "unknown") == "hard":
        wait = _HARD
    else:
        doublings = min(max(clock.failures_in_a_row - 1, 0), 16)
        wait = min(_TRANSIENT_FIRST * 2**doublings, max(fresh, _TRANSIENT_FIRST))
    wait = max(wait, timedelta(seconds=min(clock.retry_after or 0, _LONGEST_ASKED_SECONDS)))
    return wait * (1 + _JITTER * _fraction(key, clock.failures_in_a_row))


def _fraction(key: Key, count: int) -> float:
    return zlib.crc32(f"{key[0]}\n{key[1]}\n{count}".encode()) / 0xFFFFFFFF


def stalest_first(keys: Iterable[Key], clocks: dict[Key, ModelClock]) -> list[Key]:
    """Order by the age of the last success, never first; among equals by the last attempt, so that none starves."""

    def age(key: Key) -> tuple[datetime, datetime, Key]:
        clock = clocks.get(key, ModelClock())
        return clock.last_success or LONG_AGO, clock.last_failure or LONG_AGO, key

    return sorted(keys, key=age)

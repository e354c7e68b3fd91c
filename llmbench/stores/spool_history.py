"""What the spool remembers of each model's past, so that an engine knows what is fresh while the store is away.

A row for each model, kept up with every outcome that is recorded; it outlives the outcomes, which are deleted once they
are delivered. Its rules are those of `llmbench.stores.base.ModelHistory`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime

import msgspec

from llmbench.messages import Failure, Outcome
from llmbench.naming import folded
from llmbench.stores.base import ModelHistory
from llmbench.stores.counted import CLOCKS, FIRST

_ROLES = ("scheduled", "demo")
_OURS = ("local", "internal")
_MOST_FAILURES = 32
"""So many in a row are told apart; backoffs have reached their longest long before."""


class _Failed(msgspec.Struct, frozen=True, array_like=True):
    at: datetime
    kind: str
    retry_after: float | None


class Past(msgspec.Struct, frozen=True):
    """A model's newest success, and what failed since, in the order of time. Spelled as in the newest of them."""

    provider: str
    model_name: str
    spelled_at: datetime
    success: datetime | None = None
    failures: list[_Failed] = []

    def with_outcome(self, outcome: Outcome) -> Past:
        """Return what is known with one more outcome, which need not be the newest."""
        past = self
        if outcome.run_ts >= past.spelled_at:
            past = msgspec.structs.replace(
                past, provider=outcome.provider, model_name=outcome.model_name, spelled_at=outcome.run_ts
            )
        success, failures = past.success, past.failures
        if isinstance(outcome, Failure):
            failures = [*failures, _Failed(outcome.run_ts, outcome.error_kind, outcome.retry_after)]
        else:
            success = outcome.run_ts if success is None else max(success, outcome.run_ts)
        since = sorted((one for one in failures if success is None or one.at > success), key=lambda one: one.at)
        return msgspec.structs.replace(past, success=success, failures=since[-_MOST_FAILURES:])

    def until(self, end: datetime) -> Past | None:
        """Return it without what is said to be after then, since a clock was wrong; None if nothing is left."""
        success = self.success if self.success is not None and self.success < end else None
        failures = [one for one in self.failures if one.at < end]
        if success is None and not failures:
            return None
        return msgspec.structs.replace(self, success=success, failures=failures, spelled_at=min(self.spelled_at, end))

    def told(self) -> ModelHistory:
        """Return it as every store tells it."""
        newest = self.failures[-1] if self.failures else None
        return ModelHistory(
            provider=self.provider,
            model_id=self.model_name,
            last_success=self.success,
            failures_in_a_row=sum(one.kind not in _OURS for one in self.failures),
            last_failure=None if newest is None else newest.at,
            last_failure_kind=None if newest is None else newest.kind,
            last_failure_retry_after=None if newest is None else newest.retry_after,
        )


_decoder = msgspec.json.Decoder(Past)


def note(connection: sqlite3.Connection, outcome: Outcome, now: datetime) -> None:
    """Remember an outcome, if it counts."""
    end = now + CLOCKS
    named = outcome.provider and outcome.model_name
    if not named or outcome.sample_role not in _ROLES or not FIRST <= outcome.run_ts < end:
        return
    key = folded(outcome.provider, outcome.model_name)
    row = connection.execute("SELECT past FROM history WHERE provider = ? AND model_id = ?", key).fetchone()
    known = None if row is None else decoded(row[0])
    past = None if known is None else known.until(end)
    if past is None:
        past = Past(outcome.provider, outcome.model_name, outcome.run_ts)
    _keep(connection, past.with_outcome(outcome))


def histories(connection: sqlite3.Connection, now: datetime) -> list[ModelHistory]:
    """Return what is remembered of every model."""
    end = now + CLOCKS
    known = (decoded(text) for (text,) in connection.execute("SELECT past FROM history ORDER BY provider, model_id"))
    pasts = (past.until(end) for past in known if past is not None)
    return [past.told() for past in pasts if past is not None]


def put_back(connection: sqlite3.Connection, texts: Iterable[object]) -> int:
    """Keep what can be read of rows that were found elsewhere; return how many."""
    pasts = [past for past in map(decoded, texts) if past is not None]
    for past in pasts:
        _keep(connection, past)
    return len(pasts)


def decoded(text: object) -> Past | None:
    """Return a row's content, None if it is not what was written: a model of unknown past is measured, no more."""
    try:
        return _decoder.decode(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _keep(connection: sqlite3.Connection, past: Past) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO history (provider, model_id, past) VALUES (?, ?, ?)",
        (*folded(past.provider, past.model_name), msgspec.json.encode(past).decode()),
    )

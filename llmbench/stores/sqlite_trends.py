"""How figures went over time, in the embedded store: read from the index of each model, never from rows."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

from llmbench.stores.sqlite_outcomes import NOT_KNOWN, measured_models, microseconds, window
from llmbench.stores.sqlite_schema import transaction
from llmbench.stores.trends import Collected, Trend, TrendQuery

_OF_MODEL = "WHERE model_name = :model AND provider = :provider AND run_ts >= :since AND run_ts < :end"
_PART = "(run_ts - :origin) / :width"

# The texts hold the names above, no input.
_FIGURES = f"SELECT {_PART}, tokens_per_second, time_to_first_token FROM samples {_OF_MODEL}"  # noqa: S608
_FAILURES = f"SELECT {_PART}, count(*) FROM failures {_OF_MODEL} GROUP BY 1"  # noqa: S608


def trends(connection: sqlite3.Connection, query: TrendQuery) -> list[Trend]:
    """Collect the runs since then; see `llmbench.stores.base.Store.trends`."""
    collected = Collected(query)
    with transaction(connection, "DEFERRED"):  # one state of the file for all the look-ups
        for model, provider in measured_models(connection):
            if collected.wanted(provider, model):
                _collect(connection, query, collected, provider, model)
    return collected.trends()


def _collect(
    connection: sqlite3.Connection, query: TrendQuery, collected: Collected, provider: str, model: str
) -> None:
    values: dict[str, Any] = {"model": model, "provider": provider, **window(query.since)}
    values |= {"origin": microseconds(query.since), "width": query.width // timedelta(microseconds=1)}
    parts = collected.parts(provider, model)
    for number, speed, first in connection.execute(_FIGURES, values):
        bucket = parts[number]
        bucket.successes += 1
        if speed != NOT_KNOWN:
            bucket.speeds.append(speed)
        if first is not None:
            bucket.first_tokens.append(first)
    for number, failures in connection.execute(_FAILURES, values):
        parts[number].failures += failures

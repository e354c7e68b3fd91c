"""What is asked of many outcomes in the embedded store. Counts and figures come from indexes alone, never from rows.

A window of all models is read model by model: the indexes begin with the model, and hold the figures behind the time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from llmbench.messages import Failure
from llmbench.naming import fold
from llmbench.stores.base import ErrorGroup, ErrorQuery, ModelSummary, ModelTally, StoreError
from llmbench.stores.figures import GROUPED_BY, Last, Runs, in_order, summaries_of, tallies_of
from llmbench.stores.sqlite_outcomes import COUNTED, NAMED, NOT_KNOWN, measured_models, time_of, window
from llmbench.stores.sqlite_schema import transaction

_OF_MODEL = "WHERE model_name = :model AND provider = :provider AND run_ts >= :since AND run_ts < :end"

# The texts hold the names above and below, no input.
_COUNT_SUCCESSES = f"SELECT count(*) FROM samples {_OF_MODEL}"  # noqa: S608
_COUNT_FAILURES = f"SELECT count(*) FROM failures {_OF_MODEL}"  # noqa: S608
_LAST_SUCCESS = f"SELECT run_ts, provider, model_name FROM samples {_OF_MODEL} ORDER BY run_ts DESC LIMIT 1"  # noqa: S608
_LAST_FAILURE = f"SELECT run_ts, provider, model_name FROM failures {_OF_MODEL} ORDER BY run_ts DESC LIMIT 1"  # noqa: S608
_FIGURES = f"SELECT tokens_per_second, time_to_first_token FROM samples {_OF_MODEL}"  # noqa: S608

_decode = msgspec.json.Decoder(Failure).decode


def tallies(connection: sqlite3.Connection, since: datetime | None) -> list[ModelTally]:
    """Count the runs since then; see `llmbench.stores.base.Store.tallies`."""
    with transaction(connection, "DEFERRED"):  # one state of the file for all the look-ups
        found = [_tallied(connection, values) for values in _models(connection, window(since))]
    return tallies_of(runs for runs in found if runs.success or runs.failure)


def _tallied(connection: sqlite3.Connection, values: dict[str, Any]) -> Runs:
    runs = _counted(connection, values)
    if runs.success is None:
        runs.succeeded(_last(connection, _LAST_SUCCESS, {**values, **window(None)}))
    return runs


def summary(
    connection: sqlite3.Connection,
    since: datetime | None,
    until: datetime | None,
    provider: str | None,
    model: str | None,
) -> list[ModelSummary]:
    """Sum up the runs of a window; see `llmbench.stores.base.Store.summary`."""
    with transaction(connection, "DEFERRED"):
        # One after the other, or the figures of all models would be in memory at once.
        found = (
            _summed_up(connection, values)
            for values in _models(connection, window(since, until))
            if _is(values["provider"], provider) and _is(values["model"], model)
        )
        return summaries_of(runs for runs in found if runs.successes or runs.failures)


def _is(name: str, wanted: str | None) -> bool:
    return wanted is None or fold(name) == fold(wanted)


def _summed_up(connection: sqlite3.Connection, values: dict[str, Any]) -> Runs:
    runs = _counted(connection, values)
    figures = connection.execute(_FIGURES, values).fetchall()
    runs.speeds = [speed for speed, _first in figures if speed != NOT_KNOWN]
    runs.first_tokens = [first for _speed, first in figures if first is not None]
    return runs


def _models(connection: sqlite3.Connection, counted: dict[str, int]) -> Iterator[dict[str, Any]]:
    for model, provider in measured_models(connection):
        yield {"model": model, "provider": provider, **counted}


def _counted(connection: sqlite3.Connection, values: dict[str, Any]) -> Runs:
    (successes,) = connection.execute(_COUNT_SUCCESSES, values).fetchone()
    (failures,) = connection.execute(_COUNT_FAILURES, values).fetchone()
    runs = Runs()
    runs.succeeded(_last(connection, _LAST_SUCCESS, values), successes)
    runs.failed(_last(connection, _LAST_FAILURE, values), failures)
    return runs


def _last(connection: sqlite3.Connection, sql: str, values: dict[str, Any]) -> Last | None:
    found = connection.execute(sql, values).fetchone()
    return None if found is None else Last(time_of(found[0]), found[1], found[2])


# errors


def error_groups(connection: sqlite3.Connection, query: ErrorQuery) -> list[ErrorGroup]:
    """Count failures by what they have in common; see `llmbench.stores.base.Store.error_groups`."""
    values: dict[str, Any] = {**window(query.since), "provider": query.provider}
    with transaction(connection, "DEFERRED"):
        found = connection.execute(groups_sql(query), values).fetchall()
        return in_order(_group(connection, query, values, *row) for row in found)


def _group(
    connection: sqlite3.Connection, query: ErrorQuery, values: dict[str, Any], count: int, last: int, *keys: str
) -> ErrorGroup:
    known = {**values, "last": last, **dict(zip(GROUPED_BY[query.by], keys, strict=True))}
    return ErrorGroup(count=count, newest=_failure(*connection.execute(newest_sql(query), known).fetchone()))


def groups_sql(query: ErrorQuery) -> str:
    """Return the statement that counts. Left to itself, SQLite may walk over all of another index."""
    where = COUNTED + ("" if query.provider is None else " AND provider = :provider")
    keys = ", ".join(GROUPED_BY[query.by])
    selected = f"SELECT count(*), max(run_ts), {keys} FROM failures INDEXED BY failures_by_window"  # noqa: S608 - from above
    return f"{selected} WHERE {where} GROUP BY {keys}"


def newest_sql(query: ErrorQuery) -> str:
    """Return the statement that finds a group's newest failure, whose time is known."""
    keys = {*GROUPED_BY[query.by], *(() if query.provider is None else ("provider",))}
    where = " AND ".join(["run_ts = :last", NAMED, *(f"{key} = :{key}" for key in sorted(keys))])
    return f"SELECT id, document FROM failures INDEXED BY failures_by_window WHERE {where} ORDER BY id DESC LIMIT 1"  # noqa: S608 - from above


def _failure(outcome_id: str, document: str) -> Failure:
    try:
        return _decode(document)
    except msgspec.DecodeError as error:
        raise StoreError(f"{outcome_id!r} in table 'failures' can't be read ({error}); was it edited?") from error

"""Outcomes in the embedded store: the statements that write and read them, on a connection that the caller owns."""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from llmbench.messages import Envelope, Failure, Outcome, Sample
from llmbench.stores.base import ErrorRollup, ModelHistory, OutcomeQuery, StoreError, Verdict
from llmbench.stores.canonical import UnstorableError, canonical_json, in_milliseconds
from llmbench.stores.counted import begin, end
from llmbench.stores.sqlite_schema import transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SAMPLE_MESSAGES = 3

_FIND = """
SELECT digest, 'samples' FROM samples WHERE id = :id UNION ALL SELECT digest, 'failures' FROM failures WHERE id = :id
"""


def _insert_into(table: str, *columns: str) -> str:
    values = ", ".join(f":{column}" for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - the names below, no input


_SHARED = (
    *("id", "run_ts", "provider", "model_name", "publish", "sample_role", "benchmark_profile_id", "runner_id"),
    *("digest", "document"),
)
NOT_KNOWN = math.inf
"""What is in a column of `_FIGURES`, which can't be null, where the document has null: no figure is infinite."""

_FIGURES = ("output_tokens", "tokens_per_second")

_INSERT = {
    Sample: _insert_into(
        "samples",
        *_SHARED,
        *("outcome", "clock", "resolution", "output_tokens", "generate_time", "tokens_per_second"),
        *("decode_tokens_per_second", "time_to_first_token", "inter_token_p95", "cost_usd"),
    ),
    Failure: _insert_into("failures", *_SHARED, "stage", "error_kind", "fingerprint", "http_status", "retry_after"),
}

# Names its own columns only, so that a verdict kept in others outlives the counting. Failures may come late and out
# of order, hence min and max.
_COUNT = """
INSERT INTO error_rollups (
    fingerprint, provider, model_name, stage, error_kind, first_seen, last_seen, count, sample_messages
) VALUES (:fingerprint, :provider, :model_name, :stage, :error_kind, :ts, :ts, 1, :sample_messages)
ON CONFLICT (fingerprint) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen),
    last_seen = max(last_seen, excluded.last_seen),
    count = count + 1,
    sample_messages = excluded.sample_messages
"""

_ROLLUPS = """
SELECT fingerprint, provider, model_name, stage, error_kind, first_seen, last_seen, count, sample_messages
FROM error_rollups WHERE last_seen >= :since ORDER BY count DESC, last_seen DESC, fingerprint
"""

# SELECT DISTINCT would walk the whole of both indexes; this jumps to the model after a given one. Without the time,
# SQLite would seek the model's first entry and walk over the rest of them.
_NEXT_MODEL = """
SELECT model_name, provider FROM (
    SELECT * FROM (
        SELECT model_name, provider FROM samples
        WHERE (model_name, provider, run_ts) > (:model, :provider, :after_all) ORDER BY model_name, provider LIMIT 1
    )
    UNION ALL
    SELECT * FROM (
        SELECT model_name, provider FROM failures
        WHERE (model_name, provider, run_ts) > (:model, :provider, :after_all) ORDER BY model_name, provider LIMIT 1
    )
) ORDER BY model_name, provider LIMIT 1
"""

_LAST_SUCCESS = """
SELECT run_ts, provider, model_name FROM samples
WHERE model_name = :model AND provider = :provider AND sample_role IN ('scheduled', 'demo')
AND run_ts >= :since AND run_ts < :end ORDER BY run_ts DESC LIMIT 1
"""

_LAST_FAILURE = """
SELECT run_ts, provider, model_name, error_kind, retry_after FROM failures
WHERE model_name = :model AND provider = :provider AND sample_role IN ('scheduled', 'demo')
AND run_ts > :after AND run_ts < :end ORDER BY run_ts DESC LIMIT 1
"""

_FAILURES_IN_A_ROW = """
SELECT count(*) FROM failures
WHERE model_name = :model AND provider = :provider AND sample_role IN ('scheduled', 'demo')
AND run_ts > :after AND run_ts < :end AND error_kind NOT IN ('local', 'internal')
"""

NAMED = "provider > '' AND model_name > ''"
COUNTED = f"run_ts >= :since AND run_ts < :end AND {NAMED}"
"""Conditions on what counts, with the values of `window`; see `llmbench.stores.counted`."""

_BEFORE_ALL = -(2**63)
_AFTER_ALL = 2**63 - 1


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "samples": msgspec.json.Decoder(Sample),
    "failures": msgspec.json.Decoder(Failure),
}


class _Row(msgspec.Struct, frozen=True):
    outcome: Outcome
    digest: bytes
    values: dict[str, Any]


def microseconds(when: datetime) -> int:
    """Return an aware time as microseconds since 1970, exactly."""
    return (when - _EPOCH) // _MICROSECOND


def time_of(microseconds_since_1970: int) -> datetime:
    """Return the aware time of microseconds since 1970."""
    return _EPOCH + microseconds_since_1970 * _MICROSECOND


def window(since: datetime | None, until: datetime | None = None) -> dict[str, int]:
    """Return the ends of a window, the second excluded, as they are named in statements."""
    return {"since": microseconds(begin(since)), "end": microseconds(end(until))}


def put(connection: sqlite3.Connection, items: Sequence[Envelope]) -> list[Verdict]:
    """Store a batch in one transaction; see `llmbench.stores.base.Store.put`."""
    rows = [_row(item) for item in items]  # before the lock is taken: this is the slow part
    with transaction(connection, "IMMEDIATE"):
        return [row if isinstance(row, Verdict) else _store(connection, row) for row in rows]


def _row(item: Envelope) -> _Row | Verdict:
    outcome = item.outcome
    try:
        document = canonical_json(outcome)
    except UnstorableError as error:
        return Verdict(outcome.id, "rejected", str(error))
    digest = hashlib.sha256(document).digest()
    values = msgspec.structs.asdict(outcome)
    values.update(run_ts=microseconds(outcome.run_ts), publish=item.publish, digest=digest, document=document.decode())
    values.update({name: NOT_KNOWN for name in _FIGURES if name in values and values[name] is None})
    return _Row(outcome, digest, values)


def _store(connection: sqlite3.Connection, row: _Row) -> Verdict:
    outcome = row.outcome
    found = connection.execute(_FIND, {"id": outcome.id}).fetchone()
    if found is not None:
        same = found[0] == row.digest or _same_in_milliseconds(connection, found[1], outcome)
        return _verdict_on_repeat(outcome.id, same=same)
    try:
        connection.execute(_INSERT[type(outcome)], row.values)
    except OverflowError:  # raised while the values are bound, before anything ran
        return Verdict(outcome.id, "rejected", f"{type(outcome).__name__} has an integer of more than 64 bits")
    if isinstance(outcome, Failure):
        _count(connection, outcome)
    return Verdict(outcome.id, "stored")


def _same_in_milliseconds(connection: sqlite3.Connection, table: str, outcome: Outcome) -> bool:
    """Say whether an outcome is the stored one, but for microseconds: one of them may have been in MongoDB."""
    sql = f"SELECT document FROM {table} WHERE id = ?"  # noqa: S608 - a name from above
    (document,) = connection.execute(sql, (outcome.id,)).fetchone()
    try:
        return bool(in_milliseconds(_DECODERS[table].decode(document)) == in_milliseconds(outcome))
    except msgspec.DecodeError:
        return False


def _verdict_on_repeat(outcome_id: str, *, same: bool) -> Verdict:
    if same:
        return Verdict(outcome_id, "duplicate")
    return Verdict(outcome_id, "conflict", f"{outcome_id!r} is stored with other content, which was kept")


def _count(connection: sqlite3.Connection, failure: Failure) -> None:
    known = connection.execute(
        "SELECT sample_messages FROM error_rollups WHERE fingerprint = ?", (failure.fingerprint,)
    ).fetchone()
    messages: list[str] = msgspec.json.decode(known[0], type=list[str]) if known else []
    if failure.message not in messages and len(messages) < SAMPLE_MESSAGES:
        messages.append(failure.message)
    values = msgspec.structs.asdict(failure)
    values.update(ts=microseconds(failure.ts), sample_messages=msgspec.json.encode(messages).decode())
    connection.execute(_COUNT, values)


def rollups(connection: sqlite3.Connection, since: datetime | None) -> list[ErrorRollup]:
    """Return the rollups last seen since then, most frequent first."""
    rows = connection.execute(_ROLLUPS, {"since": _BEFORE_ALL if since is None else microseconds(since)})
    return [read_rollup(row) for row in rows]


def read_rollup(row: tuple[Any, ...]) -> ErrorRollup:
    """Return the rollup in a row of all its columns, in the order of `ErrorRollup`."""
    fingerprint, provider, model_name, stage, error_kind, first_seen, last_seen, count, messages = row
    return ErrorRollup(
        fingerprint=fingerprint,
        provider=provider,
        model_name=model_name,
        stage=stage,
        error_kind=error_kind,
        first_seen=time_of(first_seen),
        last_seen=time_of(last_seen),
        count=count,
        sample_messages=msgspec.json.decode(messages, type=list[str]),
    )


def history(connection: sqlite3.Connection) -> list[ModelHistory]:
    """Return the past of every model, by a few index look-ups for each, however many rows there are."""
    with transaction(connection, "DEFERRED"):  # one state of the file for all the look-ups
        pasts = [_past(connection, provider, model) for model, provider in measured_models(connection)]
    return [past for past in pasts if past is not None]


def measured_models(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield model and provider of every model that has outcomes and a name, each in one of its spellings."""
    found = ("", "")
    while found := connection.execute(
        _NEXT_MODEL, {"model": found[0], "provider": found[1], "after_all": _AFTER_ALL}
    ).fetchone():
        if all(found):
            yield found


def _past(connection: sqlite3.Connection, provider: str, model: str) -> ModelHistory | None:
    values: dict[str, Any] = {"provider": provider, "model": model, **window(None)}
    success = connection.execute(_LAST_SUCCESS, values).fetchone()
    values["after"] = values["since"] - 1 if success is None else success[0]
    failure = connection.execute(_LAST_FAILURE, values).fetchone()
    newest = failure or success
    if newest is None:
        return None  # all that it has are runs of other roles
    past = ModelHistory(
        provider=newest[1], model_id=newest[2], last_success=None if success is None else time_of(success[0])
    )
    if failure is None:
        return past
    (failures_in_a_row,) = connection.execute(_FAILURES_IN_A_ROW, values).fetchone()
    return msgspec.structs.replace(
        past,
        failures_in_a_row=failures_in_a_row,
        last_failure=time_of(failure[0]),
        last_failure_kind=failure[3],
        last_failure_retry_after=failure[4],
    )


def outcomes(connection: sqlite3.Connection, query: OutcomeQuery) -> list[Outcome]:
    """Return the outcomes that the query names, newest first."""
    values = {
        **window(query.since),
        "provider": query.provider,
        "model": query.model,
        "limit": -1 if query.limit is None else query.limit,
    }
    rows = connection.execute(_outcomes_sql(query), values)
    return [read_outcome(table, key, document) for table, key, document, _run_ts in rows]


def _outcomes_sql(query: OutcomeQuery) -> str:
    # Only what is asked for is in the text: SQLite picks no index for a condition that may be null.
    conditions = {"provider = :provider": query.provider, "model_name = :model": query.model}
    where = " AND ".join([COUNTED, *(text for text, value in conditions.items() if value is not None)])
    selects = [
        f"SELECT '{table}', id, document, run_ts FROM {table} WHERE {where}"  # noqa: S608 - all of it is from here
        for table in (("samples", "failures") if query.kind == "all" else (query.kind,))
    ]
    return " UNION ALL ".join(selects) + " ORDER BY run_ts DESC LIMIT :limit"


def read_outcome(table: str, outcome_id: str, document: str) -> Outcome:
    """Return a stored outcome. Raises `StoreError` if it can't be read."""
    try:
        outcome: Outcome = _DECODERS[table].decode(document)
    except msgspec.DecodeError as error:
        raise StoreError(f"{outcome_id!r} in table {table!r} can't be read ({error}); was it edited?") from error
    return outcome

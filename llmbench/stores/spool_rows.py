"""The rows of the spool: what each call does to them, as statements on its one connection."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from llmbench.error_text import clean
from llmbench.messages import Envelope, Failure, Sample
from llmbench.stores import spool_history
from llmbench.stores.canonical import as_canonical, canonical_json
from llmbench.stores.spool_schema import without_cap
from llmbench.stores.sqlite_outcomes import microseconds, time_of

BODY_VERSION = 1
RecordStatus = Literal["recorded", "duplicate", "conflict"]
State = Literal["waiting", "delivered", "quarantined"]

_REASON_LIMIT = 40
_LONGEST_DELAY = 3600 * 1_000_000
"""In microseconds. Nothing is put off for longer; what seems to be was put off while the clock was ahead."""

EVER = 2**63 - 1
"""A time that every other one is before."""

_KINDS: dict[str, type[Sample | Failure]] = {"sample": Sample, "failure": Failure}


class _Body(msgspec.Struct, frozen=True):
    """An envelope as it is kept: the outcome as canonical JSON, and what else is needed to read it."""

    kind: str
    publish: bool
    outcome: msgspec.Raw


_bodies = msgspec.json.Decoder(_Body)
_outcomes = {kind: msgspec.json.Decoder(struct) for kind, struct in _KINDS.items()}


class Undecodable(ValueError):
    """A body that is not what was recorded, or that this version can't read; the message is a clause."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that is due for delivery. ``tries`` is how often it was tried before."""

    id: str
    envelope: Envelope
    recorded_at: datetime
    tries: int
    error: str | None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A row as it is, to be exported. ``body`` is JSON as it was recorded, whether it can be read or not.

    ``conflicting`` rows have the id of another row, which was recorded first.
    """

    seq: int
    id: str
    state: State
    conflicting: bool
    reason: str | None
    error: str | None
    tries: int
    recorded_at: datetime
    body: bytes


def packed(body: bytes) -> bytes:
    """Return a body as the file keeps it: a day's outcomes are to fit into the cap (RFC 1950, zlib)."""
    return zlib.compress(body, 1)


def unpacked(blob: Any) -> bytes:
    """Return a body that was `packed`. Raises `Undecodable`."""
    if not isinstance(blob, bytes):
        raise Undecodable("the body is not what was recorded: it is no blob")
    try:
        return zlib.decompress(blob)
    except zlib.error as error:
        raise Undecodable(f"the body is not what was recorded: it can't be unpacked ({error})") from error


def encode(envelope: Envelope) -> bytes:
    """Return the body of an envelope, of which its digest is made. Raises `UnstorableError`."""
    kind = "failure" if isinstance(envelope.outcome, Failure) else "sample"
    return msgspec.json.encode(_Body(kind, envelope.publish, msgspec.Raw(canonical_json(envelope.outcome))))


def decode(blob: Any, digest: Any) -> Envelope:
    """Return the envelope of a packed body, as both were found in the file. Raises `Undecodable`."""
    body = unpacked(blob)
    if hashlib.sha256(body).digest() != digest:
        raise Undecodable("the body is not what was recorded: its digest is another one")
    try:
        read = _bodies.decode(body)
        outcome = _outcomes[read.kind].decode(read.outcome)
        return Envelope(outcome=outcome, publish=read.publish, canonical=as_canonical(bytes(read.outcome), outcome))
    except KeyError as error:
        raise Undecodable(f"the body is of a kind that this version does not know: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"the body can't be read: {error}") from error


def record(connection: sqlite3.Connection, envelope: Envelope, now: int) -> RecordStatus:
    """Keep an outcome, and with that end its attempt. Raises `UnstorableError`."""
    body, outcome_id = encode(envelope), envelope.outcome.id
    digest = hashlib.sha256(body).digest()
    connection.execute("DELETE FROM attempts WHERE id = ?", (outcome_id,))
    found = connection.execute("SELECT digest FROM outcomes WHERE id = ? AND conflicting = 0", (outcome_id,)).fetchone()
    if found is None:
        _insert(connection, outcome_id, digest, packed(body), now)
        spool_history.note(connection, envelope.outcome, time_of(now))
        return "recorded"
    if found[0] == digest:
        return "duplicate"
    _insert(connection, outcome_id, digest, packed(body), now, reason="conflict")
    return "conflict"


def _insert(
    connection: sqlite3.Connection,
    outcome_id: str,
    digest: bytes,
    body: bytes,
    now: int,
    *,
    reason: str | None = None,
    error: str | None = None,
) -> bool:
    """Add a row, in quarantine if there is a reason; say whether it was not there already."""
    state = "waiting" if reason is None else "quarantined"
    added = connection.execute(
        "INSERT OR IGNORE INTO outcomes"
        " (id, conflicting, state, since, reason, error, recorded_at, body_version, digest, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (outcome_id, reason == "conflict", state, now, reason, error, now, BODY_VERSION, digest, body),
    )
    return added.rowcount == 1


def opened(connection: sqlite3.Connection, envelope: Envelope) -> None:
    """Note that an attempt was begun, and what it becomes if it is interrupted. Raises `UnstorableError`."""
    body, failed = encode(envelope), envelope.outcome
    connection.execute(
        "INSERT OR REPLACE INTO attempts (id, opened_at, digest, body) VALUES (?, ?, ?, ?)",
        (failed.id, microseconds(failed.run_ts), hashlib.sha256(body).digest(), packed(body)),
    )


def withdraw(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Forget attempts, as nothing more will be told of them."""
    connection.executemany("DELETE FROM attempts WHERE id = ?", [(one,) for one in ids])


def interrupted(connection: sqlite3.Connection, now: int) -> list[Failure]:
    """Record the failures of the attempts that an earlier process left open, oldest first, and return them.

    There is always room for them. One that can't be read goes into quarantine.
    """
    with without_cap(connection):
        left = connection.execute("SELECT id, digest, body FROM attempts ORDER BY opened_at, id").fetchall()
        connection.execute("DELETE FROM attempts")
        found = [_interrupted(connection, row, now) for row in left]
    return [one for one in found if one is not None]


def _interrupted(connection: sqlite3.Connection, row: tuple[Any, ...], now: int) -> Failure | None:
    outcome_id, digest, body = row
    try:
        failed = decode(body, digest).outcome
    except Undecodable as trouble:
        _insert(connection, outcome_id, digest, body, now, reason="undecodable", error=clean(str(trouble)))
        return None
    if not _insert(connection, outcome_id, digest, body, now) or not isinstance(failed, Failure):
        return None
    spool_history.note(connection, failed, time_of(now))
    return failed


_DUE = "SELECT seq, id, digest, body, recorded_at, tries, error FROM outcomes WHERE seq IN ({places}) ORDER BY seq"
_DUE_SEQ = (
    "SELECT seq FROM outcomes WHERE state = 'waiting' AND next_try NOT BETWEEN ? AND ? ORDER BY seq {order} LIMIT ?"
)


def peek(connection: sqlite3.Connection, limit: int, now: int) -> list[Waiting]:
    """Return what is due, as `llmbench.stores.spool.Spool.peek` says; quarantine what can't be read."""
    newest = _seqs(connection, "DESC", now, limit // 2)
    oldest = _seqs(connection, "ASC", now, limit)
    chosen = (newest + [seq for seq in oldest if seq not in set(newest)])[:limit]
    sql = _DUE.format(places=", ".join("?" * len(chosen)))
    read = (_waiting(connection, row, now) for row in connection.execute(sql, chosen).fetchall())
    return [one for one in read if one is not None]


def _seqs(connection: sqlite3.Connection, order: str, now: int, limit: int) -> list[int]:
    return [seq for (seq,) in connection.execute(_DUE_SEQ.format(order=order), (now + 1, now + _LONGEST_DELAY, limit))]


def _waiting(connection: sqlite3.Connection, row: tuple[Any, ...], now: int) -> Waiting | None:
    seq, outcome_id, digest, body, recorded_at, tries, error = row
    try:
        envelope = decode(body, digest)
    except Undecodable as trouble:
        connection.execute(
            "UPDATE outcomes SET state = 'quarantined', since = ?, reason = 'undecodable', error = ? WHERE seq = ?",
            (now, clean(str(trouble)), seq),
        )
        return None
    return Waiting(id=outcome_id, envelope=envelope, recorded_at=time_of(recorded_at), tries=tries, error=error)


def delivered(connection: sqlite3.Connection, ids: Sequence[str], now: int) -> int:
    """Mark what was waiting under these ids; return how many rows that were."""
    return _update(connection, "state = 'delivered', since = ?, error = NULL", "waiting", ids, (now,))


def retry_later(connection: sqlite3.Connection, ids: Sequence[str], error: str, at: datetime) -> int:
    """Count a try of what waits under these ids, and let it be due only then; return how many rows that were."""
    values = (microseconds(at), clean(error))
    return _update(connection, "tries = tries + 1, next_try = ?, error = ?", "waiting", ids, values)


def quarantine(connection: sqlite3.Connection, outcome_id: str, reason: str, detail: str | None, now: int) -> int:
    """Put what waits under this id aside; return 1 if something did."""
    values = (now, clean(reason, _REASON_LIMIT), None if detail is None else clean(detail))
    return _update(
        connection, "state = 'quarantined', since = ?, reason = ?, error = ?", "waiting", [outcome_id], values
    )


def release(connection: sqlite3.Connection, ids: Sequence[str], now: int) -> int:
    """Let what is in quarantine under these ids be due at once; return how many rows that were."""
    return _update(connection, "state = 'waiting', since = ?, reason = NULL, next_try = 0", "quarantined", ids, (now,))


def _update(
    connection: sqlite3.Connection, changes: str, state: State, ids: Sequence[str], values: tuple[Any, ...]
) -> int:
    sql = f"UPDATE outcomes SET {changes} WHERE id = ? AND conflicting = 0 AND state = ?"  # noqa: S608 - from above
    return connection.executemany(sql, [(*values, one, state) for one in ids]).rowcount


def prune(connection: sqlite3.Connection, before: int, most: int) -> int:
    """Delete some of the rows that were delivered up to then, those that were delivered first; return how many."""
    return connection.execute(
        "DELETE FROM outcomes WHERE seq IN"
        " (SELECT seq FROM outcomes WHERE state = 'delivered' AND since <= ? ORDER BY since LIMIT ?)",
        (before, most),
    ).rowcount


def last_seq(connection: sqlite3.Connection) -> int:
    """Return the highest ``seq`` that a row has, or had."""
    (seq,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outcomes'").fetchone()
    return int(seq)


def tallies(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return the counts of `llmbench.stores.spool.SpoolCounts` that the rows tell."""
    states = dict(connection.execute("SELECT state, count(*) FROM outcomes GROUP BY state").fetchall())
    (oldest,) = connection.execute(
        "SELECT recorded_at FROM outcomes WHERE state = 'waiting' ORDER BY seq LIMIT 1"
    ).fetchone() or (None,)
    reasons = connection.execute(
        "SELECT reason, count(*) FROM outcomes WHERE state = 'quarantined' GROUP BY reason ORDER BY reason"
    ).fetchall()
    (in_flight,) = connection.execute("SELECT count(*) FROM attempts").fetchone()
    return {
        "waiting": states.get("waiting", 0),
        "delivered": states.get("delivered", 0),
        "quarantined": {reason or "unknown": count for reason, count in reasons},
        "oldest": None if oldest is None else time_of(oldest),
        "in_flight": in_flight,
    }


_KEPT = "SELECT seq, id, state, conflicting, reason, error, tries, recorded_at, body FROM outcomes"


def page(connection: sqlite3.Connection, state: State, after: int, size: int) -> list[Kept]:
    """Return rows of a state in the order of their ``seq``, from the one after this on."""
    return _kept(connection.execute(f"{_KEPT} WHERE state = ? AND seq > ? ORDER BY seq LIMIT ?", (state, after, size)))


def quarantined(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Kept]:
    """Return the rows in quarantine that have one of these ids, in the order of the ids."""
    sql = f"{_KEPT} WHERE id = ? AND state = 'quarantined' ORDER BY seq"
    return [kept for one in dict.fromkeys(ids) for kept in _kept(connection.execute(sql, (one,)))]


def discard(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    """Delete the rows with these ``seq`` that are in quarantine; return how many there were."""
    sql = "DELETE FROM outcomes WHERE seq = ? AND state = 'quarantined'"
    return connection.executemany(sql, [(seq,) for seq in seqs]).rowcount


def _kept(rows: Iterable[tuple[Any, ...]]) -> list[Kept]:
    return [
        Kept(
            seq=seq,
            id=one,
            state=kept,
            conflicting=bool(conflicting),
            reason=reason,
            error=error,
            tries=tries,
            recorded_at=time_of(at),
            body=_readable(body),
        )
        for seq, one, kept, conflicting, reason, error, tries, at, body in rows
    ]


def _readable(blob: bytes) -> bytes:
    """Return a body as it was recorded, or, if that can't be, the bytes that are there."""
    try:
        return unpacked(blob)
    except Undecodable:
        return blob

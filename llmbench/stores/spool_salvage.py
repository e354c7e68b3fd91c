"""What is done about a spool that is not whole: it is moved aside as a set, and what can be read goes into a new one.

Nothing is deleted, and nothing is silent: what was found and saved is in a file beside the spool until somebody
acknowledges it. That file is also the plan of the work, written before each step, so a start that is interrupted is
carried on by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from llmbench.stores import spool_history
from llmbench.stores.spool_rows import BODY_VERSION, State, Undecodable, decode
from llmbench.stores.spool_schema import PAGE_SIZE, Damaged, check, connect, create, reading
from llmbench.stores.sqlite_schema import transaction

SPOOL = "spool.db"
MARKER = "spool.damage.json"

_NEW = "spool.db.new"
_REMAINS = "spool.db.remains"
_PARTS = ("", "-wal", "-shm")
_ANY_SIZE = 2**43
_SOURCES = (
    "SELECT seq FROM outcomes NOT INDEXED ORDER BY seq {order}",
    "SELECT seq FROM outcomes INDEXED BY outcomes_by_state ORDER BY state {order}, seq {order}",
    "SELECT seq FROM outcomes INDEXED BY outcomes_recorded WHERE conflicting = 0 ORDER BY id {order}",
)


class Damage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A spool that was found damaged, and what became of its rows.

    ``aside`` is the name of the file that was moved away, in the same folder; its log, if it had one, has the same name
    and ``-wal``. ``salvaged`` rows were whole. Of ``doubtful`` ones the body is not what was recorded; they are in
    quarantine. ``unreadable`` rows are lost, at least so many; None if nobody can tell.
    """

    found_at: datetime
    what: str
    aside: str
    stage: Literal["moving", "salvaged", "done"] = "moving"
    salvaged: int = 0
    doubtful: int = 0
    unreadable: int | None = None

    def __str__(self) -> str:
        lost = "an unknown number" if self.unreadable is None else str(self.unreadable)
        return (
            f"Spool was damaged ({self.what}) and moved aside as {self.aside!r}: {self.salvaged} salvaged, "
            f"{lost} unreadable, {self.doubtful} in quarantine because their content was changed"
        )


def make_sound(folder: Path, committed: int, now: datetime) -> None:
    """See to it that the folder has a spool that is whole; call it with the lock held and nothing open.

    ``committed`` is the highest ``seq`` that was told to be durable. Raises `StoreUnusable` for a file that is not to
    be touched, and whatever SQLite and the system say if there is no room to salvage.
    """
    _carry_on(folder, committed)
    what = _fault(folder, committed)
    if what is not None:
        aside = _free_name(folder, f"{SPOOL}.damaged-{now:%Y%m%dT%H%M%SZ}")
        _write(folder, [*damages(folder), Damage(found_at=now, what=what, aside=aside)])
        _carry_on(folder, committed)
    elif not (folder / SPOOL).exists():
        _create_new(folder, committed)
        _put_in_place(folder)


def damages(folder: Path) -> list[Damage]:
    """Return the damages that nobody has acknowledged yet."""
    try:
        found = (folder / MARKER).read_bytes()
    except FileNotFoundError:
        return []
    try:
        return msgspec.json.decode(found, type=list[Damage])
    except ValueError:  # it is written whole or not at all, so somebody else did this
        at = datetime.fromtimestamp((folder / MARKER).stat().st_mtime).astimezone()
        return [Damage(found_at=at, what=f"{MARKER} can't be read", aside="", stage="done")]


def acknowledge(folder: Path) -> None:
    """Forget the damages. What was moved aside stays where it is."""
    (folder / MARKER).unlink(missing_ok=True)
    _sync(folder)


def _fault(folder: Path, committed: int) -> str | None:
    """Return a clause that says what is wrong with the spool; None if it is whole, or if there never was one."""
    path = folder / SPOOL
    if not path.exists():
        left = path.with_name(f"{SPOOL}-wal").exists()
        return f"{SPOOL} is gone" if left or committed else None
    if path.stat().st_size == 0:
        return f"{SPOOL} is empty: 0 bytes"
    try:
        check(path, committed)
    except Damaged as damaged:
        return str(damaged)
    return None


def _free_name(folder: Path, name: str) -> str:
    names = {one.name for one in folder.iterdir()}
    candidates = (name, *(f"{name}-{n}" for n in range(2, 10_000)))
    return next(one for one in candidates if not any(one + part in names for part in _PARTS))


def _carry_on(folder: Path, committed: int) -> None:
    """Do what is left to be done of the damage that was found last."""
    found = damages(folder)
    if not found or found[-1].stage == "done":
        return
    *earlier, damage = found
    if damage.stage == "moving":
        _move(folder, damage.aside)
        damage = _salvage(folder, damage, committed)
        _write(folder, [*earlier, damage])
    if (folder / _NEW).exists():
        _put_in_place(folder)
    _write(folder, [*earlier, msgspec.structs.replace(damage, stage="done")])


def _move(folder: Path, aside: str) -> None:
    for part in _PARTS:
        if (folder / f"{SPOOL}{part}").exists():
            (folder / f"{SPOOL}{part}").rename(folder / f"{aside}{part}")
    _sync(folder)


def _create_new(folder: Path, last_seq: int) -> Path:
    for part in _PARTS:
        (folder / f"{_NEW}{part}").unlink(missing_ok=True)
    create(folder / _NEW, last_seq)
    return folder / _NEW


def _put_in_place(folder: Path) -> None:
    (folder / _NEW).rename(folder / SPOOL)
    _sync(folder)


def _write(folder: Path, found: list[Damage]) -> None:
    new = folder / f"{MARKER}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(found))
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder / MARKER)
    _sync(folder)


def _sync(folder: Path) -> None:
    """Make names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _salvage(folder: Path, damage: Damage, committed: int) -> Damage:
    """Copy what can be read of the set that was moved aside into a new spool."""
    now = damage.found_at
    with _remains(folder / damage.aside) as old, reading(old) as source:
        source.execute("PRAGMA writable_schema = ON")  # or SQLite reads nothing of a file that was cut
        seqs = sorted(_known_seqs(source))
        new = _create_new(folder, max(committed, *seqs[-1:], 0))
        with closing(connect(new, _ANY_SIZE)) as target, transaction(target, "IMMEDIATE"):
            kept = [_copy(source, target, seq) for seq in seqs]
            _copy_attempts(source, target)
            _copy_history(source, target, now)
        beyond = max(0, committed - _last_seq(source, seqs))
    return msgspec.structs.replace(
        damage,
        stage="salvaged",
        salvaged=kept.count("salvaged"),
        doubtful=kept.count("doubtful"),
        unreadable=kept.count("unreadable") + beyond if seqs else None,
    )


@contextmanager
def _remains(aside: Path) -> Iterator[Path]:
    """Yield the file to read from: for one that is missing or empty another, since its log alone may hold rows.

    SQLite deletes the log of an empty file, and makes nothing of one without a file; so it gets a copy of the log, and
    a file that is neither.
    """
    if aside.exists() and aside.stat().st_size > 0:
        yield aside
        return
    stand_in, log = (aside.with_name(f"{_REMAINS}{part}") for part in ("", "-wal"))
    old_log = aside.with_name(f"{aside.name}-wal")
    try:
        stand_in.write_bytes(b"\0" * PAGE_SIZE)
        log.write_bytes(old_log.read_bytes() if old_log.exists() else b"")
        yield stand_in
    finally:
        for file in (stand_in, log):
            file.unlink(missing_ok=True)


def _known_seqs(source: sqlite3.Connection) -> set[int]:
    """Return the ``seq`` of every row that the table or an index still knows, reading each from both ends."""
    return {
        seq
        for text in _SOURCES
        for order in ("ASC", "DESC")
        for (seq,) in _until_damage(source, text.format(order=order))
        if isinstance(seq, int) and 0 < seq < _ANY_SIZE
    }


def _until_damage(source: sqlite3.Connection, sql: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from source.execute(sql)
    except sqlite3.DatabaseError:
        return


def _last_seq(source: sqlite3.Connection, seqs: list[int]) -> int:
    told = [seq for (seq,) in _until_damage(source, "SELECT seq FROM sqlite_sequence") if isinstance(seq, int)]
    return max([0, *told, *seqs[-1:]])


_COPY = (
    "INSERT OR IGNORE INTO outcomes (seq, id, conflicting, state, since, tries, next_try, reason, error, recorded_at,"
    " body_version, digest, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_READ = (
    "SELECT id, conflicting, state, since, tries, next_try, reason, error, recorded_at, digest, body FROM outcomes"
    " NOT INDEXED WHERE seq = ?"
)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, seq: int) -> str:
    row = next(_until_damage(source, _READ.replace("?", str(seq))), None)
    body = row[-1] if row else None
    if row is None or not isinstance(body, bytes):
        return "unreadable"
    values, verdict = _mended(seq, row, body)
    return verdict if target.execute(_COPY, (seq, *values)).rowcount == 1 else "unreadable"


def _mended(seq: int, row: tuple[Any, ...], body: bytes) -> tuple[tuple[Any, ...], str]:
    """Return the row's values, those that can't be true replaced, and how far it can be trusted."""
    told_id, conflicting, state, since, tries, next_try, reason, error, recorded_at, digest, _ = row
    state = state if state in get_args(State) else "waiting"
    outcome_id, verdict = str(told_id), "salvaged"
    try:
        outcome_id = decode(body, digest).outcome.id
    except Undecodable as trouble:
        if state != "delivered":
            state, reason, error, verdict = "quarantined", "undecodable", str(trouble), "doubtful"
    if not isinstance(digest, bytes):
        digest = hashlib.sha256(body).digest()
    since, tries, next_try, recorded_at = (_whole(value) for value in (since, tries, next_try, recorded_at))
    flag = 1 if conflicting == 1 and state == "quarantined" else 0
    values = (outcome_id, flag, state, since, tries, next_try, _text(reason), _text(error), recorded_at)
    return (*values, BODY_VERSION, digest, body), verdict


def _whole(value: Any) -> int:
    # A time beyond the year 9999 has no date, and a row must not wait for one.
    return value if isinstance(value, int) and 0 <= value < 253_402_300_800_000_000 else 0


def _text(value: Any) -> str | None:
    return value if value is None else str(value)


def _copy_attempts(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    for one, at, digest, body in _until_damage(source, "SELECT id, opened_at, digest, body FROM attempts"):
        if isinstance(body, bytes):  # what is wrong with it otherwise is found when it is recorded
            target.execute(
                "INSERT OR IGNORE INTO attempts (id, opened_at, digest, body) VALUES (?, ?, ?, ?)",
                (str(one), _whole(at), digest if isinstance(digest, bytes) else b"", body),
            )


def _copy_history(source: sqlite3.Connection, target: sqlite3.Connection, now: datetime) -> None:
    """Copy what was remembered of the models; if there is nothing to be read, make it anew of the outcomes."""
    found = _until_damage(source, "SELECT past FROM history")
    if spool_history.put_back(target, (text for (text,) in found)):
        return
    for body, digest in target.execute("SELECT body, digest FROM outcomes WHERE conflicting = 0 ORDER BY seq"):
        with contextlib.suppress(Undecodable):
            spool_history.note(target, decode(body, digest).outcome, now)

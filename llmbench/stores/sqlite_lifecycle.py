"""Records about models in the embedded store, on a connection that the caller owns.

A record is kept whole, as canonical JSON; the columns beside it are what it is found by and what others may ask for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from llmbench.lifecycle import (
    RECORDS,
    CatalogEntry,
    DeprecationSnapshot,
    DiscoveryRun,
    Listing,
    ModelStatus,
    R,
    Record,
)
from llmbench.naming import Key, folded
from llmbench.stores.base import Recorded, StoreError, Verdict
from llmbench.stores.canonical import UnstorableError, canonical_json
from llmbench.stores.records import entries_of, joined, name_of, recorded, run_of, storable, unchanged
from llmbench.stores.sqlite_outcomes import microseconds
from llmbench.stores.sqlite_schema import transaction


class _Table(NamedTuple):
    """Where records of a kind are kept: the columns that tell them apart, and others."""

    name: str
    key: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return *self.key, *self.others, "document"

    # Nothing in the statements but the names below.

    @property
    def find(self) -> str:
        where = " AND ".join(f"{column} = :{column}" for column in self.key)
        return f"SELECT rowid, document FROM {self.name} WHERE {where}"  # noqa: S608 - as above

    @property
    def insert(self) -> str:
        values = ", ".join(f":{column}" for column in self.columns)
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({values})"  # noqa: S608 - as above

    @property
    def update(self) -> str:
        values = ", ".join(f"{column} = :{column}" for column in self.columns)
        return f"UPDATE {self.name} SET {values} WHERE rowid = :rowid"  # noqa: S608 - as above


_MODEL = ("provider", "model_id")
_TABLES: dict[type, _Table] = {
    CatalogEntry: _Table("provider_catalog", _MODEL, ("last_seen_at", "in_our_db", "chat")),
    DiscoveryRun: _Table("bench_discovery_runs", ("provider", "started_at"), ("status",)),
    ModelStatus: _Table("model_status", _MODEL, ("status", "computed_at")),
    DeprecationSnapshot: _Table("deprecation_snapshots", (*_MODEL, "deprecation_date"), ()),
}
_ORDER: dict[type, str] = {
    DiscoveryRun: "started_at DESC, provider",
    DeprecationSnapshot: "provider, model_id, deprecation_date",
}
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in RECORDS}


def records(
    connection: sqlite3.Connection, kind: type[R], provider: str | None, model_id: str | None, limit: int | None
) -> list[R]:
    """Return the records of a kind; see `llmbench.stores.base.Store.records`."""
    table = _TABLES[kind]
    if model_id is not None and "model_id" not in table.key:
        return []
    asked = {"provider": provider, "model_id": model_id}
    where = " AND ".join(f"{column} = :{column}" for column, value in asked.items() if value is not None) or "true"
    rows = connection.execute(
        f"SELECT document FROM {table.name} WHERE {where} "  # noqa: S608 - the names above, no input
        f"ORDER BY {_ORDER.get(kind, 'provider, model_id')} LIMIT :limit",
        {**asked, "limit": -1 if limit is None else limit},
    )
    return [_read(kind, document) for (document,) in rows]


def put_records(connection: sqlite3.Connection, records: Sequence[Record]) -> list[Verdict]:
    """Put records; see `llmbench.stores.base.Store.put_records`."""
    ready = [_storable(record) for record in records]  # before the lock is taken: this is the slow part
    with transaction(connection, "IMMEDIATE"):
        return [one if isinstance(one, Verdict) else _put(connection, one)[0] for one in ready]


def put_listing(connection: sqlite3.Connection, listing: Listing) -> Recorded:
    """Note what a provider lists, in one transaction; see `llmbench.stores.base.Store.put_listing`."""
    run_of(listing, [])  # refuses what can't be stored before anything is
    with transaction(connection, "IMMEDIATE"):
        ready = [_storable(entry) for entry in entries_of(listing, _ours(connection, listing.provider))]
        put = [(one, None) if isinstance(one, Verdict) else _put(connection, one) for one in ready]
        _, run = _put(connection, run_of(listing, [entry for _, entry in put if entry is not None]))
        return recorded(run, [verdict for verdict, _ in put])


def _storable(record: R) -> R | Verdict:
    try:
        return storable(record)
    except UnstorableError as error:
        return Verdict(name_of(record), "rejected", str(error))


def _ours(connection: sqlite3.Connection, provider: str) -> set[Key]:
    rows = connection.execute("SELECT provider, model_id FROM models WHERE provider = ?", (provider,))
    return {folded(provider, model_id) for _, model_id in rows}


def _put(connection: sqlite3.Connection, new: R) -> tuple[Verdict, R]:
    """Put a record, and return what is stored under its key now."""
    table = _TABLES[type(new)]
    found = connection.execute(table.find, _values(new)).fetchone()
    if found is None:
        connection.execute(table.insert, _values(new))
        return Verdict(name_of(new), "stored"), new
    row, document = found
    known = _read(type(new), document)
    held = joined(known, new)
    if held == known:
        return unchanged(known, new), known
    connection.execute(table.update, _values(held) | {"rowid": row})
    return Verdict(name_of(new), "stored"), held


def _values(record: Record) -> dict[str, Any]:
    """Return what the columns of a record's table hold."""
    values: dict[str, Any] = {"document": canonical_json(record).decode()}
    for column in _TABLES[type(record)].columns[:-1]:
        value = getattr(record, column)
        values[column] = microseconds(value) if isinstance(value, datetime) else value
    return values


def _read(kind: type[R], document: str) -> R:
    try:
        record: R = _DECODERS[kind].decode(document)
    except msgspec.DecodeError as error:
        table = _TABLES[kind].name
        raise StoreError(f"{document[:80]!r} in table {table!r} can't be read ({error}); was it edited?") from error
    return record

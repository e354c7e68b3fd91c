"""Records about models in MongoDB: changed field by field, so that what others keep beside them stays.

There is no transaction. A record has an ``_id`` that follows from its key, and is changed only while it is what was
read; whoever was second reads again. Documents of earlier writers are found by their names, whatever their ``_id``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec
import pymongo
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError

from llmbench.lifecycle import CatalogEntry, DeprecationSnapshot, DiscoveryRun, Listing, ModelStatus, R, Record
from llmbench.naming import Key, folded
from llmbench.stores.base import Recorded, StoreError, Verdict
from llmbench.stores.canonical import UnstorableError, canonical_json
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_documents import builtins_of, derived_id, encoded, fields_of
from llmbench.stores.mongo_records import record_of
from llmbench.stores.mongo_schema import (
    ANY_CASE,
    BAD_DOCUMENT,
    CATALOG,
    DISCOVERIES,
    DUPLICATE_KEY,
    MODELS,
    SNAPSHOTS,
    STATUSES,
)
from llmbench.stores.pace import SLICE_BYTES, portions
from llmbench.stores.records import (
    RecordKey,
    entries_of,
    joined,
    name_of,
    order,
    record_key,
    recorded,
    run_of,
    storable,
    unchanged,
)

COLLECTIONS: dict[type, str] = {
    CatalogEntry: CATALOG,
    DiscoveryRun: DISCOVERIES,
    ModelStatus: STATUSES,
    DeprecationSnapshot: SNAPSHOTS,
}
_GUARDS: dict[type, tuple[str, ...]] = {CatalogEntry: ("first_seen_at", "last_seen_at"), ModelStatus: ("computed_at",)}
"""The fields that any change changes."""

_ATTEMPTS = 10
"""So often may other programs change the same records in between."""

_SLOW = (
    "another document of this name, or other programs that keep changing it, are in the way; merge them by hand, "
    "or try again"
)


class _Form(NamedTuple):
    """A record on its way in, and about how many bytes it takes."""

    record: Record
    size: int


class _Known(NamedTuple):
    """A record as it is stored; of an entry, ``raw`` is left out."""

    document: Document
    record: Record


class _Put(NamedTuple):
    """What became of a record, and what is stored under its key, if anything is known of that."""

    verdict: Verdict
    stored: Record | None


class _Write(NamedTuple):
    operation: InsertOne[Document] | UpdateOne
    size: int
    stored: Record


async def records(
    database: Database, limits: Limits, kind: type[R], provider: str | None, model_id: str | None, limit: int | None
) -> list[R]:
    """Return the records of a kind as far as their documents tell; see `llmbench.stores.base.Store.records`."""
    if (kind is DiscoveryRun and model_id is not None) or limit == 0:
        return []
    asked = {"provider": provider, "model_id": model_id}
    wanted = {name: value for name, value in asked.items() if value is not None}
    options: dict[str, Any] = {"collation": ANY_CASE} if wanted else {}
    cursor = database[COLLECTIONS[kind]].find(
        wanted, _projection(kind), max_time_ms=limits.question_milliseconds, **options
    )
    if kind is DiscoveryRun:  # there may be many
        cursor = cursor.sort("started_at", -1).limit(limit or 0)
    documents = await cursor.to_list(None)
    return await anyio.to_thread.run_sync(_read, documents, kind, limit)


def _read(documents: Iterable[Document], kind: type[R], limit: int | None) -> list[R]:
    found = [record for document in documents if (record := record_of(document, kind))]
    return sorted(found, key=order)[:limit]


def _projection(kind: type[msgspec.Struct]) -> Document:
    return fields_of(kind)  # whose cache is annotated so that it takes no type variable


async def put_records(database: Database, limits: Limits, records: Sequence[Record]) -> list[Verdict]:
    """Put records; see `llmbench.stores.base.Store.put_records`."""
    return [put.verdict for put in await _put(database, limits, records)]


async def put_listing(database: Database, limits: Limits, listing: Listing) -> Recorded:
    """Note what a provider lists: the entries, then the run. What a crash cut off in between, a repeat completes."""
    run_of(listing, [])  # refuses what can't be stored before anything is
    ours = await _ours(database, limits, listing.provider)
    put = await _put(database, limits, await anyio.to_thread.run_sync(entries_of, listing, ours))
    entries = [one.stored for one in put if isinstance(one.stored, CatalogEntry)]
    run = run_of(listing, entries)
    [told] = await _put(database, limits, [run])
    if not isinstance(told.stored, DiscoveryRun):
        raise StoreError(f"the run of {name_of(run)} was not stored: {told.verdict.reason}")
    return recorded(told.stored, [one.verdict for one in put])


async def _ours(database: Database, limits: Limits, provider: str) -> set[Key]:
    cursor = database[MODELS].find(
        {"provider": provider}, ["model_id"], collation=ANY_CASE, max_time_ms=limits.question_milliseconds
    )
    found = [document.get("model_id") for document in await cursor.to_list(None)]
    return {folded(provider, model_id) for model_id in found if isinstance(model_id, str)}


# putting


async def _put(database: Database, limits: Limits, records: Sequence[Record]) -> list[_Put]:
    # Off the event loop: encoding takes a while.
    forms = await anyio.to_thread.run_sync(_forms, records)
    settled = {number: one for number, one in enumerate(forms) if isinstance(one, _Put)}
    for kind in COLLECTIONS:
        part = {n: one for n, one in enumerate(forms) if isinstance(one, _Form) and type(one.record) is kind}
        settled |= await _put_kind(database, limits, kind, part)
    return [settled[number] for number in range(len(records))]


def _forms(records: Sequence[Record]) -> list[_Form | _Put]:
    return [_form(record) for record in records]


def _form(record: Record) -> _Form | _Put:
    try:
        ready = storable(record)
        return _Form(ready, len(encoded(builtins_of(ready), canonical_json(ready))))
    except UnstorableError as error:
        return _Put(Verdict(name_of(record), "rejected", str(error)), None)


async def _put_kind(
    database: Database, limits: Limits, kind: type[Record], waiting: dict[int, _Form]
) -> dict[int, _Put]:
    settled: dict[int, _Put] = {}
    sent: set[int] = set()
    attempts = 0
    while (left := {n: form for n, form in waiting.items() if n not in settled}) and attempts < _ATTEMPTS:
        first = _first_of_each(left)
        known = await _known(database, limits, kind, [form.record for form in first.values()])
        before = len(settled)
        # Off the event loop, too: there may be thousands.
        planned = await anyio.to_thread.run_sync(_planned, first, known)
        writes = {number: one for number, one in planned.items() if isinstance(one, _Write)}
        settled |= {number: _told(one, number in sent) for number, one in planned.items() if isinstance(one, _Put)}
        sent |= {number for number, one in writes.items() if isinstance(one.operation, UpdateOne)}
        for part in portions(writes.items(), lambda write: write[1].size, lambda: SLICE_BYTES):
            settled |= await _write(database, limits, COLLECTIONS[kind], dict(part))
        attempts = attempts + 1 if len(settled) == before else 0
    in_the_way = {n: _Put(Verdict(name_of(one.record), "rejected", _SLOW), None) for n, one in waiting.items()}
    return in_the_way | settled


def _first_of_each(forms: Mapping[int, _Form]) -> dict[int, _Form]:
    """Return of each key the first; what repeats it has to be joined with what is stored by then."""
    first: dict[RecordKey, int] = {}
    for number, form in forms.items():
        first.setdefault(record_key(form.record), number)
    return {number: forms[number] for number in first.values()}


def _told(put: _Put, sent: bool) -> _Put:
    # An update of which the server did not tell whether it was among those that it made: it was, or a newer one was.
    return put._replace(verdict=Verdict(put.verdict.id, "stored")) if sent else put


async def _known(
    database: Database, limits: Limits, kind: type[Record], records: Sequence[Record]
) -> dict[RecordKey, _Known]:
    """Return what is stored under the keys of these records; of several spellings the one that is asked for."""
    named = "started_at" if kind is DiscoveryRun else "model_id"
    wanted = {name: {"$in": list({getattr(one, name) for one in records})} for name in ("provider", named)}
    fields = {name: 1 for name in _projection(kind) if (kind, name) != (CatalogEntry, "raw")}
    cursor = database[COLLECTIONS[kind]].find(
        wanted, fields, collation=ANY_CASE, max_time_ms=limits.question_milliseconds
    )
    documents = await cursor.sort("_id", 1).to_list(None)
    return await anyio.to_thread.run_sync(_by_key, documents, kind, {name_of(one) for one in records})


def _by_key(documents: Iterable[Document], kind: type[Record], asked: set[str]) -> dict[RecordKey, _Known]:
    found: dict[RecordKey, _Known] = {}
    for document in documents:
        if record := record_of({"raw": {}, **document}, kind):
            key = record_key(record)
            if key not in found or (name_of(record) in asked and name_of(found[key].record) not in asked):
                found[key] = _Known(document, record)
    return found


def _planned(forms: Mapping[int, _Form], known: Mapping[RecordKey, _Known]) -> dict[int, _Write | _Put]:
    return {number: _plan(form, known.get(record_key(form.record))) for number, form in forms.items()}


def _plan(form: _Form, known: _Known | None) -> _Write | _Put:
    """Return the write that a record takes, or what became of it if it takes none."""
    record = form.record
    if known is None:
        made: Document = {"_id": derived_id(*record_key(record)), **builtins_of(record)}
        return _Write(InsertOne(made), form.size, record)
    held = joined(known.record, record)
    if held == known.record:
        return _Put(unchanged(known.record, record), known.record)
    same = {"_id": known.document["_id"]} | {name: known.document.get(name) for name in _GUARDS[type(record)]}
    return _Write(UpdateOne(same, _update(known, held)), form.size, held)


def _update(known: _Known, held: Record) -> Document:
    """Return the update from what is stored to what is to be; fields of a nested Struct are set one by one."""
    nested = {name for name in ("metrics",) if isinstance(known.document.get(name), dict)}
    before, after = (_flat(builtins_of(one), nested) for one in (known.record, held))
    there = _flat(known.document, nested)
    if isinstance(held, CatalogEntry) and isinstance(known.record, CatalogEntry):
        if held.last_seen_at == known.record.last_seen_at:
            del after["raw"]  # which is not held, as it was not read
        before.pop("raw")
    given = {name: value for name, value in after.items() if name not in there or before.get(name) != value}
    taken = dict.fromkeys(before.keys() - after.keys(), "")
    return {operator: fields for operator, fields in (("$set", given), ("$unset", taken)) if fields}


def _flat(document: Document, nested: Iterable[str]) -> Document:
    flat = dict(document)
    for name in nested:
        flat |= {f"{name}.{inner}": value for inner, value in (flat.pop(name, None) or {}).items()}
    return flat


async def _write(database: Database, limits: Limits, collection: str, writes: Mapping[int, _Write]) -> dict[int, _Put]:
    """Return what became of these records; those that may have been changed by others meanwhile are left out."""
    numbers = list(writes)
    faults: dict[int, Document] = {}
    try:
        with pymongo.timeout(limits.put):
            result = await database[collection].bulk_write([one.operation for one in writes.values()], ordered=False)
        matched = result.matched_count
    except BulkWriteError as error:
        details: Document = dict(error.details or {})
        for unknown in details.get("writeConcernErrors", ()):
            raise StoreError(f"MongoDB can't say whether it is durable ({unknown.get('errmsg')}); try again") from error
        faults = {numbers[fault["index"]]: fault for fault in details.get("writeErrors", ())}
        matched = details.get("nMatched", 0)
    updates = [n for n, one in writes.items() if isinstance(one.operation, UpdateOne) and n not in faults]
    open_ = set(updates) if matched != len(updates) else set()
    settled: dict[int, _Put] = {}
    for number, one in writes.items():
        if number in faults:
            settled |= _refused(number, one, faults[number])
        elif number not in open_:
            settled[number] = _Put(Verdict(name_of(one.stored), "stored"), one.stored)
    return settled


def _refused(number: int, write: _Write, fault: Document) -> dict[int, _Put]:
    if fault["code"] == DUPLICATE_KEY:
        return {}
    if fault["code"] not in BAD_DOCUMENT:
        raise StoreError(f"MongoDB did not take a record ({fault.get('errmsg')}); try again")
    reason = f"MongoDB refused the document: {fault.get('errmsg', fault)}"[:500]
    return {number: _Put(Verdict(name_of(write.stored), "rejected", reason), None)}

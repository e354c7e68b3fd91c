"""Outcomes on their way into MongoDB: a batch, item by item, idempotent by id.

An outcome's id is the document's ``_id``, which every collection keeps unique by itself. There is no transaction, which
a standalone server would not have: a failure counts by the protocol of `mongo_counts`, and what is cut off in the
middle is completed when the same ids are put again. That an id is used for a sample *and* a failure is found by looking
first; two writers at the same moment would both succeed, but an id is made by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from llmbench.messages import Envelope, Failure, Sample
from llmbench.stores import mongo_counts
from llmbench.stores.apart import Apart, in_a_thread
from llmbench.stores.base import StoreError, Verdict
from llmbench.stores.canonical import UnstorableError
from llmbench.stores.mongo_client import Database, Document
from llmbench.stores.mongo_documents import Form, fields_of, form, same_content
from llmbench.stores.mongo_schema import BAD_DOCUMENT, DUPLICATE_KEY, FAILURES, PROBES, SAMPLES

_BAD_COMMAND = frozenset({15, 22, 10334})
"""Of `BAD_DOCUMENT`, the ones with which the server refuses a whole batch for it."""

_NO_FIELD = "llmbench_no_such_field"


class _Stored(msgspec.Struct, frozen=True):
    collection: str
    document: Document


def forms(items: Sequence[Envelope]) -> list[Form | Verdict]:
    """Return what is to be stored, and a verdict in the place of what can't be. Takes a while: not for the loop."""
    return [_form(item) for item in items]


def _form(item: Envelope) -> Form | Verdict:
    try:
        return form(item)
    except UnstorableError as error:
        return Verdict(item.outcome.id, "rejected", str(error))


async def put(database: Database, batch: Sequence[Form | Verdict], apart: Apart = in_a_thread) -> list[Verdict]:
    """Store a batch; see `llmbench.stores.base.Store.put`. Raises the driver's errors where nothing is known."""
    verdicts: dict[int, Verdict] = {number: one for number, one in enumerate(batch) if isinstance(one, Verdict)}
    while waiting := [number for number in range(len(batch)) if number not in verdicts]:
        # Of each id the first; what repeats it has to be compared with what is stored by then.
        first: dict[str, tuple[int, Form]] = {}
        for number in waiting:
            one = batch[number]
            if isinstance(one, Form):
                first.setdefault(one.outcome.id, (number, one))
        found = await _put_distinct(database, [one for _, one in first.values()], apart)
        verdicts.update({first[verdict.id][0]: verdict for verdict in found})
    return [verdicts[number] for number in range(len(batch))]


async def _put_distinct(database: Database, batch: Sequence[Form], apart: Apart) -> list[Verdict]:
    stored = await _stored(database, batch)
    faults = await _insert(database, [one for one in batch if one.key not in stored])
    repeated = [one for one in batch if faults.get(one.key, {}).get("code") == DUPLICATE_KEY]
    stored |= await _stored(database, repeated)
    await _confirm(database, stored)
    # Apart: comparing takes as long as encoding did.
    verdicts = await apart(_verdicts, batch, stored, faults)
    acknowledged = zip(batch, verdicts, strict=True)
    failures = [one.outcome for one, verdict in acknowledged if verdict.acknowledged]
    await mongo_counts.count(database, [one for one in failures if isinstance(one, Failure)])
    return verdicts


async def _stored(database: Database, batch: Sequence[Form]) -> dict[ObjectId, list[_Stored]]:
    """Return what is stored under the ids of these outcomes, in whatever collection; what others added is left out."""
    keys = await _known(database, [one.key for one in batch])
    if not keys:
        return {}
    matching: Document = {"$match": {"_id": {"$in": keys}}}

    def labelled(collection: str) -> list[Document]:
        compared: Document = {"$project": fields_of(Failure if collection == FAILURES else Sample)}
        return [matching, compared, {"$replaceWith": {"collection": collection, "document": "$$ROOT"}}]

    others = [{"$unionWith": {"coll": name, "pipeline": labelled(name)}} for name in (PROBES, FAILURES)]
    found: dict[ObjectId, list[_Stored]] = {}
    async for one in database[SAMPLES].aggregate([*labelled(SAMPLES), *others]):
        found.setdefault(one["document"]["_id"], []).append(_Stored(one["collection"], one["document"]))
    return found


async def _known(database: Database, keys: Sequence[ObjectId]) -> list[ObjectId]:
    """Return which of the keys are stored at all: mostly none, and asking for documents takes longer."""
    if not keys:
        return []
    wanted: list[Document] = [{"$match": {"_id": {"$in": keys}}}, {"$project": {"_id": 1}}]
    others = [{"$unionWith": {"coll": name, "pipeline": wanted}} for name in (PROBES, FAILURES)]
    found = await database[SAMPLES].aggregate([*wanted, *others]).to_list(None)
    return list({one["_id"] for one in found})


async def _confirm(database: Database, stored: Mapping[ObjectId, Sequence[_Stored]]) -> None:
    """Wait until what was found is as durable as what is inserted. Raises the driver's errors where it does not get so.

    Found it may be before a majority has it, after a put that failed for that reason. A write that changes nothing
    waits, under the write concern, for all that its server wrote before. Each id is named, as shards don't share that.
    """
    keys: dict[str, list[ObjectId]] = {}
    for key, documents in stored.items():
        for one in documents:
            keys.setdefault(one.collection, []).append(key)
    for collection, found in keys.items():
        await database[collection].update_many({"_id": {"$in": found}}, {"$unset": {_NO_FIELD: ""}})


def _verdicts(
    batch: Sequence[Form], stored: Mapping[ObjectId, Sequence[_Stored]], faults: Mapping[ObjectId, Document]
) -> list[Verdict]:
    return [_verdict(one, stored.get(one.key), faults.get(one.key)) for one in batch]


def _verdict(sent: Form, stored: Sequence[_Stored] | None, fault: Mapping[str, Any] | None) -> Verdict:
    outcome_id = sent.outcome.id
    if stored:
        if any(same_content(sent, one.document, one.collection) for one in stored):
            return Verdict(outcome_id, "duplicate")
        return Verdict(outcome_id, "conflict", f"{outcome_id!r} is stored with other content, which was kept")
    if fault is not None:
        return Verdict(outcome_id, "rejected", f"MongoDB refused the document: {fault.get('errmsg', fault)}"[:500])
    return Verdict(outcome_id, "stored")


async def _insert(database: Database, batch: Sequence[Form]) -> dict[ObjectId, Document]:
    """Insert documents, each on its own account; return what the server said of those that it did not take.

    The collections at once: each waits for the journal, which takes longer than the rest.
    """
    faults: dict[ObjectId, Document] = {}
    errors: list[PyMongoError | StoreError] = []

    async def insert(collection: str, part: Sequence[Form]) -> None:
        try:
            faults.update(await _insert_into(database, collection, part))
        except (PyMongoError, StoreError) as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for collection in (SAMPLES, PROBES, FAILURES):
            if part := [one for one in batch if one.collection == collection]:
                group.start_soon(insert, collection, part)
    if errors:
        raise errors[0]
    return faults


async def _insert_into(database: Database, collection: str, batch: Sequence[Form]) -> dict[ObjectId, Document]:
    # Encoded already: the driver passes the bytes on.
    inserts: list[Any] = [InsertOne(RawBSONDocument(one.encoded)) for one in batch]
    try:
        await database[collection].bulk_write(inserts, ordered=False)
    except BulkWriteError as error:
        return _faults(batch, error.details or {})
    except OperationFailure as error:
        if error.code not in _BAD_COMMAND:
            raise
        return await _insert_one_by_one(database, collection, batch, error)
    return {}


async def _insert_one_by_one(
    database: Database, collection: str, batch: Sequence[Form], error: OperationFailure
) -> dict[ObjectId, Document]:
    if len(batch) == 1:
        return {batch[0].key: {"code": error.code, "errmsg": str((error.details or {}).get("errmsg", error))}}
    faults: dict[ObjectId, Document] = {}
    for one in batch:
        faults |= await _insert_into(database, collection, [one])
    return faults


def _faults(batch: Sequence[Form], result: Mapping[str, Any]) -> dict[ObjectId, Document]:
    """Return the faults of single documents. Raises `StoreError` if one is not the document's own."""
    for unknown in result.get("writeConcernErrors", ()):
        raise StoreError(f"MongoDB can't say whether the batch is durable ({unknown.get('errmsg')}); try again")
    faults = {batch[one["index"]].key: one for one in result.get("writeErrors", ())}
    for fault in faults.values():
        if fault["code"] != DUPLICATE_KEY and fault["code"] not in BAD_DOCUMENT:
            raise StoreError(f"MongoDB did not take a part of the batch ({fault.get('errmsg')}); try again")
    return faults

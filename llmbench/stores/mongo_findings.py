"""A check of a MongoDB database. Nothing is made and nothing is changed: a missing index stays missing."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pymongo
from bson.objectid import ObjectId

from llmbench.stores import mongo_catalog, mongo_client, mongo_left_out, mongo_schema
from llmbench.stores.findings import Finding, Judge, fail, ok, warn
from llmbench.stores.mongo_client import Address, Database, Limits, store_errors
from llmbench.stores.mongo_schema import INDEXES, MODELS, ROLLUPS, IndexState

_MISSING = "nothing, llmbench makes it with its next start; if it is missing after that, the log says why"
_BUILDING = "wait: until the server has built it, questions are slow"


async def findings(address: Address, limits: Limits | None = None, *, judge: Judge | None = None) -> list[Finding]:
    """Return what is to be said of the database, and with ``judge`` of the rows of its enabled models.

    Raises `StoreUnusable` or `StoreError` if it can't be looked at.
    """
    limits = limits or Limits()
    client = await mongo_client.connect(address, limits)
    try:
        with store_errors(address):
            version = (await client.server_info())["version"]
            database, deployment = await mongo_client.database(client, address, limits)
            await mongo_schema.check_place(database, address)
            await _write_nothing(database, limits)
            states = await mongo_schema.inspect(database)
            doubles = await _duplicates(database)
            left_out = await mongo_left_out.findings(database, limits)
            models = await mongo_catalog.models(database, limits, None, True)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(client.close)
    return [
        ok("store", f"{address}: version {version}"),
        ok("writing", str(deployment)),
        *_place(address),
        *map(index_finding, states),
        *doubles,
        *left_out,
        *(judge(models) if judge is not None else ()),
    ]


def _place(address: Address) -> list[Finding]:
    other = mongo_client.passed_over(address)
    if other is None:
        return []
    told = f"{address.database!r} is used, {mongo_client.path_advice(address, other).partition('; ')[0]}"
    return [warn("database", told, f"set MONGODB_DB or store.mongo.database if {other!r} is meant")]


async def _write_nothing(database: Database, limits: Limits) -> None:
    """Have the server take a write that changes nothing: the right to, the journal and the majority are there."""
    with pymongo.timeout(limits.put):
        await database[MODELS].update_one({"_id": ObjectId()}, {"$set": {"notes": ""}})


def index_finding(state: IndexState) -> Finding:
    """Return what is to be said of an index."""
    check = f"index {state.collection}.{state.name}"
    if state.status == "ok":
        return ok(check, "is there")
    if state.status == "building":
        return warn(check, "is being built", _BUILDING)
    if state.status == "other":
        drop = f"in a quiet hour db.{state.collection}.dropIndex(…), then start llmbench, if nobody else needs it"
        return warn(check, (state.detail or "").partition(" was not made: ")[2] or "is another one", drop)
    return warn(check, "is missing", _MISSING)


async def _duplicates(database: Database) -> list[Finding]:
    """Return what is there more than once although it must not be."""
    found: list[Finding] = []
    for index in INDEXES:
        if not index.unique:
            continue
        names = await mongo_schema.duplicates(database, index)
        of = "enabled models" if index.collection == MODELS else f"documents of {index.collection}"
        if names:
            advice = "disable all but one" if index.collection == MODELS else "merge them by hand"
            fields = " and ".join(name for name, _ in index.keys)
            told = f"{of} with the same {fields}: {'; '.join(names)}"
            # Without its index a model may be measured twice and an error be counted twice; the rest is only read.
            problem = fail if index.collection in (MODELS, ROLLUPS) else warn
            found.append(problem("duplicates", told, f"{advice}, then start llmbench, which makes the index"))
        else:
            found.append(ok("duplicates", f"none among {of}"))
    return found

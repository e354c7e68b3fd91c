"""Counting failures into their rollups, each once, without transactions, which a standalone server does not have.

A failure is inserted with the mark ``uncounted``. Its rollup is then changed in one atomic step that raises the count
and notes the failure's id in ``counting``; then the mark goes, then the id goes out of ``counting``. Whatever crashes
in between, whoever comes next can tell what is left to do:

| the failure is marked | its id is in ``counting`` | what is left to do |
|---|---|---|
| yes | no | count it |
| yes | yes | it is counted: take the mark away, then the id |
| no | yes | take the id away |
| no | no | nothing; so it is with failures of earlier writers |

Several may do it at once. The atomic step applies only while ``count`` is what was read *before* the marks were.
Whoever counts raises it, and an id leaves ``counting`` only after its mark is gone; so if a failure was counted and
settled by someone else in the meantime, either its mark was seen to be gone or ``count`` is not what it was, and the
step is decided anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson.objectid import ObjectId
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError

from llmbench.messages import Failure
from llmbench.stores.base import StoreError
from llmbench.stores.mongo_client import Database, Document
from llmbench.stores.mongo_documents import UNCOUNTED, failure_of
from llmbench.stores.mongo_schema import DUPLICATE_KEY, FAILURES, ROLLUPS

logger = logging.getLogger(__name__)

COUNTING = "counting"
SAMPLE_MESSAGES = 3

_ROUNDS = 50
"""So often may others be faster. Each time at least one of them has succeeded, so this is no livelock."""

_LEFT_BEHIND = 1000

_Change = InsertOne[Document] | UpdateOne


async def count(database: Database, failures: Sequence[Failure]) -> None:
    """See to it that each of these stored failures is counted once. Raises `StoreError` if that can't be known."""
    for _ in range(_ROUNDS):
        if not failures or await _round(database, failures):
            return
    raise StoreError(f"collection {ROLLUPS!r} is changed by others faster than failures can be counted; try again")


async def left_behind(database: Database) -> list[Failure]:
    """Return failures that are marked still, since someone was killed before they were counted."""
    found = database[FAILURES].find({UNCOUNTED: True}, limit=_LEFT_BEHIND)
    failures = [failure_of(document) async for document in found]
    return [failure for failure in failures if ObjectId.is_valid(failure.id)]


async def _round(database: Database, failures: Sequence[Failure]) -> bool:
    """Take each failure as far as it goes; say whether all are settled now."""
    rollups = await _rollups(database, failures)
    counted = {key for rollup in rollups.values() for key in rollup.get(COUNTING) or ()}
    # After the rollups: see the module for why the order matters.
    marked = await _marked(database, {ObjectId(failure.id) for failure in failures})
    waiting = [failure for failure in failures if ObjectId(failure.id) in marked - counted]
    changes = _changes(rollups, waiting)
    applied = await _apply(database, changes)
    if applied < len(changes):
        return False
    await _settle(database, counted | {ObjectId(failure.id) for failure in waiting}, failures)
    return True


async def _rollups(database: Database, failures: Iterable[Failure]) -> dict[str, Document]:
    fingerprints = list({failure.fingerprint for failure in failures})
    fields = ["fingerprint", "count", "sample_messages", COUNTING]
    found = database[ROLLUPS].find({"fingerprint": {"$in": fingerprints}}, fields).sort("_id", -1)
    return {rollup["fingerprint"]: rollup async for rollup in found}  # of several, the oldest


async def _marked(database: Database, keys: Iterable[ObjectId]) -> set[ObjectId]:
    found = database[FAILURES].find({"_id": {"$in": list(keys)}, UNCOUNTED: True}, ["_id"])
    return {one["_id"] async for one in found}


def _changes(rollups: Mapping[str, Document], waiting: Iterable[Failure]) -> list[_Change]:
    by_fingerprint: dict[str, dict[str, Failure]] = {}
    for failure in waiting:
        by_fingerprint.setdefault(failure.fingerprint, {})[failure.id] = failure
    return [
        _change(rollups.get(fingerprint), list(failures.values())) for fingerprint, failures in by_fingerprint.items()
    ]


def _change(rollup: Mapping[str, Any] | None, failures: Sequence[Failure]) -> _Change:
    first, last = min(failure.ts for failure in failures), max(failure.ts for failure in failures)
    keys = [ObjectId(failure.id) for failure in failures]
    if rollup is None:
        one = failures[0]
        return InsertOne(
            {
                "fingerprint": one.fingerprint,
                "provider": one.provider,
                "model_name": one.model_name,
                "stage": one.stage,
                "error_kind": one.error_kind,
                "first_seen": first,
                "last_seen": last,
                "count": len(failures),
                "sample_messages": _messages([], failures),
                COUNTING: keys,
            }
        )
    # Single fields, so that a verdict kept in others outlives the counting. Failures may come late and out of order.
    known, was = _messages(rollup.get("sample_messages"), ()), rollup.get("count")
    return UpdateOne(
        {"_id": rollup["_id"], "count": was},
        {
            "$set": {"count": _number(was) + len(failures), "sample_messages": _messages(known, failures)},
            "$min": {"first_seen": first},
            "$max": {"last_seen": last},
            "$addToSet": {COUNTING: {"$each": keys}},
        },
    )


def _number(count: Any) -> int:
    return int(count) if isinstance(count, int | float) else 0


def _messages(known: Any, failures: Iterable[Failure]) -> list[str]:
    messages = [one for one in known if isinstance(one, str)] if isinstance(known, list) else []
    return list(dict.fromkeys([*messages, *(failure.message for failure in failures)]))[:SAMPLE_MESSAGES]


async def _apply(database: Database, changes: Sequence[_Change]) -> int:
    """Apply what still can be applied and return how many that were."""
    if not changes:
        return 0
    try:
        done = await database[ROLLUPS].bulk_write(changes, ordered=False)
    except BulkWriteError as error:
        result: Mapping[str, Any] = error.details or {}
        if result.get("writeConcernErrors") or any(one["code"] != DUPLICATE_KEY for one in result["writeErrors"]):
            raise
        return int(result["nMatched"] + result["nInserted"])  # someone else inserted the rollup first
    return done.matched_count + done.inserted_count


async def _settle(database: Database, counted: set[ObjectId], failures: Iterable[Failure]) -> None:
    """Take away first the marks, then the ids of failures that are counted."""
    if not counted:
        return
    keys = list(counted)
    await database[FAILURES].update_many({"_id": {"$in": keys}, UNCOUNTED: True}, {"$unset": {UNCOUNTED: ""}})
    fingerprints = list({failure.fingerprint for failure in failures})
    await database[ROLLUPS].update_many(
        {"fingerprint": {"$in": fingerprints}, COUNTING: {"$in": keys}}, {"$pullAll": {COUNTING: keys}}
    )

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

A new rollup's ``_id`` is derived from its fingerprint, so that of two who insert it one is refused, even where the
unique index could not be made. A rollup that the server does not take, because of an index or a validator of others,
costs only its own count: its failures stay marked and are tried again by the next program.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import anyio.to_thread
from bson.objectid import ObjectId
from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError

from llmbench.messages import Failure
from llmbench.stores.mongo_client import Database, Document
from llmbench.stores.mongo_documents import UNCOUNTED, derived_id, failure_of
from llmbench.stores.mongo_schema import BAD_DOCUMENT, DUPLICATE_KEY, FAILURES, ROLLUPS

logger = logging.getLogger(__name__)

COUNTING = "counting"
SAMPLE_MESSAGES = 3

_ROUNDS = 50
"""So often may others be faster. Each time at least one of them has succeeded, so this is no livelock."""

FIRST = object()
"""Where `sweep` begins."""

PAGE = 250
"""So many of the failures that were left uncounted are counted at a time: no more than a slow link takes."""

_COUNTED_BY = ("fingerprint", "provider", "model_name", "stage", "error_kind", "ts", "run_ts", "message")
_LARGEST = 2**62

_BAD_ROLLUP = BAD_DOCUMENT | {DUPLICATE_KEY, 14, 28, 66}
"""Codes that blame one rollup: besides those, a key of another's index, and fields of another type."""

_told: set[tuple[str, int]] = set()
"""Databases and codes of which the log has been told: a fault of this kind comes back with every batch."""

_Change = InsertOne[Document] | UpdateOne


class _Refusals:
    """Which fingerprints the server does not take a rollup of."""

    def __init__(self, database: str) -> None:
        self.fingerprints: set[str] = set()
        self._database = database
        self._collided: set[str] = set()

    def add(self, fingerprint: str, change: _Change, fault: Mapping[str, Any]) -> None:
        """Note a change that was refused. An insert may come second once; then the rollup is found."""
        if fault["code"] == DUPLICATE_KEY and isinstance(change, InsertOne) and fingerprint not in self._collided:
            self._collided.add(fingerprint)
            return
        self.fingerprints.add(fingerprint)
        if (self._database, fault["code"]) not in _told:
            _told.add((self._database, fault["code"]))
            logger.warning(
                "collection %r does not take the rollup of fingerprint %r (%s); such failures are stored, but not "
                "counted until it does and llmbench is started again",
                ROLLUPS,
                fingerprint,
                str(fault.get("errmsg"))[:500],
            )


async def count(database: Database, failures: Sequence[Failure]) -> None:
    """See to it that each of these stored failures is counted once, or stays marked. Raises the driver's errors."""
    refusals = _Refusals(database.name)
    for _ in range(_ROUNDS):
        left = [failure for failure in failures if failure.fingerprint not in refusals.fingerprints]
        if not left or await _round(database, left, refusals):
            return
    logger.warning("collection %r is changed by others faster than failures can be counted; they stay marked", ROLLUPS)


async def sweep(database: Database, after: Any) -> Any:
    """Count a page of failures that are marked still, since someone was killed before they were counted.

    Return where the next page begins, to be passed as ``after``; None after the last one. What can't be counted stays
    marked, and is passed by.
    """
    match: Document = {UNCOUNTED: True} | ({} if after is FIRST else {"_id": {"$gt": after}})
    found = database[FAILURES].find(match, _COUNTED_BY).sort("_id", 1).limit(PAGE)
    documents = await found.to_list(None)
    # In a thread: earlier writers' documents are read field by field.
    await count(database, await anyio.to_thread.run_sync(_failures, documents))
    return documents[-1]["_id"] if len(documents) == PAGE else None


def _failures(documents: Iterable[Document]) -> list[Failure]:
    failures = [failure_of(document) for document in documents]
    return [failure for failure in failures if ObjectId.is_valid(failure.id)]


async def _round(database: Database, failures: Sequence[Failure], refusals: _Refusals) -> bool:
    """Take each failure as far as it goes; say whether all are settled now."""
    rollups, counted = await _rollups(database, failures)
    # After the rollups: see the module for why the order matters.
    marked = await _marked(database, {ObjectId(failure.id) for failure in failures})
    waiting = [failure for failure in failures if ObjectId(failure.id) in marked - counted]
    changes = _changes(rollups, waiting)
    applied = await _apply(database, changes, refusals)
    if applied < len(changes):
        return False
    await _settle(database, counted | {ObjectId(failure.id) for failure in waiting}, failures)
    return True


async def _rollups(database: Database, failures: Iterable[Failure]) -> tuple[dict[str, Document], set[ObjectId]]:
    """Return the rollup of each fingerprint and what is in ``counting``.

    There may be several where they can't be kept unique: the first by ``_id`` is counted on, the ids are of all.
    """
    fingerprints = list({failure.fingerprint for failure in failures})
    fields = ["fingerprint", "count", "sample_messages", COUNTING]
    found = database[ROLLUPS].find({"fingerprint": {"$in": fingerprints}}, fields).sort("_id", -1)
    rollups, counted = dict[str, Document](), set[ObjectId]()
    async for rollup in found:
        rollups[rollup["fingerprint"]] = rollup
        noted = rollup.get(COUNTING)
        counted |= {key for key in noted if isinstance(key, ObjectId)} if isinstance(noted, list) else set()
    return rollups, counted


async def _marked(database: Database, keys: Iterable[ObjectId]) -> set[ObjectId]:
    found = database[FAILURES].find({"_id": {"$in": list(keys)}, UNCOUNTED: True}, ["_id"])
    return {one["_id"] async for one in found}


def _changes(rollups: Mapping[str, Document], waiting: Iterable[Failure]) -> dict[str, _Change]:
    """Return what is to be done, by fingerprint."""
    by_fingerprint: dict[str, dict[str, Failure]] = {}
    for failure in waiting:
        by_fingerprint.setdefault(failure.fingerprint, {})[failure.id] = failure
    return {
        fingerprint: _change(rollups.get(fingerprint), list(failures.values()))
        for fingerprint, failures in by_fingerprint.items()
    }


def rollup_id(fingerprint: str) -> ObjectId:
    return derived_id(fingerprint)


def _change(rollup: Mapping[str, Any] | None, failures: Sequence[Failure]) -> _Change:
    first, last = min(failure.ts for failure in failures), max(failure.ts for failure in failures)
    keys = [ObjectId(failure.id) for failure in failures]
    if rollup is None:
        one = failures[0]
        return InsertOne(
            {
                "_id": rollup_id(one.fingerprint),
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
    """Return a count as one that can be raised: others may have stored NaN, or more than 64 bits hold."""
    return int(min(count, _LARGEST)) if isinstance(count, int | float) and math.isfinite(count) else 0


def _messages(known: Any, failures: Iterable[Failure]) -> list[str]:
    messages = [one for one in known if isinstance(one, str)] if isinstance(known, list) else []
    return list(dict.fromkeys([*messages, *(failure.message for failure in failures)]))[:SAMPLE_MESSAGES]


async def _apply(database: Database, changes: Mapping[str, _Change], refusals: _Refusals) -> int:
    """Apply what still can be applied and return how many that were."""
    if not changes:
        return 0
    try:
        done = await database[ROLLUPS].bulk_write(list(changes.values()), ordered=False)
    except BulkWriteError as error:
        result: Mapping[str, Any] = error.details or {}
        faults = result["writeErrors"]
        if result.get("writeConcernErrors") or any(one["code"] not in _BAD_ROLLUP for one in faults):
            raise
        for fault in faults:
            fingerprint, change = list(changes.items())[fault["index"]]
            refusals.add(fingerprint, change, fault)
        return int(result["nMatched"] + result["nInserted"])
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

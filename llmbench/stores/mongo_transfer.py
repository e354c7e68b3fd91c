"""What moving everything out of MongoDB, or into it, takes beside `put`: pages, counts, whole rollups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
import msgspec
from pymongo.errors import DuplicateKeyError

from llmbench.messages import Envelope, Failure, Sample
from llmbench.stores.base import ErrorRollup, Page, Part, StoreError
from llmbench.stores.canonical import in_milliseconds
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_counts import SAMPLE_MESSAGES, rollup_id
from llmbench.stores.mongo_documents import failure_of, fields_of, plain, sample_of
from llmbench.stores.mongo_questions import rollup_of
from llmbench.stores.mongo_schema import FAILURES, PROBES, ROLLUPS, SAMPLES

_COLLECTIONS: dict[Part, str] = {"samples": SAMPLES, "probes": PROBES, "failures": FAILURES}
_BY_KEY = [("_id", 1)]

_ATTEMPTS = 50
"""So often may failures be counted in between."""


async def page(database: Database, limits: Limits, part: Part, after: Any, size: int) -> Page:
    """Return outcomes of a part in the order of their keys; see `llmbench.stores.base.Store.page`."""
    fields = fields_of(Failure if part == "failures" else Sample)
    cursor = database[_COLLECTIONS[part]].find({}, fields, max_time_ms=limits.question_milliseconds).sort(_BY_KEY)
    if after is not None:
        # Not $gt, which leaves out the keys of other types than this one's; earlier writers may have had several.
        cursor = cursor.min([("_id", after)]).hint(_BY_KEY)
    documents = await cursor.limit(size + 1).to_list(None)
    further = documents[size:]
    # Off the event loop: there may be many.
    items = await anyio.to_thread.run_sync(_envelopes, part, documents[:size])
    return Page(items, further[0]["_id"] if further else None)


def _envelopes(part: Part, documents: Sequence[Mapping[str, Any]]) -> list[Envelope]:
    if part == "failures":  # MongoDB does not keep whether one was of a published profile
        failures = [failure_of(document) for document in documents]
        return [Envelope(outcome=failure, publish=failure.sample_role == "scheduled") for failure in failures]
    return [Envelope(outcome=sample_of(document), publish=part == "samples") for document in documents]


async def counts(database: Database, limits: Limits) -> dict[Part, int]:
    """Return how many outcomes each part has."""
    return {
        part: await database[collection].estimated_document_count(maxTimeMS=limits.question_milliseconds)
        for part, collection in _COLLECTIONS.items()
    }


async def put_rollup(database: Database, rollup: ErrorRollup) -> bool:
    """Take over what a rollup tells; see `llmbench.stores.base.Store.put_rollup`.

    It keeps to the rule of `mongo_counts`: a rollup is changed only while its count is what was read.
    """
    rollup = in_milliseconds(rollup)
    for _ in range(_ATTEMPTS):
        found = database[ROLLUPS].find({"fingerprint": rollup.fingerprint}).sort("_id", 1).limit(1)
        known = await found.to_list(None)
        if not known:
            try:
                await database[ROLLUPS].insert_one({"_id": rollup_id(rollup.fingerprint), **_fields(rollup)})
            except DuplicateKeyError:
                continue  # a failure was counted first
            return True
        before = rollup_of(plain(known[0]))
        new = before.joined_with(rollup, SAMPLE_MESSAGES)
        if new == before:
            return False
        same = {"_id": known[0]["_id"], "count": known[0].get("count")}
        if (await database[ROLLUPS].update_one(same, {"$set": _changed(before, new)})).matched_count:
            return True
    raise StoreError(f"collection {ROLLUPS!r} is changed by others faster than a rollup can be put; try again")


def _fields(rollup: ErrorRollup) -> Document:
    return msgspec.structs.asdict(rollup)


def _changed(before: ErrorRollup, new: ErrorRollup) -> Document:
    was = _fields(before)
    return {name: value for name, value in _fields(new).items() if value != was[name]}

"""The collections and their indexes: which there are, how they come to be, what is wrong with those that are there.

An index is never dropped and never changed: the database may have other users. Every server that the driver speaks to
(4.4 and later) builds indexes without keeping readers or writers out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import pymongo
from pymongo import IndexModel
from pymongo.collation import Collation
from pymongo.errors import OperationFailure, PyMongoError

from llmbench.stores.base import StoreUnusable
from llmbench.stores.mongo_client import Address, Database, Document, Limits

logger = logging.getLogger(__name__)

SAMPLES = "metrics_cloud_v2"
PROBES = "metrics_cloud_probe"
FAILURES = "errors_cloud"
ROLLUPS = "error_rollups"
MODELS = "models"

ANY_CASE = Collation("en", strength=2)
"""Compares without regard to case."""

DUPLICATE_KEY = 11000


class Index(msgspec.Struct, frozen=True):
    """An index that llmbench wants; -1 in ``keys`` is descending."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    partial: Document | None = None
    any_case: bool = False

    def model(self) -> IndexModel:
        """Return it as the driver takes it."""
        options: dict[str, Any] = {"unique": True} if self.unique else {}
        if self.partial is not None:
            options["partialFilterExpression"] = self.partial
        if self.any_case:
            options["collation"] = ANY_CASE
        return IndexModel(list(self.keys), name=self.name, **options)

    def is_like(self, found: Mapping[str, Any]) -> bool:
        """Say whether an index that is there serves as well; its name does not matter."""
        return (
            self.has_keys_of(found)
            and self.unique == bool(found.get("unique"))
            and self.partial == found.get("partialFilterExpression")
            and self.any_case == _any_case(found.get("collation"))
            and not found.get("sparse")
            and not found.get("hidden")
        )

    def has_keys_of(self, found: Mapping[str, Any]) -> bool:
        return list(self.keys) == list(found["key"].items())


def _any_case(collation: Mapping[str, Any] | None) -> bool:
    return collation is not None and collation.get("locale") == "en" and collation.get("strength") == 2


class IndexState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an index. ``detail`` says in a sentence what is wrong, if something is.

    ``other``: one of its name or keys is there with other options, and was left alone. ``failed``: it can't be made.
    """

    collection: str
    name: str
    status: Literal["ok", "building", "missing", "other", "failed"]
    detail: str | None = None


_NEWEST = ("run_ts", -1)
_TOLD = ("ts", -1)  # earlier failures have no run_ts

SMALL = (
    Index(ROLLUPS, "llmbench_fingerprint", (("fingerprint", 1),), unique=True),
    Index(ROLLUPS, "llmbench_last_seen", (("last_seen", -1),)),
    Index(
        MODELS,
        "llmbench_enabled",
        (("provider", 1), ("model_id", 1)),
        unique=True,
        partial={"enabled": True},
        any_case=True,
    ),
)
"""Indexes of collections that stay small; two of them keep what may be there only once."""

LARGE = (
    *(
        index
        for name in (SAMPLES, PROBES)
        for index in (
            Index(name, "llmbench_model", (("provider", 1), ("model_name", 1), _NEWEST, ("sample_role", 1))),
            Index(name, "llmbench_provider", (("provider", 1), _NEWEST)),
            Index(name, "llmbench_time", (_NEWEST,)),
        )
    ),
    Index(FAILURES, "llmbench_model", (("provider", 1), ("model_name", 1), _NEWEST, _TOLD)),
    Index(FAILURES, "llmbench_provider", (("provider", 1), _NEWEST, _TOLD)),
    Index(FAILURES, "llmbench_time", (_NEWEST, _TOLD)),
    Index(FAILURES, "llmbench_uncounted", (("uncounted", 1),), partial={"uncounted": True}),
)
"""Indexes that may take a while on a database that has been in use for long."""

COLLECTIONS = (SAMPLES, PROBES, FAILURES, ROLLUPS, MODELS)


async def check_place(database: Database, address: Address) -> None:
    """Refuse a database in which one of the names is a view or a time series. Raises `StoreUnusable`.

    Their documents have no identity that is kept unique, so an outcome could be stored twice.
    """
    found = await database.list_collections(filter={"name": {"$in": list(COLLECTIONS)}, "type": {"$ne": "collection"}})
    for one in await found.to_list(None):
        raise StoreUnusable(
            f"{address} has {one['name']!r} as a {one['type']}, not as a collection; rename it, or choose another "
            "database with MONGODB_DB"
        )


async def make(database: Database, wanted: Iterable[Index], limits: Limits) -> list[IndexState]:
    """Make the indexes that are missing and say what became of each; what is wrong is logged, too."""
    states: list[IndexState] = []
    for collection, indexes in _by_collection(wanted).items():
        with pymongo.timeout(limits.build):
            states += await _make(database, collection, indexes)
    for state in states:
        if state.detail:
            logger.warning("%s", state.detail)
    return states


async def _make(database: Database, collection: str, indexes: Sequence[Index]) -> list[IndexState]:
    there = await _existing(database, collection)
    states = {index.name: _state(index, there) for index in indexes}
    missing = [index for index in indexes if states[index.name].status == "missing"]
    if missing:
        try:
            await database[collection].create_indexes([index.model() for index in missing])
            states.update({index.name: _ok(index) for index in missing})
        except PyMongoError:
            states.update({index.name: await _make_one(database, index) for index in missing})
    return list(states.values())


async def _make_one(database: Database, index: Index) -> IndexState:
    try:
        await database[index.collection].create_indexes([index.model()])
    except OperationFailure as error:
        return _state_of(index, "failed", f"can't be made ({await _reason(database, index, error)})")
    except PyMongoError as error:
        return _state_of(index, "failed", f"was not made ({type(error).__name__}); the next start tries again")
    return _ok(index)


async def _reason(database: Database, index: Index, error: OperationFailure) -> str:
    if error.code != DUPLICATE_KEY:
        return f"{(error.details or {}).get('errmsg', error)}"
    names = "; ".join(await _duplicates(database, index))
    return f"what it would keep unique is there more than once: {names}; nothing was changed: disable or merge them"


async def _duplicates(database: Database, index: Index) -> list[str]:
    """Return what stands in the way of a unique index, at most ten of it."""
    fields = [name for name, _ in index.keys]
    pipeline: list[Document] = [
        {"$match": index.partial or {}},
        {"$group": {"_id": {name: f"${name}" for name in fields}, "count": {"$sum": 1}}},
        {"$match": {"count": {"$gt": 1}}},
        {"$sort": {"_id": 1}},
        {"$limit": 10},
    ]
    options: dict[str, Any] = {"collation": ANY_CASE} if index.any_case else {}
    found = database[index.collection].aggregate(pipeline, **options)
    return ["/".join(str(one["_id"].get(name)) for name in fields) async for one in found]


async def inspect(database: Database, limits: Limits, *, building: bool) -> list[IndexState]:
    """Return the state of every index, making none; ``building`` says that this store is still at the large ones."""
    states: list[IndexState] = []
    for collection, indexes in _by_collection((*SMALL, *LARGE)).items():
        with pymongo.timeout(limits.question):
            there = await _existing(database, collection)
        states += [_state(index, there) for index in indexes]
    if not building:
        return states
    large = {(index.collection, index.name) for index in LARGE}
    return [
        msgspec.structs.replace(state, status="building") if (state.collection, state.name) in large else state
        for state in states
    ]


async def _existing(database: Database, collection: str) -> list[Mapping[str, Any]]:
    return [found async for found in database[collection].list_indexes()]


def _state(index: Index, there: Sequence[Mapping[str, Any]]) -> IndexState:
    if any(index.is_like(found) for found in there):
        return _ok(index)
    for found in there:
        if found["name"] == index.name or (index.has_keys_of(found) and not index.any_case):
            return _state_of(
                index, "other", f"was not made: {found['name']!r} is there with other keys or options, and was left so"
            )
    return _state_of(index, "missing")


def _ok(index: Index) -> IndexState:
    return _state_of(index, "ok")


def _state_of(
    index: Index, status: Literal["ok", "building", "missing", "other", "failed"], detail: str | None = None
) -> IndexState:
    sentence = f"index {index.name!r} of {index.collection!r} {detail}" if detail else None
    return IndexState(collection=index.collection, name=index.name, status=status, detail=sentence)


def _by_collection(indexes: Iterable[Index]) -> dict[str, list[Index]]:
    found: dict[str, list[Index]] = {}
    for index in indexes:
        found.setdefault(index.collection, []).append(index)
    return found

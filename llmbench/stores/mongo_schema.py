"""The collections and their indexes: which there are, how they come to be, what is wrong with those that are there.

An index is never dropped and never changed: the database may have other users. Every server that the driver speaks to
(4.4 and later) builds indexes without keeping readers or writers out.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from pymongo import IndexModel
from pymongo.collation import Collation
from pymongo.errors import NetworkTimeout, OperationFailure

from llmbench.stores.base import StoreUnusable
from llmbench.stores.mongo_client import Address, Database, Document, without_command

SAMPLES = "metrics_cloud_v2"
PROBES = "metrics_cloud_probe"
FAILURES = "errors_cloud"
ROLLUPS = "error_rollups"
MODELS = "models"
LEASES = "leases"
CATALOG = "provider_catalog"
DISCOVERIES = "bench_discovery_runs"
STATUSES = "model_status"
SNAPSHOTS = "deprecation_snapshots"

ANY_CASE = Collation("en", strength=2)
"""Compares without regard to case."""

DUPLICATE_KEY = 11000
BAD_DOCUMENT = frozenset({2, 15, 22, 52, 55, 57, 121, 10334, 17280, 17419, 17420})
"""Codes that blame one document: not valid, nested too deep, a refused name, refused by a validator, too large."""

_ALREADY_BUILDING = 285


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

    ``building``: the server is at it; until it has ended, questions that need the index are slow.
    ``other``: one of its name or keys is there with other options, and was left alone. ``failed``: it can't be made.
    """

    collection: str
    name: str
    status: Literal["ok", "building", "missing", "other", "failed"]
    detail: str | None = None


_NEWEST = ("run_ts", -1)
_TOLD = ("ts", -1)  # earlier failures have no run_ts

INDEXES = (
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
    *(
        index
        for name in (SAMPLES, PROBES)
        for index in (
            Index(name, "llmbench_model", (("provider", 1), ("model_name", 1), _NEWEST, ("sample_role", 1))),
            Index(name, "llmbench_provider", (("provider", 1), _NEWEST)),
            # Figures of a window are summed up from this index alone.
            Index(
                name,
                "llmbench_figures",
                (
                    *(_NEWEST, ("provider", 1), ("model_name", 1)),
                    *(("tokens_per_second", 1), ("time_to_first_token", 1)),
                ),
            ),
        )
    ),
    Index(FAILURES, "llmbench_model", (("provider", 1), ("model_name", 1), _NEWEST, _TOLD)),
    Index(FAILURES, "llmbench_provider", (("provider", 1), _NEWEST, _TOLD)),
    Index(
        FAILURES,
        "llmbench_errors",
        (_NEWEST, _TOLD, ("provider", 1), ("model_name", 1), ("error_kind", 1), ("fingerprint", 1)),
    ),
    Index(FAILURES, "llmbench_uncounted", (("uncounted", 1),), partial={"uncounted": True}),
    *(
        Index(name, "llmbench_model", (("provider", 1), ("model_id", 1)), unique=True, any_case=True)
        for name in (CATALOG, STATUSES)
    ),
    Index(
        SNAPSHOTS,
        "llmbench_model",
        (("provider", 1), ("model_id", 1), ("deprecation_date", 1)),
        unique=True,
        any_case=True,
    ),
    Index(DISCOVERIES, "llmbench_provider", (("provider", 1), ("started_at", -1)), any_case=True),
    Index(DISCOVERIES, "llmbench_newest", (("started_at", -1),)),
)

COLLECTIONS = (SAMPLES, PROBES, FAILURES, ROLLUPS, MODELS, LEASES, CATALOG, DISCOVERIES, STATUSES, SNAPSHOTS)
_LASTING = (SAMPLES, PROBES, FAILURES, ROLLUPS)


async def check_place(database: Database, address: Address) -> None:
    """Refuse a database in which one of the names is a view, a time series or capped. Raises `StoreUnusable`.

    Documents of the first two have no identity that is kept unique, so an outcome could be stored twice; a capped
    collection drops what was acknowledged.
    """
    odd: Document = {"$or": [{"type": {"$ne": "collection"}}, {"options.capped": True, "name": {"$in": _LASTING}}]}
    found = await database.list_collections(filter={"name": {"$in": COLLECTIONS}, **odd})
    for one in await found.to_list(None):
        kind = one["type"] if one["type"] != "collection" else "capped collection, which drops its oldest documents"
        raise StoreUnusable(
            f"{address} has {one['name']!r} as a {kind}, not as a collection; rename it, or choose another "
            "database with MONGODB_DB"
        )


async def inspect(database: Database) -> list[IndexState]:
    """Return the state of every index, making none."""
    states: list[IndexState] = []
    for collection, indexes in _by_collection(INDEXES).items():
        there = [found async for found in database[collection].list_indexes()]
        building = await _building(database, collection) if there else set()
        states += [_state(index, there, building) for index in indexes]
    return states


async def _building(database: Database, collection: str) -> set[str]:
    try:
        stats = database[collection].aggregate([{"$indexStats": {}}])
        return {one["name"] async for one in stats if one.get("building")}
    except OperationFailure:
        # The user may not ask (not every role may, and services refuse in words of their own). It is only for show.
        return set()


async def make(database: Database, states: Iterable[IndexState]) -> list[IndexState]:
    """Make the indexes whose state is "missing" and return what became of those.

    The server builds on when the driver's ``socketTimeoutMS`` has passed: then the index is "building". Of a connection
    that is lost, the driver's errors are raised.
    """
    missing = {(state.collection, state.name) for state in states if state.status == "missing"}
    wanted = [index for index in INDEXES if (index.collection, index.name) in missing]
    return [
        state
        for collection, indexes in _by_collection(wanted).items()
        for state in await _make(database, collection, indexes)
    ]


async def _make(database: Database, collection: str, indexes: Sequence[Index]) -> list[IndexState]:
    try:
        await database[collection].create_indexes([index.model() for index in indexes])
    except NetworkTimeout:
        return [_state_of(index, "building") for index in indexes]
    except OperationFailure as error:
        if len(indexes) > 1:
            return [state for index in indexes for state in await _make(database, collection, [index])]
        return [await _unmade(database, indexes[0], error)]
    return [_state_of(index, "ok") for index in indexes]


async def _unmade(database: Database, index: Index, error: OperationFailure) -> IndexState:
    if error.code == _ALREADY_BUILDING:
        return _state_of(index, "building")
    return _state_of(index, "failed", f"can't be made ({await _reason(database, index, error)})")


async def _reason(database: Database, index: Index, error: OperationFailure) -> str:
    if error.code != DUPLICATE_KEY:
        return without_command(f"{(error.details or {}).get('errmsg', error)}")
    names = "; ".join(await duplicates(database, index))
    return f"what it would keep unique is there more than once: {names}; nothing was changed: disable or merge them"


async def duplicates(database: Database, index: Index) -> list[str]:
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
    return ["/".join(_told(one["_id"].get(name)) for name in fields) async for one in found]


def _told(value: object) -> str:
    return "(not set)" if value is None else str(value)


def _state(index: Index, there: Sequence[Mapping[str, Any]], building: Container[str]) -> IndexState:
    for found in there:
        if index.is_like(found):
            return _state_of(index, "building" if found["name"] in building else "ok")
    for found in there:
        if found["name"] == index.name or (index.has_keys_of(found) and not index.any_case):
            return _state_of(
                index, "other", f"was not made: {found['name']!r} is there with other keys or options, and was left so"
            )
    return _state_of(index, "missing")


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

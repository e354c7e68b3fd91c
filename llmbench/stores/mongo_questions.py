"""What is asked of stored outcomes in MongoDB. Every question is answered by indexes, however many documents there are.

Case does not matter in names: first the spellings that occur are looked up, which takes one step in an index for each,
then documents are asked for by exact spelling. Documents of earlier writers count, too; their failures have no
``run_ts``, and ``ts`` stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec

from llmbench.messages import Failure, Outcome, Sample
from llmbench.naming import Key, fold, folded
from llmbench.stores.base import ErrorRollup, ModelHistory, OutcomeQuery
from llmbench.stores.counted import UNDATED
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_documents import failure_of, fields_of, plain, sample_of
from llmbench.stores.mongo_schema import FAILURES, PROBES, ROLLUPS, SAMPLES
from llmbench.stores.mongo_windows import NAME, NAMED, Window, windows, within

_OURS = ["local", "internal"]
_ROLES: Document = {"$in": ["scheduled", "demo", None]}  # earlier documents say no role
_SEEN = ("first_seen", "last_seen")
_AT_ONCE = 100
"""So many small questions go into one request."""

_KINDS = {"samples": (SAMPLES, PROBES), "failures": (FAILURES,), "all": (SAMPLES, PROBES, FAILURES)}
_READERS: dict[str, Callable[[Mapping[str, Any]], Outcome]] = {
    SAMPLES: sample_of,
    PROBES: sample_of,
    FAILURES: failure_of,
}

Part = tuple[str, list[Document]]
"""A collection and a pipeline on it."""


def part(collection: str, *stages: Document) -> Part:
    return collection, list(stages)


class Spelling(NamedTuple):
    """A model as some documents of a collection name it."""

    collection: str
    provider: str
    model: str

    @property
    def match(self) -> Document:
        return {"provider": self.provider, "model_name": self.model}

    @property
    def folded(self) -> Key:
        return folded(self.provider, self.model)


class _Run(msgspec.Struct, frozen=True):
    """The newest run of a spelling that is of interest."""

    spelling: Spelling
    when: datetime
    document: Document


async def together(database: Database, limits: Limits, parts: Sequence[Part]) -> list[Document]:
    """Return what all pipelines give, in as few requests as is reasonable."""
    found: list[Document] = []
    for start in range(0, len(parts), _AT_ONCE):
        (collection, pipeline), *others = parts[start : start + _AT_ONCE]
        union = [{"$unionWith": {"coll": name, "pipeline": other}} for name, other in others]
        answer = database[collection].aggregate([*pipeline, *union], maxTimeMS=limits.question_milliseconds)
        found += await answer.to_list(None)
    return found


def grouped(match: Document, date: str, fields: Iterable[str]) -> list[Document]:
    """Return the stages that count documents by these fields, and tell the newest ``date`` of each group."""
    together = {name: f"${name}" for name in fields}
    return [{"$match": match}, {"$group": {"_id": together, "count": {"$sum": 1}, "last": {"$max": f"${date}"}}}]


async def rows(
    database: Database, limits: Limits, collection: str, pipeline: Sequence[Document]
) -> list[Mapping[str, Any]]:
    """Return what a pipeline gives; a large one may use the server's disk."""
    answer = database[collection].aggregate(list(pipeline), maxTimeMS=limits.question_milliseconds, allowDiskUse=True)
    return list(await answer.to_list(None))


async def providers_in(database: Database, limits: Limits, collections: Iterable[str]) -> list[tuple[str, str]]:
    parts = [
        part(name, {"$group": {"_id": "$provider"}}, {"$project": {"collection": {"$literal": name}}})
        for name in collections
    ]
    found = await together(database, limits, parts)
    return [(one["collection"], one["_id"]) for one in found if _is_name(one["_id"])]


async def spellings_in(database: Database, limits: Limits, providers: Iterable[tuple[str, str]]) -> list[Spelling]:
    parts = [
        part(
            collection,
            {"$match": {"provider": provider}},
            {"$group": {"_id": "$model_name"}},
            {"$project": {"collection": {"$literal": collection}, "provider": {"$literal": provider}}},
        )
        for collection, provider in providers
    ]
    found = await together(database, limits, parts)
    return [Spelling(one["collection"], one["provider"], one["_id"]) for one in found if _is_name(one["_id"])]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


# outcomes


async def outcomes(database: Database, limits: Limits, query: OutcomeQuery) -> list[Outcome]:
    """Return the outcomes that the query names, newest first."""
    if query.limit == 0:
        return []
    conditions = await names(database, limits, query)
    found = [
        (collection, document)
        for collection, match in conditions.items()
        for document in await _newest(database[collection], match, query, limits, earlier=collection == FAILURES)
    ]
    # Off the event loop: there may be many.
    return await anyio.to_thread.run_sync(_sorted, found, query.limit)


def _sorted(found: Iterable[tuple[str, Document]], limit: int | None) -> list[Outcome]:
    read = [_READERS[collection](document) for collection, document in found]
    return sorted(read, key=lambda outcome: outcome.run_ts, reverse=True)[:limit]


async def names(database: Database, limits: Limits, query: OutcomeQuery) -> dict[str, Document]:
    """Return for each collection that may hold what is asked for the condition on the names."""
    collections = _KINDS[query.kind]
    if query.provider is None and query.model is None:
        return dict.fromkeys(collections, NAMED)
    providers = [
        (collection, name)
        for collection, name in await providers_in(database, limits, collections)
        if query.provider is None or fold(name) == fold(query.provider)
    ]
    found: dict[str, list[Document]] = {}
    if query.model is None:
        for collection, name in providers:
            found.setdefault(collection, []).append({"provider": name, "model_name": NAME})
    else:
        for spelling in await spellings_in(database, limits, providers):
            if fold(spelling.model) == fold(query.model):
                found.setdefault(spelling.collection, []).append(spelling.match)
    return {collection: matches[0] if len(matches) == 1 else {"$or": matches} for collection, matches in found.items()}


async def _newest(
    collection: Any, match: Document, query: OutcomeQuery, limits: Limits, *, earlier: bool
) -> list[Document]:
    fields = fields_of(Failure if earlier else Sample)
    found: list[Document] = []
    for window in windows(query.since) if earlier else [Window("run_ts", {"run_ts": within(query.since)})]:
        cursor = collection.find({**match, **window.condition}, fields, max_time_ms=limits.question_milliseconds)
        cursor = cursor.sort(window.date, -1)
        found += await cursor.limit(query.limit or 0).to_list(None)
    return found


# histories


async def history(database: Database, limits: Limits) -> list[ModelHistory]:
    """Return the past of every model, by a few steps in an index for each, however many documents there are."""
    providers = await providers_in(database, limits, _KINDS["all"])
    spellings = {repr(one): one for one in await spellings_in(database, limits, providers)}
    parts = [part for key, one in spellings.items() for part in _last_runs(key, one)]
    pasts: dict[tuple[str, str], _Past] = {}
    for document in await together(database, limits, parts):
        spelling, when = spellings[document["key"]], plain(document.get("run_ts") or document.get("ts"))
        if isinstance(when, datetime):
            pasts.setdefault(spelling.folded, _Past()).add(_Run(spelling, when, plain(document)))
    await _count_failures(database, limits, list(spellings.values()), pasts)
    return [past.told() for past in pasts.values()]


def _last_runs(key: str, spelling: Spelling) -> list[Part]:
    fields: Document = {"_id": 0, "key": {"$literal": key}, "run_ts": 1, "ts": 1, "error_kind": 1, "retry_after": 1}

    def last(window: Window) -> Part:
        newest: list[Document] = [{"$sort": {window.date: -1}}, {"$limit": 1}, {"$project": fields}]
        match = {**spelling.match, "sample_role": _ROLES, **window.condition}
        return part(spelling.collection, {"$match": match}, *newest)

    return [last(window) for window in windows(None)[: 2 if spelling.collection == FAILURES else 1]]


class _Past:
    """What the last runs of a model's spellings add up to."""

    def __init__(self) -> None:
        self._success: _Run | None = None
        self._failure: _Run | None = None
        self.failures_in_a_row = 0

    def add(self, run: _Run) -> None:
        if run.spelling.collection == FAILURES:
            self._failure = _newer(self._failure, run)
        else:
            self._success = _newer(self._success, run)

    @property
    def last_success(self) -> datetime | None:
        return self._success.when if self._success else None

    @property
    def failing(self) -> _Run | None:
        """The newest failure, if nothing succeeded since."""
        if self._failure and (self._success is None or self._failure.when > self._success.when):
            return self._failure
        return None

    def told(self) -> ModelHistory:
        newest = self.failing or self._success
        assert newest is not None, "a past begins with a run"
        past = ModelHistory(
            provider=newest.spelling.provider, model_id=newest.spelling.model, last_success=self.last_success
        )
        if self.failing is None:
            return past
        kind, retry_after = (self.failing.document.get(name) for name in ("error_kind", "retry_after"))
        return msgspec.structs.replace(
            past,
            failures_in_a_row=self.failures_in_a_row,
            last_failure=self.failing.when,
            last_failure_kind=kind if isinstance(kind, str) else "unknown",
            last_failure_retry_after=float(retry_after) if isinstance(retry_after, int | float) else None,
        )


def _newer(one: _Run | None, other: _Run) -> _Run:
    return other if one is None or other.when > one.when else one


async def _count_failures(
    database: Database, limits: Limits, spellings: Iterable[Spelling], pasts: Mapping[tuple[str, str], _Past]
) -> None:
    """Count, for each model that is failing, the failures since its last success."""
    parts = [
        part
        for spelling in spellings
        if spelling.collection == FAILURES and (past := pasts.get(spelling.folded)) and past.failing
        for part in _failures_since(spelling, past.last_success)
    ]
    for one in await together(database, limits, parts):
        pasts[one["provider"], one["model"]].failures_in_a_row += one["count"]


def _failures_since(spelling: Spelling, since: datetime | None) -> list[Part]:
    match = {**spelling.match, "sample_role": _ROLES, "error_kind": {"$nin": _OURS}}
    provider, model = spelling.folded
    named = {"_id": 0, "count": 1, "provider": {"$literal": provider}, "model": {"$literal": model}}
    after = None if since is None else since + timedelta(milliseconds=1)
    return [
        part(FAILURES, {"$match": match | window.condition}, {"$count": "count"}, {"$project": named})
        for window in windows(after)
    ]


# rollups


async def rollups(database: Database, limits: Limits, since: datetime | None) -> list[ErrorRollup]:
    """Return the rollups last seen since then, most frequent first."""
    seen: Document = {} if since is None else {"last_seen": {"$gte": since}}
    cursor = database[ROLLUPS].find(seen, max_time_ms=limits.question_milliseconds)
    found = [rollup_of(plain(document)) for document in await cursor.to_list(None)]
    return sorted(found, key=lambda one: (-one.count, -one.last_seen.timestamp(), one.fingerprint))


def rollup_of(document: Mapping[str, Any]) -> ErrorRollup:
    """Return a rollup as far as a document tells it."""
    first, last = (when if isinstance(when := document.get(name), datetime) else None for name in _SEEN)
    count, messages = document.get("count"), document.get("sample_messages")
    return ErrorRollup(
        fingerprint=str(document.get("fingerprint", "")),
        provider=str(document.get("provider", "")),
        model_name=str(document.get("model_name", "")),
        stage=str(document.get("stage", "")),
        error_kind=str(document.get("error_kind", "unknown")),
        first_seen=first or last or UNDATED,
        last_seen=last or first or UNDATED,
        count=int(count) if isinstance(count, int | float) else 0,
        sample_messages=[str(one) for one in messages] if isinstance(messages, list) else [],
    )

"""Documents that count in no answer, and rows that are no models: how many there are, for whoever has to mend them.

Each is counted in an index, but failures that say neither when they were nor what they were of: those are fetched.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from llmbench.stores.counted import FIRST, end
from llmbench.stores.findings import Finding, LeftOut, answers, ok, warn
from llmbench.stores.mongo_catalog import UNREADABLE
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_documents import plain
from llmbench.stores.mongo_schema import FAILURES, MODELS, PROBES, SAMPLES
from llmbench.stores.mongo_windows import NAME

_NO_NAME: Document = {"$not": NAME}
_UNNAMED: tuple[Document, ...] = ({"provider": _NO_NAME}, {"provider": NAME, "model_name": _NO_NAME})

_NO_DATE: Document = {"$not": {"$gte": FIRST}}
_UNDATED: tuple[Document, ...] = ({"run_ts": _NO_DATE},)
_UNDATED_FAILURES: tuple[Document, ...] = (
    {"run_ts": {**_NO_DATE, "$ne": None}},
    {"run_ts": None, "ts": _NO_DATE},
)

_ODD_ENABLED: Document = {"enabled": {"$ne": None, "$not": {"$type": "bool"}}}
_NAMED_AT_MOST = 10


async def findings(database: Database, limits: Limits) -> list[Finding]:
    """Return what is to be said of documents that count nowhere. Raises the driver's errors."""
    found = [await _left_out(database, limits, collection) for collection in (SAMPLES, PROBES, FAILURES)]
    return [*answers(found), *await _models(database, limits)]


async def _left_out(database: Database, limits: Limits, collection: str) -> LeftOut:
    ahead: Document = {"$gte": end()}
    failures = collection == FAILURES
    late: list[Document] = [{"run_ts": ahead}, *([{"run_ts": None, "ts": ahead}] if failures else [])]
    future = await _count(database, limits, collection, *late)
    newest = await database[collection].find_one(late[0], sort=[("run_ts", -1)]) if future else None
    return LeftOut(
        of=collection,
        unnamed=await _count(database, limits, collection, *_UNNAMED),
        undated=await _count(database, limits, collection, *(_UNDATED_FAILURES if failures else _UNDATED)),
        future=future,
        newest=_date((newest or {}).get("run_ts")),
        runner=str((newest or {}).get("runner_id", "")) or None,
    )


def _date(value: Any) -> datetime | None:
    found = plain(value)
    return found if isinstance(found, datetime) else None


async def _count(database: Database, limits: Limits, collection: str, *conditions: Document) -> int:
    found = 0
    for one in conditions:
        found += await database[collection].count_documents(one, maxTimeMS=limits.question_milliseconds)
    return found


async def _models(database: Database, limits: Limits) -> list[Finding]:
    found: list[Finding] = []
    if nameless := await _count(database, limits, MODELS, UNREADABLE):
        keys = [repr(one["_id"]) async for one in database[MODELS].find(UNREADABLE, ["_id"]).limit(_NAMED_AT_MOST)]
        told = f"{nameless} documents of {MODELS} name no provider or no model_id: {_list(keys, nameless)}"
        found.append(warn("models", f"{told}; they are passed over", "give them both, as text, or delete them"))
    if odd := await _count(database, limits, MODELS, _ODD_ENABLED):
        rows = database[MODELS].find(_ODD_ENABLED, ["provider", "model_id"]).limit(_NAMED_AT_MOST)
        names = [f"{one.get('provider')}/{one.get('model_id')}" async for one in rows]
        told = f"{odd} have an 'enabled' that is neither true nor false, and are not measured: {_list(names, odd)}"
        found.append(warn("models", told, "llmbench models enable or disable sets it"))
    return found or [ok("models", f"all documents of {MODELS} can be read")]


def _list(names: list[str], count: int) -> str:
    return ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")

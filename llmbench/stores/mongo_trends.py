"""How figures went over time, in MongoDB: the server gathers the figures of each part, medians are taken here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import anyio.to_thread

from llmbench.stores.base import OutcomeQuery
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_figures import numbers
from llmbench.stores.mongo_questions import names, rows
from llmbench.stores.mongo_schema import FAILURES, PROBES, SAMPLES
from llmbench.stores.mongo_windows import windows, within
from llmbench.stores.trends import Bucket, Collected, Trend, TrendQuery

_FIGURES: Document = {"speeds": {"$push": "$tokens_per_second"}, "first": {"$push": "$time_to_first_token"}}


async def trends(database: Database, limits: Limits, query: TrendQuery) -> list[Trend]:
    """Collect the runs since then; see `llmbench.stores.base.Store.trends`."""
    named = OutcomeQuery(since=query.since, provider=query.provider, model=query.model)
    conditions = await names(database, limits, named)
    collected = Collected(query)
    for collection in (SAMPLES, PROBES):
        if collection in conditions:
            match = {"run_ts": within(query.since), **conditions[collection]}
            for row in await rows(database, limits, collection, parts(query, match, "run_ts", _FIGURES)):
                _take_successes(_bucket(collected, row), row)
    if FAILURES in conditions:
        for window in windows(query.since):
            match = {**window.condition, **conditions[FAILURES]}
            for row in await rows(database, limits, FAILURES, parts(query, match, window.date, {})):
                _bucket(collected, row).failures += row["count"]
    # Off the event loop: there may be a million figures to be sorted.
    return await anyio.to_thread.run_sync(collected.trends)


def parts(query: TrendQuery, match: Document, date: str, figures: Document) -> list[Document]:
    """Return the stages that count the runs of each part, and gather their ``figures``."""
    milliseconds = {"$subtract": [f"${date}", query.since]}
    part = {"$floor": {"$divide": [milliseconds, query.width // timedelta(milliseconds=1)]}}
    key: Document = {"provider": "$provider", "part": part}
    if query.provider is not None:
        key["model_name"] = "$model_name"
    return [{"$match": match}, {"$group": {"_id": key, "count": {"$sum": 1}, **figures}}]


def _bucket(collected: Collected, row: Mapping[str, Any]) -> Bucket:
    key = row["_id"]
    return collected.parts(key["provider"], key.get("model_name", ""))[int(key["part"])]


def _take_successes(bucket: Bucket, row: Mapping[str, Any]) -> None:
    bucket.successes += row["count"]
    bucket.speeds += numbers(row["speeds"])
    bucket.first_tokens += numbers(row["first"])

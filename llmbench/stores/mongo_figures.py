"""Counts and figures of many runs in MongoDB, taken from the indexes ``llmbench_figures`` and ``llmbench_errors``.

For one provider or model the server may fetch its samples instead, which takes about as long.

MongoDB 6.0 has no ``$percentile``, and its own would be an estimate: the server gathers each model's figures, and
percentiles are taken here, as everywhere in llmbench.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import anyio.to_thread

from llmbench.naming import folded
from llmbench.stores.base import ModelSummary, ModelTally, OutcomeQuery
from llmbench.stores.figures import Last, Runs, summaries_of, tallies_of
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_documents import plain
from llmbench.stores.mongo_questions import Part, grouped, names, part, providers_in, rows, spellings_in, together
from llmbench.stores.mongo_schema import FAILURES, PROBES, SAMPLES
from llmbench.stores.mongo_windows import NAMED, Window, windows, within

_MODEL = ("provider", "model_name")
_NAMES: Document = {name: f"${name}" for name in _MODEL}
_MOST_SLICES = 60
_FIGURES: Document = {"speeds": {"$push": "$tokens_per_second"}, "first": {"$push": "$time_to_first_token"}}

Models = dict[tuple[str, str], Runs]
"""Runs by provider and model in lower case."""


async def tallies(database: Database, limits: Limits, since: datetime | None) -> list[ModelTally]:
    """Count the runs since then; see `llmbench.stores.base.Store.tallies`."""
    models: Models = {}
    match: Document = {"run_ts": within(since), **NAMED}
    for collection in (SAMPLES, PROBES):
        for row in await rows(database, limits, collection, grouped(match, "run_ts", _MODEL)):
            _take_successes(models, row)
    await _take_failures(database, limits, models, windows(since), NAMED)
    await _find_earlier_successes(database, limits, models)
    return tallies_of(models.values())


async def summary(
    database: Database, limits: Limits, query: OutcomeQuery, until: datetime | None = None
) -> list[ModelSummary]:
    """Sum up the runs of a window; see `llmbench.stores.base.Store.summary`."""
    conditions = await names(database, limits, query)
    window = within(query.since, until)
    models: Models = {}
    for collection in (SAMPLES, PROBES):
        if collection in conditions:
            for part_of_window in await _slices(database, limits, collection, window):
                match = {"run_ts": part_of_window, **conditions[collection]}
                for row in await rows(database, limits, collection, gathered(match)):
                    _take_figures(_take_successes(models, row), row)
    if FAILURES in conditions:
        await _take_failures(database, limits, models, windows(query.since, until), conditions[FAILURES])
    # Off the event loop: there may be a million figures to be sorted.
    return await anyio.to_thread.run_sync(summaries_of, models.values())


def gathered(match: Document) -> list[Document]:
    """Return the stages that count each model's runs and gather their figures."""
    match_stage, group_stage = grouped(match, "run_ts", _MODEL)
    return [match_stage, {"$group": {**group_stage["$group"], **_FIGURES}}]


async def _slices(database: Database, limits: Limits, collection: str, window: Document) -> list[Document]:
    """Cut the window into days, or into `_MOST_SLICES` longer parts: an answer holds no more than 16 MB for a model."""
    edges = [await _edge(database, limits, collection, window, direction) for direction in (1, -1)]
    times = [document["run_ts"] for document in edges if document is not None]
    if len(times) < 2:
        return []
    first, end = times[0], times[1] + timedelta(milliseconds=1)
    count = min(_MOST_SLICES, math.ceil((end - first) / timedelta(days=1)))
    cuts = [first, *(first + (end - first) * n / count for n in range(1, count)), end]
    return [{"$gte": start, "$lt": stop} for start, stop in pairwise(cuts)]


async def _edge(
    database: Database, limits: Limits, collection: str, window: Document, direction: int
) -> Document | None:
    """Return the time of the oldest (1) or newest (-1) success in the window."""
    fields = {"_id": 0, "run_ts": 1}
    found = database[collection].find({"run_ts": window}, fields, max_time_ms=limits.question_milliseconds)
    return next(iter(await found.sort("run_ts", direction).limit(1).to_list(None)), None)


def _take_successes(models: Models, row: Mapping[str, Any]) -> Runs:
    last = _last(row)
    runs = _runs(models, last)
    runs.succeeded(last, row["count"])
    return runs


def _take_figures(runs: Runs, row: Mapping[str, Any]) -> None:
    runs.speeds += numbers(row["speeds"])
    runs.first_tokens += numbers(row["first"])


async def _take_failures(
    database: Database, limits: Limits, models: Models, told: Iterable[Window], condition: Document
) -> None:
    for window in told:
        match = {**window.condition, **condition}
        for row in await rows(database, limits, FAILURES, grouped(match, window.date, _MODEL)):
            last = _last(row)
            _runs(models, last).failed(last, row["count"])


def _last(row: Mapping[str, Any]) -> Last:
    return Last(row["last"], row["_id"]["provider"], row["_id"]["model_name"])


def _runs(models: Models, last: Last) -> Runs:
    return models.setdefault(folded(last.provider, last.model_name), Runs())


def numbers(values: Iterable[Any]) -> list[float]:
    """Return what is a number; documents of other writers may hold anything."""
    found = (value if type(value) is float else plain(value) for value in values)
    return [float(value) for value in found if type(value) in (float, int) and math.isfinite(value)]


async def _find_earlier_successes(database: Database, limits: Limits, models: Models) -> None:
    """Look up the last success of each model that has none in the window."""
    spellings = await spellings_in(database, limits, await providers_in(database, limits, (SAMPLES, PROBES)))
    parts = [
        _newest(one.collection, one.match)
        for one in spellings
        if one.folded not in models or models[one.folded].success is None
    ]
    for row in await together(database, limits, parts):
        last = _last(row)
        _runs(models, last).succeeded(last)


def _newest(collection: str, match: Document) -> Part:
    named = {"_id": _NAMES, "last": "$run_ts"}
    newest = {**match, "run_ts": within(None)}
    return part(collection, {"$match": newest}, {"$sort": {"run_ts": -1}}, {"$limit": 1}, {"$project": named})

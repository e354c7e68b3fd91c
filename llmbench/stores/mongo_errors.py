"""Failures in MongoDB, counted by what they have in common.

Counts come from the index ``llmbench_errors`` alone; then the newest failure of each group is fetched by its time.
Failures of earlier writers have no ``run_ts``, and ``ts`` stands in for it: those are fetched to be counted, since
no index tells a field that is null from one that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from llmbench.messages import Failure
from llmbench.naming import fold
from llmbench.stores.base import ErrorGroup, ErrorQuery
from llmbench.stores.counted import UNDATED
from llmbench.stores.figures import GROUPED_BY, in_order
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_documents import failure_of
from llmbench.stores.mongo_questions import grouped, providers_in, rows
from llmbench.stores.mongo_schema import FAILURES
from llmbench.stores.mongo_windows import NAME, NAMED, Window, windows

_AT_ONCE = 1000
"""So many times are asked for in one request."""

Key = tuple[str, ...]


class _Counted(msgspec.Struct):
    """A group, before its newest failure is known."""

    count: int = 0
    last: datetime = UNDATED
    newest: Failure | None = None

    def saw(self, failure: Failure) -> None:
        if failure.run_ts == self.last and (self.newest is None or failure.id > self.newest.id):
            self.newest = failure


async def error_groups(database: Database, limits: Limits, query: ErrorQuery) -> list[ErrorGroup]:
    """Count failures by what they have in common; see `llmbench.stores.base.Store.error_groups`."""
    named = await _named(database, limits, query.provider)
    counted: dict[Key, _Counted] = {}
    for window in windows(query.since):
        counting = grouped({**window.condition, **named}, window.date, GROUPED_BY[query.by])
        for row in await rows(database, limits, FAILURES, counting):
            group = counted.setdefault(_key(query, row["_id"]), _Counted())
            group.count += row["count"]
            group.last = max(group.last, row["last"])
    for window in windows(query.since):
        await _find_newest(database, limits, query, counted, window, named)
    # A group whose newest failure somebody deleted in the meantime is left out.
    return in_order(ErrorGroup(count=one.count, newest=one.newest) for one in counted.values() if one.newest)


async def _named(database: Database, limits: Limits, provider: str | None) -> Document:
    """Return the condition on the names: one provider, in all spellings that occur, or any."""
    if provider is None:
        return NAMED
    found = await providers_in(database, limits, [FAILURES])
    return {"provider": {"$in": [name for _, name in found if fold(name) == fold(provider)]}, "model_name": NAME}


def _key(query: ErrorQuery, named: Mapping[str, Any]) -> Key:
    """Return what names a group, the same however provider and model are spelled."""
    return tuple(_name(field, named.get(field)) for field in GROUPED_BY[query.by])


def _name(field: str, value: Any) -> str:
    if not isinstance(value, str):
        return "unknown" if field == "error_kind" else ""  # as a reader sees what earlier writers left out
    return fold(value) if field in ("provider", "model_name") else value


async def _find_newest(
    database: Database,
    limits: Limits,
    query: ErrorQuery,
    counted: Mapping[Key, _Counted],
    window: Window,
    named: Document,
) -> None:
    times = sorted({one.last for one in counted.values()})
    for start in range(0, len(times), _AT_ONCE):
        match = newest_match(window, times[start : start + _AT_ONCE], named)
        for document in await database[FAILURES].find(match, max_time_ms=limits.question_milliseconds).to_list(None):
            group = counted.get(_key(query, document))
            if group is not None:
                group.saw(failure_of(document))


def newest_match(window: Window, times: Sequence[datetime], named: Document) -> Document:
    """Return the condition on failures of just these times."""
    return {**window.condition, window.date: {"$in": list(times)}, **named}

"""What many failures and runs come to in MongoDB: which indexes answer, and what earlier writers left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.stores.base import ErrorQuery
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.trends import TrendQuery
from tests.stores.documents import envelopes, failure, moment, sample

Question = Callable[[MongoStore], Awaitable[object]]
BEYOND = 300
"""Runs before the window, of each sort."""
SINCE = moment(BEYOND)
NAMED = {"provider": "openai", "model_name": "o3"}


@pytest.fixture
async def mongo(address: Address) -> AsyncIterator[MongoStore]:
    """A store on a database of its own."""
    store = MongoStore(address)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def raw(client: MongoClient[dict[str, Any]], address: Address) -> Database[dict[str, Any]]:
    """The same database, by the driver."""
    return client[address.database]


async def _work(mongo: MongoStore, raw: Database[dict[str, Any]], ask: Question) -> list[dict[str, Any]]:
    """Ask, and return what the server noted of each thing that it did for that."""
    raw.command("profile", 2)
    try:
        await ask(mongo)
    finally:
        raw.command("profile", 0)
    noted = raw["system.profile"].find({"ns": {"$regex": "metrics_cloud|errors_cloud"}})
    return [one for one in noted if "planSummary" in one]


@pytest.mark.parametrize(
    ("ask", "documents"),
    [
        (lambda store: store.summary(since=SINCE), 0),
        (lambda store: store.summary(since=SINCE, until=moment(BEYOND + 3)), 0),
        (lambda store: store.tallies(since=SINCE), 0),
        (lambda store: store.trends(TrendQuery(since=SINCE, width=timedelta(minutes=1))), 0),
        (lambda store: store.error_groups(ErrorQuery(by="kind", since=SINCE)), 1),
        (lambda store: store.error_groups(ErrorQuery(by="provider", since=SINCE)), 1),
        (lambda store: store.error_groups(ErrorQuery(by="model", since=SINCE)), 1),
        (lambda store: store.error_groups(ErrorQuery(by="fingerprint", since=SINCE)), 1),
        (lambda store: store.error_groups(ErrorQuery(since=SINCE, provider="openai")), 1),
    ],
)
async def test_windows_are_answered_by_indexes(
    mongo: MongoStore, raw: Database[dict[str, Any]], ask: Question, documents: int
) -> None:
    """No collection is scanned, nothing before the window is looked at; of failures only the newest is fetched."""
    runs = [
        make(run_ts=moment(n), provider="openai", model_name="o3")
        for n in range(BEYOND + 5)
        for make in (sample, failure)
    ]
    await mongo.put(envelopes(*runs))

    noted = await _work(mongo, raw, ask)

    assert noted
    assert all("COLLSCAN" not in one["planSummary"] for one in noted)
    assert sum(one.get("docsExamined", 0) for one in noted) == documents
    assert sum(one.get("keysExamined", 0) for one in noted) < 60


async def test_what_earlier_writers_left(mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
    """Their failures are dated by ``ts`` and counted with the others; figures that are no numbers do not count."""
    named = {"provider": "OpenAI", "model_name": "O3"}
    raw.errors_cloud.insert_many(
        [
            {**named, "ts": moment(7), "message": "boom"},
            {**named, "ts": moment(1), "error_kind": "unknown"},
            {"ts": moment(2), "error_kind": "timeout"},
            {**named, "ts": moment(2), "model_name": None, "error_kind": "timeout"},
        ]
    )
    raw.metrics_cloud_v2.insert_many(
        [
            {**named, "run_ts": moment(4), "tokens_per_second": 40, "time_to_first_token": float("nan")},
            {**named, "run_ts": moment(5), "tokens_per_second": "fast"},
            {**named, "tokens_per_second": 1.0},
            {"run_ts": moment(4), "provider": "OpenAI", "tokens_per_second": 1.0},
        ]
    )
    later = failure(run_ts=moment(3), provider="openai", model_name="o3", error_kind="unknown")
    await mongo.put(envelopes(later))

    groups = await mongo.error_groups(ErrorQuery(by="model", since=moment(2)))
    [summary] = await mongo.summary(since=moment(2))
    [tally] = await mongo.tallies()

    assert [(one.count, one.newest.model_name, one.newest.run_ts) for one in groups] == [
        (2, "O3", moment(7)),
    ]
    assert groups[0].newest.message == "boom"
    assert (summary.model_name, summary.n, summary.successes) == ("O3", 4, 2)
    assert (summary.tokens_per_second_p50, summary.time_to_first_token_p50) == (40.0, None)
    assert (tally.successes, tally.failures, tally.last_success, tally.last_failure) == (2, 3, moment(5), moment(7))


async def test_a_group_by_kind_is_what_readers_see(mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
    """A failure without a kind is read as ``unknown``, and counted as such."""
    raw.errors_cloud.insert_many([{**NAMED, "_id": ObjectId(), "ts": moment(n)} for n in range(3)])
    await mongo.put(envelopes(failure(run_ts=moment(9), error_kind="unknown")))

    groups = await mongo.error_groups(ErrorQuery(by="kind"))

    assert [(one.count, one.newest.error_kind) for one in groups] == [(4, "unknown")]

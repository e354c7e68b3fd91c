"""Moving out of MongoDB and into it: what only this store has to see to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from pymongo import MongoClient

from llmbench.cli.store_copy import Copy
from llmbench.messages import Failure
from llmbench.stores.base import ErrorQuery, OutcomeQuery, Store
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.contract_transfer import everything, rollup
from tests.stores.documents import envelope, failure, moment, sample

NAMED = {"provider": "groq", "model_name": "llama-3"}


async def _answers(store: Store, since: datetime | None) -> list[Any]:
    """Return what a store answers to everything that is asked of outcomes; ids of groups' newest failures apart."""
    outcomes = await store.outcomes(OutcomeQuery(since=since))
    groups = await store.error_groups(ErrorQuery(by="model", since=since))
    return [
        [msgspec.structs.replace(one, fingerprint="") if isinstance(one, Failure) else one for one in outcomes],
        [(group.count, group.newest.id) for group in groups],
        await store.tallies(since=since),
        await store.summary(since=since),
        sorted(await store.history(), key=lambda past: past.model_id),
    ]


async def test_a_copy_answers_as_the_source_does(
    mongo: MongoStore, client: MongoClient[dict[str, Any]], emptied_address: Address, tmp_path: Path
) -> None:
    """What is not known stays not known, what does not count goes on not counting, and nothing is refused."""
    recent = datetime.now(UTC) - timedelta(hours=1)
    recent = recent.replace(microsecond=0)
    speeds: list[Any] = [40, None, "64.5", float("nan"), float("inf"), Decimal128("NaN"), True, Int64(20), 0]
    database = client[emptied_address.database]
    database.metrics_cloud_v2.insert_many(
        [
            *(
                {**NAMED, "run_ts": recent + timedelta(seconds=n), "tokens_per_second": one, "time_to_first_token": one}
                for n, one in enumerate(speeds, 1)
            ),
            {**NAMED, "model_name": "unknown", "run_ts": recent},
            {**NAMED, "model_name": "undated", "tokens_per_second": 7},
            {**NAMED, "gen_ts": recent, "tokens_per_second": 7},
            {**NAMED, "run_ts": f"{recent:%Y-%m-%d %H:%M:%S}", "tokens_per_second": 7},
            {**NAMED, "run_ts": recent + timedelta(days=30), "tokens_per_second": 7},
            {"model_name": "nobody's", "run_ts": recent, "tokens_per_second": 7},
            {"provider": "groq", "run_ts": recent, "misc": {"cost": float("nan")}, "cost_usd": float("inf")},
        ]
    )
    database.errors_cloud.insert_many(
        [
            {**NAMED, "ts": recent + timedelta(seconds=30), "error_kind": "timeout"},
            {**NAMED, "error_kind": "timeout", "message": "no date"},
            {**NAMED, "run_ts": "yesterday", "ts": recent},
            {**NAMED, "ts": recent + timedelta(days=30), "retry_after": float("nan")},
            {"ts": recent, "error_kind": "timeout"},
        ]
    )
    copy = SQLiteStore(tmp_path / "copy.db")
    await copy.open()
    try:
        done = await Copy(mongo, copy).all()

        assert sum(one.refused for one in done) == 0
        assert [one.added for one in done if one.what in ("samples", "failures")] == [16, 5]
        for since in (None, recent - timedelta(minutes=1)):
            assert await _answers(copy, since) == await _answers(mongo, since)
        [known, unknown] = await copy.summary()
        assert (known.n, known.successes, known.tokens_per_second_p50) == (10, 9, 20.0)
        assert (unknown.model_name, unknown.n, unknown.tokens_per_second_p50) == ("unknown", 1, None)
    finally:
        await copy.close()


@pytest.mark.parametrize("size", [1, 2, 50])
async def test_keys_of_all_types_come_by(
    mongo: MongoStore, client: MongoClient[dict[str, Any]], emptied_address: Address, size: int
) -> None:
    """Earlier writers' keys may be numbers, texts, objects and ObjectIds: none is left out between two pages."""
    keys: list[Any] = [3, 1.5, "b", "a", ObjectId(), ObjectId(), {"n": 1}, True, moment()]
    database = client[emptied_address.database]
    database.metrics_cloud_v2.insert_many(
        [{"_id": key, "provider": "groq", "model_name": str(n)} for n, key in enumerate(keys)]
    )

    found = await everything(mongo, "samples", size)

    assert sorted(item.outcome.model_name for item in found) == [str(n) for n in range(len(keys))]


async def test_counting_goes_on_while_a_rollup_is_put(
    mongo: MongoStore, client: MongoClient[dict[str, Any]], emptied_address: Address
) -> None:
    """Whoever is first, nothing that was counted is lost, and nothing is left over of the counting."""
    failures = [failure(run_ts=moment(n)) for n in range(40)]
    told = msgspec.structs.replace(rollup(fingerprint=failures[0].fingerprint), count=1000)

    async with anyio.create_task_group() as group:
        for one in failures:
            group.start_soon(mongo.put, [envelope(one)])
        for _ in range(5):
            group.start_soon(mongo.put_rollup, told)

    [found] = await mongo.rollups()
    assert 1000 <= found.count <= 1040
    assert found.last_seen == failures[-1].ts
    assert found.first_seen == told.first_seen
    [document] = client[emptied_address.database].error_rollups.find()
    assert document["counting"] == []


async def test_what_others_keep_in_a_rollup_stays(
    mongo: MongoStore, client: MongoClient[dict[str, Any]], emptied_address: Address
) -> None:
    """A verdict in a field of its own outlives it."""
    collection = client[emptied_address.database].error_rollups
    await mongo.put_rollup(rollup(count=2))
    collection.update_one({}, {"$set": {"verdict": "known"}})

    assert await mongo.put_rollup(rollup(count=5)) is True
    [document] = collection.find()
    assert (document["verdict"], document["count"]) == ("known", 5)


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.page("samples", size=50),
        lambda store: store.page("failures", size=50),
        lambda store: store.outcomes(OutcomeQuery()),
    ],
)
async def test_what_others_keep_in_an_outcome_is_not_fetched(
    mongo: MongoStore,
    client: MongoClient[dict[str, Any]],
    emptied_address: Address,
    ask: Callable[[MongoStore], Awaitable[Any]],
) -> None:
    """It may be large, and a page is in memory as a whole."""
    await mongo.put([envelope(sample()), envelope(failure())])
    database = client[emptied_address.database]
    for collection in (database.metrics_cloud_v2, database.errors_cloud):
        collection.update_one({}, {"$set": {"transcript": "x" * 1_000_000}})

    database.command("profile", 2)
    try:
        await ask(mongo)
    finally:
        database.command("profile", 0)
    answers = [one["responseLength"] for one in database["system.profile"].find({"op": "query"})]
    database["system.profile"].drop()

    assert answers
    assert sum(answers) < 100_000

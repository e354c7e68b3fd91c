"""Moving out of MongoDB and into it: what only this store has to see to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from llmbench.stores.base import OutcomeQuery
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from tests.stores.contract_transfer import everything, rollup
from tests.stores.documents import envelope, failure, moment, sample


@pytest.fixture
async def mongo(emptied_address: Address) -> AsyncIterator[MongoStore]:
    """An open store on an empty database."""
    store = MongoStore(emptied_address)
    await store.open()
    yield store
    await store.close()


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

"""Records about models in MongoDB: what others keep stays, what earlier systems wrote is read as far as it goes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from bson.int64 import Int64
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.lifecycle import (
    RECORDS,
    CatalogEntry,
    DeprecationSnapshot,
    DiscoveryRun,
    Listed,
    ModelStatus,
    RecentMessage,
    StatusMetrics,
)
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from tests.stores.contract_lifecycle import entry, listing, run, snapshot, status, statuses
from tests.stores.documents import moment

Raw = Database[dict[str, Any]]


@pytest.fixture
def store(mongo: MongoStore) -> MongoStore:
    """The one whose database is ``raw``."""
    return mongo


async def test_what_others_keep_in_a_record_stays(store: MongoStore, raw: Raw) -> None:
    """Fields beside ours, and within the figures of a status, outlive each change."""
    await store.put_listing(listing("gpt-4o"))
    await store.put_records([status("gpt-4o")])
    raw.provider_catalog.update_one({}, {"$set": {"price": 7, "raw.theirs": 1}})
    raw.model_status.update_one({}, {"$set": {"verdict": "ours", "metrics.theirs": 3}})

    await store.put_listing(listing("gpt-4o", minute=5))
    told = status("gpt-4o", computed_at=moment(5), metrics=StatusMetrics(errors_7d=1), catalog_state=None)
    assert statuses(await store.put_records([told])) == ["stored"]

    [listed], [found] = raw.provider_catalog.find(), raw.model_status.find()
    assert (listed["price"], listed["raw"]) == (7, {"id": "gpt-4o", "n": 5})
    assert (listed["first_seen_at"], listed["last_seen_at"]) == (moment(1), moment(6))
    assert (found["verdict"], found["metrics"]) == ("ours", {"errors_7d": 1, "theirs": 3})
    assert "catalog_state" not in found


async def test_documents_of_earlier_systems(store: MongoStore, raw: Raw) -> None:
    """A value of another type costs that value; a document that does not say what it is about is left out."""
    named = {"provider": "groq", "model_id": "llama"}
    key = ObjectId.from_datetime(moment(-3))
    raw.provider_catalog.insert_many(
        [{"_id": key, **named, "raw": {"at": moment(), "n": Int64(3)}, "chat": "yes"}, {"provider": "groq"}]
    )
    odd_figures = {"last_success": "never", "errors_7d": 4.0, "recent_messages": [{"message": "no", "kind": 7}, "no"]}
    raw.model_status.insert_one(
        {**named, "status": "paused", "confidence": 0.5, "reasons": ["a", 3], "computed_at": moment()}
        | {"metrics": odd_figures}
    )
    raw.bench_discovery_runs.insert_many([{"provider": "groq", "started_at": moment(), "status": "success"}, {}])
    raw.deprecation_snapshots.insert_many([{**named, "deprecation_date": moment(), "created_at": None}, {**named}])

    [listed] = await store.records(CatalogEntry)
    assert (listed.first_seen_at, listed.last_seen_at, listed.in_our_db, listed.chat) == (
        *[moment(-3)] * 2,
        False,
        None,
    )
    assert listed.raw == {"at": "2026-03-14T12:00:00Z", "n": 3}
    [told] = await store.records(ModelStatus)
    assert (told.status, told.confidence, told.reasons, told.computed_at) == (None, 0.5, ["a"], moment())
    assert told.metrics == StatusMetrics(errors_7d=4, recent_messages=[RecentMessage(message="no")])
    [made] = await store.records(DiscoveryRun)
    assert (made.status, made.raw_count, made.finished_at, made.complete) == ("success", None, None, False)
    [gone] = await store.records(DeprecationSnapshot)
    assert (gone.deprecation_date, gone.stats) == (moment(), {})


async def test_a_document_of_another_spelling_is_changed_where_it_is(store: MongoStore, raw: Raw) -> None:
    """Its key and the spelling of its provider stay; a date that is no date gives way."""
    raw.provider_catalog.insert_one({"_id": 7, "provider": "OpenAI", "model_id": "GPT-4o", "last_seen_at": "yesterday"})
    raw.model_status.insert_one({"_id": "x", "provider": "OpenAI", "model_id": "GPT-4o", "metrics": None, "note": 1})

    made = await store.put_listing(listing("gpt-4o"))
    await store.put_records([status("gpt-4o")])

    assert (made.run.accepted_count, made.refused) == (1, [])
    [listed], [told] = raw.provider_catalog.find(), raw.model_status.find()
    assert (listed["_id"], listed["provider"], listed["model_id"]) == (7, "OpenAI", "gpt-4o")
    assert listed["last_seen_at"] == moment(1)
    assert (told["_id"], told["note"], told["metrics"]["errors_7d"]) == ("x", 1, 31)


async def test_what_bson_does_not_have(store: MongoStore) -> None:
    """An integer of more than 64 bits, a key with a NUL, too deep, too large: refused by item, with the reason."""
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    odd: dict[str, dict[str, Any]] = {
        "huge": {"n": 2**64},
        "nul": {"a\0b": 1},
        "deep": deep,
        "large": {"text": "x" * 17_000_000},
    }

    made = await store.put_listing(listing(models=[Listed(model_id=one, raw=raw) for one, raw in odd.items()]))

    assert [verdict.id for verdict in made.refused] == [f"openai/{one}" for one in odd]
    reasons = [verdict.reason or "" for verdict in made.refused]
    assert [word in reason for word, reason in zip(("8-byte", "NUL", "deeper", "bytes"), reasons, strict=True)] == [
        True
    ] * 4, reasons
    assert (made.run.raw_count, made.run.accepted_count) == (4, 0)


async def test_several_programs_at_once(store: MongoStore, emptied_address: Address, raw: Raw) -> None:
    """Of what two put at the same moment, nothing is there twice, and the newest status holds."""
    other = MongoStore(emptied_address)
    await other.open()
    models = [f"m{n:02}" for n in range(30)]

    async with anyio.create_task_group() as group:
        for number in range(8):
            which = (store, other)[number % 2]
            group.start_soon(which.put_listing, listing(*models, minute=number))
            group.start_soon(which.put_records, [status(one, computed_at=moment(number)) for one in models])
    await other.close()

    for collection in (raw.provider_catalog, raw.model_status):
        assert sorted(one["model_id"] for one in collection.find()) == models
    assert {one.computed_at for one in await store.records(ModelStatus)} == {moment(7)}
    seen = await store.records(CatalogEntry)
    assert {(one.first_seen_at, one.last_seen_at, one.raw["n"]) for one in seen} == {(moment(1), moment(8), 7)}
    assert len(await store.records(DiscoveryRun)) == 8


async def test_cut_off_between_entries_and_run(store: MongoStore, raw: Raw) -> None:
    """The same listing put again completes it, with the counts that it would have had."""
    whole = await store.put_listing(listing("gpt-4o", "o3"))
    raw.bench_discovery_runs.delete_many({})

    assert await store.put_listing(listing("gpt-4o", "o3")) == whole
    assert raw.bench_discovery_runs.count_documents({}) == 1


async def test_questions_are_answered_by_indexes(store: MongoStore, raw: Raw) -> None:
    """What is asked of a model or of a provider, and what putting looks up, however many others there are."""
    names = ("provider_catalog", "model_status", "deprecation_snapshots", "bench_discovery_runs")
    raw.command("profile", 2)
    for kind in RECORDS:
        await store.records(kind, provider="OpenAI", model_id=None if kind is DiscoveryRun else "GPT-4o")
        await store.records(kind, provider="openai")
    await store.records(DiscoveryRun, limit=3)
    await store.put_records([entry(), run(), status(), snapshot()])
    raw.command("profile", 0)

    asked = list(raw["system.profile"].find({"op": "query", "ns": {"$in": [f"{raw.name}.{name}" for name in names]}}))
    raw["system.profile"].drop()
    assert len(asked) >= 12
    assert {one["planSummary"].partition(" ")[0] for one in asked} == {"IXSCAN"}


async def test_nothing_else_is_written(store: MongoStore, raw: Raw) -> None:
    """Each kind goes to its collection, and the old one of OpenRouter's models stays as it is."""
    raw.openrouter_catalog.insert_one({"_id": 1, "model_id": "a"})
    before = raw.model_status.index_information()
    await store.put_listing(listing("a", provider="openrouter"))
    await store.put_records([entry(), run(), status(), snapshot()])

    assert list(raw.openrouter_catalog.find()) == [{"_id": 1, "model_id": "a"}]
    names = ("provider_catalog", "bench_discovery_runs", "model_status", "deprecation_snapshots")
    assert [raw[name].count_documents({}) for name in names] == [2, 2, 1, 1]
    assert len(RECORDS) == len(names)
    assert raw.model_status.index_information() == before


async def test_two_spellings_of_an_earlier_system(
    address: Address, client: MongoClient[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Their index can't be made, which is told; both stay, and the one that is asked for is changed."""
    collection = client[address.database].model_status
    collection.create_index([("provider", 1), ("model_id", 1)], unique=True)
    for model_id in ("gpt-4o", "GPT-4o"):
        collection.insert_one({"provider": "openai", "model_id": model_id, "computed_at": moment(-5)})
    store = MongoStore(address)
    await store.open()

    assert statuses(await store.put_records([status("GPT-4o"), status("o3")])) == ["stored", "stored"]

    await store.close()
    assert "'llmbench_model' of 'model_status' can't be made (what it would keep unique is there more" in caplog.text
    assert [one.get("status") for one in collection.find()] == [None, "failing", "failing"]

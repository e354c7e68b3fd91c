"""The MongoDB store: the contract, and what is particular to its documents and indexes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson.objectid import ObjectId
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from llmbench.messages import Envelope, Failure, Outcome, Sample
from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.mongo_schema import ANY_CASE, INDEXES
from tests.stores.contract import StoreContract
from tests.stores.documents import envelope, envelopes, failure, model, moment, sample


@pytest.mark.parametrize("backing", ["mongo"], indirect=True)
class TestContract(StoreContract):
    """MongoDB keeps the contract."""


def names_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


class TestDocuments:
    """What other programs find in the collections."""

    async def test_a_sample_is_stored_whole(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """Every field under its name, the id as an ObjectId, dates as dates, numbers as numbers; nothing besides."""
        stored = sample()
        await mongo.put([envelope(stored)])

        [document] = raw.metrics_cloud_v2.find()

        assert set(document) == names_of(Sample)
        assert document["_id"] == ObjectId(stored.id)
        assert document["run_ts"] == stored.run_ts
        assert type(document["run_ts"]) is datetime
        assert (type(document["generate_time"]), type(document["output_tokens"])) == (float, int)
        assert document["times_between_tokens"] == stored.times_between_tokens
        assert document["misc"] == stored.misc

    async def test_what_is_not_known_is_null_or_left_out(
        self, mongo: MongoStore, raw: Database[dict[str, Any]]
    ) -> None:
        """A field that is always present is null; any other is not there."""
        await mongo.put([envelope(sample(time_to_first_token=None, cost_usd=None, region=None))])

        [document] = raw.metrics_cloud_v2.find()

        assert document["time_to_first_token"] is None
        assert not {"cost_usd", "region"} & set(document)

    async def test_what_is_not_for_the_public_goes_to_the_probes(
        self, mongo: MongoStore, raw: Database[dict[str, Any]]
    ) -> None:
        """Readers of the public collection do not ask for the profile; failures are in one collection."""
        probe, failed = sample(), failure()
        await mongo.put([envelope(one, publish=False) for one in (probe, failed)])

        assert raw.metrics_cloud_v2.count_documents({}) == 0
        assert [document["_id"] for document in raw.metrics_cloud_probe.find()] == [ObjectId(probe.id)]
        assert [document["_id"] for document in raw.errors_cloud.find()] == [ObjectId(failed.id)]

    async def test_a_failure_and_its_rollup(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """The failure is stored whole; the rollup has the names that others read; nothing is left to be counted."""
        stored = failure()
        await mongo.put([envelope(stored)])

        [document], [rollup] = raw.errors_cloud.find(), raw.error_rollups.find({}, {"_id": 0})

        assert set(document) == names_of(Failure)
        assert rollup == {
            "fingerprint": stored.fingerprint,
            "provider": stored.provider,
            "model_name": stored.model_name,
            "stage": stored.stage,
            "error_kind": stored.error_kind,
            "first_seen": stored.ts,
            "last_seen": stored.ts,
            "count": 1,
            "sample_messages": [stored.message],
            "counting": [],
        }

    async def test_a_model_has_its_fields(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """Those that are set, and no others."""
        await mongo.add_model(model("o3", notes="wanted"))

        [document] = raw.models.find({}, {"_id": 0})
        assert document == {
            "provider": "openai",
            "model_id": "o3",
            "enabled": True,
            "deprecated": False,
            "created_at": moment(-60 * 24),
            "notes": "wanted",
        }

    async def test_dates_are_cut_to_milliseconds(self, mongo: MongoStore) -> None:
        """BSON keeps no more; the same outcome again, in microseconds, is a duplicate all the same."""
        made = sample(run_ts=moment() + timedelta(microseconds=1999))

        verdicts = [(await mongo.put([envelope(made)]))[0].status for _ in range(2)]

        assert verdicts == ["stored", "duplicate"]
        [stored] = await mongo.outcomes(OutcomeQuery())
        assert stored.run_ts == moment() + timedelta(milliseconds=1)

    async def test_what_others_add_is_no_conflict(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """A field that someone added to a stored document does not make it another outcome."""
        stored = sample()
        await mongo.put([envelope(stored)])
        raw.metrics_cloud_v2.update_one({}, {"$set": {"seen_by": "dashboard"}})

        [verdict] = await mongo.put([envelope(stored)])

        assert verdict.status == "duplicate"

    async def test_a_verdict_outlives_the_counting(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """What someone wrote into a rollup stays when further failures are counted."""
        await mongo.put([envelope(failure())])
        raw.error_rollups.update_one({}, {"$set": {"verdict": "known"}})

        await mongo.put([envelope(failure())])

        assert [(one["count"], one["verdict"]) for one in raw.error_rollups.find()] == [(2, "known")]


async def test_what_is_found_is_confirmed_by_a_write(mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
    """Before a duplicate is acknowledged, a write that changes nothing waits for what it repeats to be durable."""
    batch = [*envelopes(sample(), failure()), envelope(sample(), publish=False)]
    await mongo.put(batch)
    before = {name: list(raw[name].find()) for name in ("metrics_cloud_v2", "metrics_cloud_probe", "errors_cloud")}
    raw.command("profile", 2)

    verdicts = await mongo.put(batch)

    raw.command("profile", 0)
    writes = list(raw["system.profile"].find({"op": "update", "nModified": 0}))
    raw["system.profile"].drop()
    assert {verdict.status for verdict in verdicts} == {"duplicate"}
    assert {f"{raw.name}.{name}" for name in before} <= {one["ns"] for one in writes}
    assert {name: list(raw[name].find()) for name in before} == before


class TestRefused:
    """One document that MongoDB does not take keeps none of the others out."""

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(sample(misc={"number": 2**63}), id="an integer of more than 64 bits"),
            pytest.param(sample(misc={"a\0b": 1}), id="a key with a NUL"),
            pytest.param(sample(misc={"text": "\ud800"}), id="a lone surrogate"),
            pytest.param(sample(misc={"text": "x" * 2**24}), id="more than 16 MB"),
            pytest.param(sample(id="not-an-object-id"), id="an id that is none"),
        ],
    )
    async def test_by_our_own_look(self, mongo: MongoStore, bad: Outcome) -> None:
        """What has no form in BSON is rejected with a reason."""
        good = [sample(run_ts=moment(n)) for n in range(2)]

        verdicts = await mongo.put(envelopes(good[0], bad, good[1]))

        assert [verdict.status for verdict in verdicts] == ["stored", "rejected", "stored"]
        assert verdicts[1].reason

    @pytest.mark.parametrize("depth", [140, 170, 250])
    async def test_nested_too_deep(self, mongo: MongoStore, depth: int) -> None:
        """A document that the server would refuse with its whole batch is found before it is sent."""
        nested: dict[str, Any] = {}
        for _ in range(depth):
            nested = {"a": nested}

        verdicts = await mongo.put(envelopes(sample(), sample(misc=nested)))

        assert [verdict.status for verdict in verdicts] == ["stored", "stored" if depth < 150 else "rejected"]

    async def test_by_a_validator(self, address: Address, fresh: Database[dict[str, Any]]) -> None:
        """Rules that the database's owner made are the server's word on a document, and on that one only."""
        fresh.create_collection("metrics_cloud_v2", validator={"output_tokens": {"$gt": 0}})
        store = MongoStore(address)
        await store.open()

        verdicts = await store.put(envelopes(sample(output_tokens=0), sample()))

        await store.close()
        assert [verdict.status for verdict in verdicts] == ["rejected", "stored"]
        assert "failed validation" in (verdicts[0].reason or "")

    async def test_by_a_unique_index_of_others(self, address: Address, fresh: Database[dict[str, Any]]) -> None:
        """A document that another's unique index keeps out is rejected; it is no duplicate, and is not stored."""
        fresh.metrics_cloud_v2.create_index("response_id", unique=True)
        store = MongoStore(address)
        await store.open()

        verdicts = await store.put(envelopes(sample(response_id="a"), sample(response_id="a")))

        await store.close()
        assert [verdict.status for verdict in verdicts] == ["stored", "rejected"]
        assert fresh.metrics_cloud_v2.count_documents({}) == 1


class TestIndexes:
    """Made at the start, reported, never dropped."""

    async def test_all_are_made(self, address: Address, fresh: Database[dict[str, Any]]) -> None:
        """On an empty database each index is made, under its name, and opening again finds them."""
        for _ in range(2):
            store = MongoStore(address)
            await store.open()
            states = await store.indexes()
            await store.close()

        assert {state.status for state in states} == {"ok"}
        for index in INDEXES:
            assert fresh[index.collection].index_information()[index.name]["key"] == list(index.keys)

    async def test_whoever_only_looks_makes_none(self, address: Address, fresh: Database[dict[str, Any]]) -> None:
        """Nor a collection with them; questions are answered all the same."""
        store = MongoStore(address, read_only=True)
        await store.open()
        assert (await store.summary(), await store.models(), await store.history()) == ([], [], [])
        await store.close()
        assert fresh.list_collection_names() == []

    async def test_others_are_left_alone(
        self, address: Address, fresh: Database[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """One with the same keys serves under its own name; one with other options stays, and is reported."""
        fresh.error_rollups.create_index("fingerprint", name="theirs", unique=True)
        keys = [("provider", 1), ("run_ts", -1)]
        fresh.metrics_cloud_v2.create_index(keys, name="llmbench_provider", sparse=True)
        fresh.metrics_cloud_probe.create_index(keys, name="theirs", unique=True)
        before = {name: fresh[name].index_information() for name in ("metrics_cloud_v2", "error_rollups")}
        store = MongoStore(address)
        await store.open()

        states = {(state.collection, state.name): state for state in await store.indexes()}

        await store.close()
        assert states["error_rollups", "llmbench_fingerprint"].status == "ok"
        assert "llmbench_fingerprint" not in fresh.error_rollups.index_information()
        for collection in ("metrics_cloud_v2", "metrics_cloud_probe"):
            state = states[collection, "llmbench_provider"]
            assert state.status == "other"
            assert any(message.endswith(state.detail or "?") for message in caplog.messages)
        for name, indexes in before.items():
            assert indexes.items() <= fresh[name].index_information().items()

    async def test_two_spellings_that_are_enabled_already(
        self, address: Address, fresh: Database[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The index that forbids it can't be made: the log names them, the store works; mended, it is made."""
        for model_id in ("gpt-4o", "GPT-4o", "o3"):
            fresh.models.insert_one({"provider": "openai", "model_id": model_id, "enabled": True})
        store = MongoStore(address)
        await store.open()

        [state] = [state for state in await store.indexes() if state.name == "llmbench_enabled"]
        assert state.status == "failed"
        assert "openai/gpt-4o" in (state.detail or "").lower()
        assert any(message.endswith(state.detail or "?") for message in caplog.messages)
        await store.disable_model("openai", "GPT-4o", reason="twice", by="operator", at=moment())
        await store.close()

        assert [row["model_id"] for row in fresh.models.find({"enabled": True})] == ["gpt-4o", "o3"]
        await store.open()
        assert {state.status for state in await store.indexes()} == {"ok"}
        await store.close()

    async def test_no_two_enabled_spellings(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """Whoever writes to the collection, two spellings of one model can't both be enabled."""
        await mongo.add_model(model("gpt-4o"))
        other = {"provider": "OpenAI", "model_id": "GPT-4o"}

        with pytest.raises(DuplicateKeyError):
            raw.models.insert_one({**other, "enabled": True})
        raw.models.insert_one({**other, "enabled": False})

    async def test_no_question_walks_over_a_collection(self, mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
        """Whatever is asked of outcomes, and a put, is answered from indexes, as the server's profiler tells."""
        await mongo.put(envelopes(*(make(run_ts=moment(n)) for n in range(20) for make in (sample, failure))))
        raw.command("profile", 2)
        for provider in (None, "groq"):
            for name in (None, "gpt-4o-mini"):
                for since in (None, moment(5)):
                    await mongo.outcomes(OutcomeQuery(provider=provider, model=name, since=since, limit=3))
        await mongo.history()
        await mongo.put(envelopes(sample(), failure()))
        raw.command("profile", 0)

        large = {f"{raw.name}.{name}" for name in ("metrics_cloud_v2", "metrics_cloud_probe", "errors_cloud")}
        seen = [one for one in raw["system.profile"].find({"ns": {"$in": list(large)}}) if one.get("planSummary")]
        raw["system.profile"].drop()
        assert {"find", "aggregate"} <= {next(iter(one["command"])) for one in seen}
        assert [one["command"] for one in seen if "COLLSCAN" in one["planSummary"]] == []

    async def test_histories_cost_the_same_however_many_documents(
        self, mongo: MongoStore, raw: Database[dict[str, Any]]
    ) -> None:
        """Thirty times the runs take the server no more look-ups to find the histories."""

        async def examined() -> int:
            raw.command("profile", 2)
            await mongo.history()
            raw.command("profile", 0)
            seen = list(raw["system.profile"].find({"op": "command", "command.aggregate": {"$exists": True}}))
            raw["system.profile"].drop()
            return sum(one.get("keysExamined", 0) + one.get("docsExamined", 0) for one in seen)

        def runs(minutes: range) -> list[Envelope]:
            named = {"provider": "groq", "model_name": "llama-3"}
            return envelopes(*(make(run_ts=moment(n), **named) for n in minutes for make in (failure, sample)))

        await mongo.put([*runs(range(10)), envelope(failure(provider="groq", model_name="LLAMA-3", run_ts=moment(99)))])
        few = await examined()
        await mongo.put(runs(range(-300, 0)))

        assert 0 < await examined() < 1.5 * few

    async def test_a_view_is_refused(self, address: Address, fresh: Database[dict[str, Any]]) -> None:
        """What keeps no ids unique can't take outcomes; the sentence names it, and nothing is made."""
        fresh.command("create", "metrics_cloud_v2", viewOn="elsewhere", pipeline=[])

        with pytest.raises(StoreUnusable, match=r"has 'metrics_cloud_v2' as a view, not as a collection"):
            await MongoStore(address).open()

        assert "error_rollups" not in fresh.list_collection_names()

    @pytest.mark.parametrize("name", ["metrics_cloud_v2", "metrics_cloud_probe", "errors_cloud", "error_rollups"])
    async def test_a_capped_collection_is_refused(
        self, address: Address, fresh: Database[dict[str, Any]], name: str
    ) -> None:
        """What drops its oldest documents by itself can't keep what was acknowledged."""
        fresh.create_collection(name, capped=True, size=4096)

        with pytest.raises(StoreUnusable, match=rf"has '{name}' as a capped collection"):
            await MongoStore(address).open()

    def test_any_case_is_the_servers(self) -> None:
        """The collation compares base letters only: strength 2 in ICU's terms."""
        assert ANY_CASE.document == {"locale": "en", "strength": 2}


async def test_a_store_that_is_not_open_says_so(address: Address) -> None:
    """Before it is opened and once it is closed, every question is refused; opening twice is no error."""
    store = MongoStore(address)
    with pytest.raises(StoreError, match="is not open"):
        await store.models()
    await store.open()
    await store.open()
    assert await store.models() == []
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="is not open"):
        await store.put([])

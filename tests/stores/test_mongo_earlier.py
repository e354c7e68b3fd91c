"""Databases that earlier systems have filled: joined as they are, read as far as they go, never rewritten."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from pymongo.database import Database

from llmbench.messages import Failure, Sample
from llmbench.stores.base import PARTS, ModelExists, OutcomeQuery
from llmbench.stores.canonical import canonical_form
from llmbench.stores.mongo import MongoStore
from tests.stores.contract_transfer import everything
from tests.stores.documents import envelope, failure, model, moment

Raw = Database[dict[str, Any]]


@pytest.fixture
def store(mongo: MongoStore) -> MongoStore:
    """The one whose database is ``raw``."""
    return mongo


def earlier_sample(**changes: Any) -> dict[str, Any]:
    """Return a run as systems before llmbench stored it: with what was always there, and no more."""
    return {
        "run_ts": moment(1),
        "gen_ts": moment(2),
        "provider": "groq",
        "model_name": "llama-3.3-70b-versatile",
        "temperature": 0.1,
        "requested_tokens": 64,
        "output_tokens": Int64(64),
        "generate_time": 1,
        "tokens_per_second": Decimal128("64.5"),
        "time_to_first_token": None,
        "times_between_tokens": [0.1, 1],
        "misc": {"id": ObjectId("65f2d1c0a1b2c3d4e5f60718")},
        **changes,
    }


def earlier_failure(**changes: Any) -> dict[str, Any]:
    """Return a failure as systems before llmbench stored it: without ``run_ts``, role or profile."""
    return {
        "provider": "groq",
        "model_name": "llama-3.3-70b-versatile",
        "ts": moment(5),
        "stage": "generate",
        "message": "Rate limit reached",
        "error_kind": "rate_limit",
        "http_status": 429,
        "fingerprint": "abc",
        **changes,
    }


async def test_an_earlier_sample_is_read(store: MongoStore, raw: Raw) -> None:
    """What it says is taken over, in the types of a Sample; what it lacks counts for nothing in a ranking."""
    key = raw.metrics_cloud_v2.insert_one(earlier_sample()).inserted_id
    before = list(raw.metrics_cloud_v2.find())

    [read] = await store.outcomes(OutcomeQuery(provider="GROQ", model="Llama-3.3-70B-Versatile"))

    assert isinstance(read, Sample)
    assert (read.id, read.run_ts, read.gen_ts) == (str(key), moment(1), moment(2))
    assert (read.output_tokens, read.generate_time, read.tokens_per_second) == (64, 1.0, 64.5)
    assert read.misc == {"id": "65f2d1c0a1b2c3d4e5f60718"}
    assert (read.metrics_schema_version, read.resolution, read.clock, read.ttft_available) == (
        1,
        "coarse",
        "user",
        False,
    )
    assert (read.sample_role, read.runner_id) == ("scheduled", "unknown")
    assert list(raw.metrics_cloud_v2.find()) == before


async def test_an_earlier_failure_is_read(store: MongoStore, raw: Raw) -> None:
    """It is found by ``ts`` where it has no ``run_ts``, and in its place among others."""
    raw.errors_cloud.insert_one(earlier_failure())
    older, newer = failure(run_ts=moment(4)), failure(run_ts=moment(6))
    await store.put([envelope(older), envelope(newer)])

    for query in (OutcomeQuery(), OutcomeQuery(since=moment(3), provider="groq"), OutcomeQuery(kind="failures")):
        found = await store.outcomes(query)
        assert [one.run_ts for one in found] == [moment(6), moment(5), moment(4)]
    assert isinstance(found[1], Failure)
    assert (found[1].message, found[1].http_status) == ("Rate limit reached", 429)
    assert found[1].normalized_message == found[1].message
    assert [one.run_ts for one in await store.outcomes(OutcomeQuery(limit=2))] == [moment(6), moment(5)]
    assert len(await store.outcomes(OutcomeQuery(since=moment(6)))) == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"_id": "a text"},
        {"_id": 7},
        {"run_ts": "2026-03-14 12:00:00"},
        {"run_ts": None},
        {"run_ts": None, "gen_ts": None},
        {"gen_ts": "yesterday"},
        {"provider": 7, "model_name": None},
        {"tokens_per_second": float("nan"), "times_between_tokens": [float("inf")], "misc": {"cost": float("nan")}},
        {"tokens_per_second": Decimal128("NaN"), "cost_usd": float("inf"), "time_to_first_token": "0.5"},
        {"output_tokens": "many", "generate_time": None, "times_between_tokens": [None]},
        {"sample_role": "nightly", "clock": 3, "misc": "none"},
        {"warnings": "a text", "cost_usd": "0.5", "region": ["eu"]},
    ],
)
async def test_whatever_a_sample_holds_it_is_read(store: MongoStore, raw: Raw, odd: dict[str, Any]) -> None:
    """A value of the wrong type costs that value, not the document, and never the answer."""
    raw.metrics_cloud_v2.insert_one(earlier_sample(**odd))
    raw.metrics_cloud_probe.insert_one({"_id": ObjectId()})
    raw.errors_cloud.insert_one(earlier_failure(stage="boot", http_status="none", ts="2026-03-14T12:00:00"))

    found = [item.outcome for part in PARTS for item in await everything(store, part, 50)]

    assert len(found) == 3
    assert all(one.run_ts.tzinfo is not None for one in found)
    assert all(canonical_form(one)[1] == one for one in found)
    assert len(await store.outcomes(OutcomeQuery())) <= 1


async def test_a_date_as_text_is_utc(store: MongoStore, raw: Raw) -> None:
    """Earlier writers wrote UTC without saying so."""
    raw.metrics_cloud_v2.insert_one(earlier_sample(gen_ts="2026-03-14 12:01:00"))

    [read] = await store.outcomes(OutcomeQuery())

    assert isinstance(read, Sample)
    assert read.gen_ts == moment(1)


async def test_a_year_that_python_does_not_have(store: MongoStore, raw: Raw) -> None:
    """A date beyond the year 9999 is not known; the rest of the document is."""
    raw.metrics_cloud_v2.insert_one(earlier_sample())
    raw.metrics_cloud_v2.update_one({}, [{"$set": {"gen_ts": {"$toDate": {"$toLong": "300000000000000"}}}}])

    [read] = await store.outcomes(OutcomeQuery())

    assert read.run_ts == moment(1)


async def test_earlier_runs_count_for_the_schedule(store: MongoStore, raw: Raw) -> None:
    """Without a role they are scheduled ones; a failure without ``run_ts`` was when its ``ts`` says."""
    raw.metrics_cloud_v2.insert_many(
        [earlier_sample(), earlier_sample(run_ts=moment(9), sample_role="bench"), earlier_sample(provider="solo")]
    )
    raw.errors_cloud.insert_many([earlier_failure(), earlier_failure(ts=moment(0)), earlier_failure(ts=moment(3))])
    await store.put([envelope(failure(run_ts=moment(4), error_kind="timeout"))])

    pasts = {past.provider: past for past in await store.history()}

    assert (pasts["groq"].last_success, pasts["groq"].failures_in_a_row) == (moment(1), 3)
    assert (pasts["groq"].last_failure, pasts["groq"].last_failure_kind) == (moment(5), "rate_limit")
    assert (pasts["solo"].last_success, pasts["solo"].last_failure) == (moment(1), None)


async def test_earlier_rollups_are_counted_on(store: MongoStore, raw: Raw) -> None:
    """A count goes on from where it is, whatever number type it has; what else the rollup holds stays."""
    new = failure()
    raw.error_rollups.insert_one(
        {"fingerprint": new.fingerprint, "count": 41.0, "first_seen": moment(-99), "judged": "by hand"}
    )
    raw.error_rollups.insert_one({"fingerprint": "bare"})

    await store.put([envelope(new)])

    [counted, bare] = await store.rollups()
    assert (counted.count, counted.first_seen, counted.last_seen) == (42, moment(-99), new.ts)
    assert (bare.fingerprint, bare.count, bare.sample_messages) == ("bare", 0, [])
    assert raw.error_rollups.find_one({"count": 42, "judged": "by hand"}) is not None


class TestModels:
    """Rows of an earlier catalogue."""

    @pytest.fixture
    def row(self, raw: Raw) -> dict[str, Any]:
        """A row with fields that llmbench does not know, and without some that it does."""
        row = {
            "_id": ObjectId("65f2d1c0a1b2c3d4e5f60718"),
            "provider": "openai",
            "model_id": "gpt-4o",
            "enabled": True,
            "deprecation_date": datetime(2026, 4, 1),  # noqa: DTZ001  BSON takes it for UTC
            "owner": {"team": "web"},
        }
        raw.models.insert_one(row)
        raw.models.insert_one({"provider": "openai", "comment": "names no model"})
        return row

    async def test_a_row_is_read(self, store: MongoStore, row: dict[str, Any]) -> None:
        """What it lacks is filled in; a row that names no model is left out."""
        [read] = await store.models()

        assert (read.model_id, read.enabled, read.deprecated) == ("gpt-4o", True, False)
        assert read.created_at == row["_id"].generation_time
        assert (read.deprecation_date or "").startswith("2026-04-01")
        with pytest.raises(ModelExists):
            await store.add_model(model("GPT-4o"))

    async def test_rows_that_name_no_model_are_told(self, store: MongoStore, raw: Raw, row: dict[str, Any]) -> None:
        """Their keys are, for whoever has to find them."""
        raw.models.delete_many({"comment": "names no model"})
        raw.models.insert_many([{"_id": 7, "model_id": 42}, {"_id": "b", "provider": "", "model_id": "o3"}])

        assert await store.unreadable_models() == ["7", "'b'"]
        assert [one.model_id for one in await store.models()] == ["gpt-4o"]

    @pytest.mark.parametrize("value", ["true", 1, 1.0, None])
    async def test_only_true_is_enabled(self, store: MongoStore, raw: Raw, value: Any) -> None:
        """A row is shown as it is measured, as its index takes it, and can be enabled."""
        raw.models.insert_one({"provider": "openai", "model_id": "o3", "enabled": value})

        [shown] = await store.models()
        [disabled] = await store.models(enabled=False)
        assert (shown.enabled, disabled.enabled, await store.models(enabled=True)) == (False, False, [])
        assert (await store.model("openai", "o3")).enabled is False

        await store.enable_model("openai", "o3")
        [measured] = await store.models(enabled=True)
        assert measured.enabled is True

    async def test_changes_set_single_fields(self, store: MongoStore, raw: Raw, row: dict[str, Any]) -> None:
        """Disabling, changing and enabling leave everything else as it was, unknown fields and gaps included."""
        await store.disable_model("openai", "gpt-4o", reason="gone", by="operator", at=moment())
        disabled = raw.models.find_one({"_id": row["_id"]}) or {}
        assert set(disabled) == {*row, "disabled_reason", "disabled_by", "disabled_at"}

        await store.change_model("openai", "GPT-4O", notes="asked for")
        await store.enable_model("openai", "gpt-4o")
        enabled = raw.models.find_one({"_id": row["_id"]}, {"deprecation_date": 0})
        del row["deprecation_date"]
        assert enabled == {**row, "notes": "asked for"}

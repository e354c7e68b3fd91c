"""What operators ask of MongoDB by hand, asked of documents that the program itself has written there.

The queries are those of docs/operations.md, through the driver that most scripts use.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from tests.actors.engine import unique
from tests.e2e.program import KEYS, Place
from tests.stores.mongod import Mongod

GOOD, BAD, LIMITED = unique(name="q-good-"), unique("500", name="q-bad-"), unique("429", name="q-limited-")
REASON = "no answer since Tuesday"

DATES = {"metrics_cloud_v2": ("run_ts", "gen_ts"), "errors_cloud": ("run_ts", "ts")}
"""The collections of outcomes, and which of their fields are dates."""

Documents = Database[dict[str, Any]]


@pytest.fixture(scope="module")
def database(shared: Place, mongod: Mongod) -> Iterator[Documents]:
    """Two rounds: two hours ago, without a network for groq, and just now, which was so two and ten days ago, too."""
    name = f"llm-bench-{ObjectId()}"
    env = KEYS | {"MONGODB_URI": mongod.uri, "MONGODB_DB": name}
    with MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        database = client[name]
        _round(shared, env, network=False)
        _age(database, timedelta(hours=2))
        before = {one["_id"] for collection in DATES for one in database[collection].find()}
        _round(shared, env, network=True)
        for age in (timedelta(days=2), timedelta(days=10)):
            _repeat(database, before, age)
        assert shared.run("models", "disable", f"groq/{BAD}", "--reason", REASON, env=env).code == 0
        yield database
        client.drop_database(name)


def _round(place: Place, env: dict[str, str], *, network: bool) -> None:
    place.configure(groq=[GOOD, BAD], together=[LIMITED])
    config = place.folder / "config.toml"
    if not network:
        before = config.read_text()
        url = before.partition('base_url = "')[2].partition('"')[0]
        config.write_text(before.replace(url, "http://127.0.0.1:9/v1"))
    # What was measured a moment ago is days old in the database by now; the spool remembers better.
    shutil.rmtree(place.folder / ".local/share/llmbench/spool", ignore_errors=True)
    done = place.run("--headless", "--once", env=env)
    assert (done.code, len(done.runs())) == (0, 3), done.out


def _age(database: Documents, by: timedelta) -> None:
    """Move all that was written into the past, which no test can wait for."""
    for collection, dates in DATES.items():
        moved = {name: {"$subtract": [f"${name}", by // timedelta(milliseconds=1)]} for name in dates}
        database[collection].update_many({}, [{"$set": moved}])
    database["leases"].delete_many({})  # which know when each model was last measured, by the server's clock


def _repeat(database: Documents, before: set[ObjectId], by: timedelta) -> None:
    """Have what the last round wrote a second time, so long ago; ``before``: the ids of all that others wrote."""
    for collection, dates in DATES.items():
        for one in list(database[collection].find({"_id": {"$nin": list(before)}})):
            again = one | {"_id": ObjectId()} | {name: one[name] - by for name in dates}
            before.add(again["_id"])
            database[collection].insert_one(again)


def _ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def test_the_latest_success_of_a_model(database: Documents) -> None:
    """One document, the newest by ``run_ts``, an aware date; a model that never succeeded has none."""
    asked = {"provider": "groq", "model_name": GOOD}
    latest = database.metrics_cloud_v2.find_one(asked, sort=[("run_ts", -1)])

    assert latest is not None
    assert latest["run_ts"] > _ago(hours=1)
    assert latest["tokens_per_second"] > 0
    assert database.metrics_cloud_v2.count_documents(asked) == 3
    assert database.metrics_cloud_v2.find_one({"provider": "groq", "model_name": BAD}) is None


def test_the_errors_of_the_last_day_by_provider(database: Documents) -> None:
    """Counted by provider and kind; what is older than a day is not among them."""
    found = database.errors_cloud.aggregate(
        [
            {"$match": {"ts": {"$gte": _ago(hours=24)}}},
            {"$group": {"_id": {"provider": "$provider", "kind": "$error_kind"}, "count": {"$sum": 1}}},
        ]
    )

    assert {(one["_id"]["provider"], one["_id"]["kind"]): one["count"] for one in found} == {
        ("groq", "network"): 2,
        ("groq", "transient_provider"): 1,
        ("together", "rate_limit"): 2,
    }
    assert database.errors_cloud.count_documents({}) == 9


def test_the_success_ratio_of_a_model_in_a_week(database: Documents) -> None:
    """Successes and failures of the same runs are in two collections under the same names, so they add up."""
    asked = {"provider": "groq", "model_name": GOOD}
    good = database.metrics_cloud_v2.count_documents({**asked, "run_ts": {"$gte": _ago(days=7)}})
    bad = database.errors_cloud.count_documents({**asked, "ts": {"$gte": _ago(days=7)}})

    assert (good, bad) == (2, 1)
    assert good / (good + bad) == pytest.approx(2 / 3)


def test_the_disabled_models_with_their_reasons(database: Documents) -> None:
    """The row is there still, with why, when and by whom."""
    fields = {"_id": 0, "provider": 1, "model_id": 1, "disabled_reason": 1, "disabled_at": 1, "disabled_by": 1}
    [found] = database.models.find({"enabled": False}, fields)

    assert found.pop("disabled_at") > _ago(hours=1)
    assert found.pop("disabled_by").startswith("cli:")
    assert found == {"provider": "groq", "model_id": BAD, "disabled_reason": REASON}

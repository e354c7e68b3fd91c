"""What is particular to the catalogue in MongoDB."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from pymongo.database import Database

from llmbench.messages import Model
from llmbench.stores import mongo_catalog
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_documents import model_of
from tests.stores.documents import model, moment


async def test_a_large_catalogue_is_read_beside_the_loop(
    mongo: MongoStore, raw: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a row's own fields are asked for, and another thread reads them: streams are being measured."""
    large = {"raw": "x" * 50_000, "enabled": True, "deprecated": False, "created_at": moment()}
    raw.models.insert_many([{"provider": "openai", "model_id": f"m{n:03}", **large} for n in range(200)])
    threads = set[int]()

    def noted(document: Mapping[str, Any]) -> Model | None:
        threads.add(threading.get_ident())
        return model_of(document)

    monkeypatch.setattr(mongo_catalog, "model_of", noted)
    raw.command("profile", 2)
    found = await mongo.models()
    assert await mongo.seed_models([model("M000")]) == []
    raw.command("profile", 0)

    assert [one.model_id for one in found] == [f"m{n:03}" for n in range(200)]
    assert len(threads) >= 1
    assert threading.get_ident() not in threads
    answers = [one["responseLength"] for one in raw["system.profile"].find({"ns": f"{raw.name}.models"})]
    raw["system.profile"].drop()
    assert 0 < sum(answers) < 50_000 * 2


async def test_seeded_elsewhere_and_disabled_meanwhile(mongo: MongoStore, raw: Database[dict[str, Any]]) -> None:
    """A model that another program has seeded since this one looked is not seeded again, even if it is disabled."""
    await mongo.seed_models([model("gpt-4o")])
    await mongo.disable_model("openai", "gpt-4o", reason="no", by="operator", at=moment())

    assert await mongo_catalog.insert_seeds(mongo._database(), [model("GPT-4o"), model("o3")]) == [model("o3")]
    assert {row["model_id"]: row["enabled"] for row in raw.models.find()} == {"gpt-4o": False, "o3": True}

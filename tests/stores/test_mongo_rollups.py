"""Rollups that the server, by the rules of a database's other users, does not take or that hold what is no count."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database

from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from tests.stores.documents import envelope, envelopes, failure, sample


class TestRollupsThatCannotBeWritten:
    """They cost their own count, never an outcome."""

    async def test_by_a_unique_index_of_others(
        self, address: Address, fresh: Database[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Failures whose rollup another's index keeps out are stored, marked and told of once; others are counted."""
        fresh.error_rollups.create_index("provider", unique=True)
        first, second, other = failure(fingerprint="f1"), failure(fingerprint="f2"), failure(provider="solo")

        for batch in ((first,), (second, sample(), other), (failure(fingerprint="f3"),)):
            store = MongoStore(address)
            await store.open()
            verdicts = await store.put(envelopes(*batch))
            await store.close()
            assert {verdict.status for verdict in verdicts} == {"stored"}

        assert [one["fingerprint"] for one in fresh.errors_cloud.find({"uncounted": True})] == ["f2", "f3"]
        assert {one["fingerprint"]: one["count"] for one in fresh.error_rollups.find()} == {
            "f1": 1,
            other.fingerprint: 1,
        }
        assert [record.message for record in caplog.records if "E11000" in record.message] == [
            message for message in caplog.messages if "does not take the rollup of fingerprint 'f2'" in message
        ]

        fresh.error_rollups.drop_index("provider_1")
        store = MongoStore(address)
        await store.open()
        await store.put(envelopes(sample()))
        await store.close()
        assert fresh.errors_cloud.count_documents({"uncounted": True}) == 0
        assert {one["fingerprint"] for one in fresh.error_rollups.find()} == {"f1", "f2", "f3", other.fingerprint}

    async def test_by_a_validator(
        self, address: Address, fresh: Database[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """The owner's rules keep the rollup out, not the failure."""
        fresh.create_collection("error_rollups", validator={"severity": {"$exists": True}})
        store = MongoStore(address)
        await store.open()

        verdicts = await store.put(envelopes(failure(), sample()))

        await store.close()
        assert [verdict.status for verdict in verdicts] == ["stored", "stored"]
        assert "failed validation" in caplog.text

    @pytest.mark.parametrize("count", [float("nan"), float("inf"), "many"])
    async def test_a_count_that_is_no_number(
        self, mongo: MongoStore, raw: Database[dict[str, Any]], count: object
    ) -> None:
        """Counting starts anew from zero."""
        one = failure()
        raw.error_rollups.insert_one({"fingerprint": one.fingerprint, "count": count})

        await mongo.put([envelope(one)])

        assert [rollup["count"] for rollup in raw.error_rollups.find()] == [1]

"""The MongoDB store on servers in a state of their own, which is brought about by the servers' own fail points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from llmbench.ids import new_outcome_id
from llmbench.secrets import Secret
from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable
from llmbench.stores.leases import Claim, LeaseKey
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address, Limits
from llmbench.stores.mongo_findings import findings
from llmbench.stores.mongo_schema import INDEXES
from tests.stores.documents import envelopes, moment, sample
from tests.stores.mongod import Mongod, running


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A server that can be told to misbehave."""
    with running(tmp_path_factory.mktemp("odd"), "--setParameter", "enableTestCommands=1") as server:
        yield server


@contextmanager
def failing(client: MongoClient[dict[str, Any]], point: str, **data: Any) -> Iterator[None]:
    client.admin.command({"configureFailPoint": point, "mode": "alwaysOn", "data": data})
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": point, "mode": "off"})


async def test_a_large_collection_is_indexed_behind_the_start(odd: Mongod, caplog: pytest.LogCaptureFixture) -> None:
    """The server goes on by itself once nobody waits any longer, even if the store is closed; readers go on."""
    address = Address(uri=Secret(odd.uri), database="large")
    with MongoClient[dict[str, Any]](odd.uri) as client:
        client.large.metrics_cloud_v2.insert_many(
            [{"run_ts": moment(n), "provider": "p", "model_name": "m"} for n in range(10)]
        )
        with failing(client, "hangAfterStartingIndexBuild"):
            store = MongoStore(address, Limits(indexing=0.1))
            await store.open()
            assert "the server is building indexes of" in caplog.text
            assert len(await store.outcomes(OutcomeQuery(limit=2))) == 2
            assert "building" in {state.status for state in await store.indexes()}
            await store.close()

        # Whoever asks for indexes that are being built is answered once they are there.
        wanted = [index.model() for index in INDEXES if index.collection == "metrics_cloud_v2"]
        client.large.metrics_cloud_v2.create_indexes(wanted)
        await store.open()
        assert {state.status for state in await store.indexes()} == {"ok"}
        await store.close()


async def test_a_server_that_does_not_tell_of_its_indexes(odd: Mongod) -> None:
    """What a service says to a question of an administrator's is no reason not to start."""
    address = Address(uri=Secret(odd.uri), database="silent")
    store = MongoStore(address)
    await store.open()
    await store.close()
    with MongoClient[dict[str, Any]](odd.uri) as client:
        with failing(client, "failCommand", failCommands=["aggregate"], errorCode=8000):
            await store.open()
            assert {state.status for state in await store.indexes()} == {"ok"}
        assert [one.status for one in await store.put(envelopes(sample()))] == ["stored"]
        await store.close()


async def test_a_server_that_takes_too_long_to_lease(odd: Mongod) -> None:
    """That is a failed call, whatever else the server would do in time: no lease is to blame."""
    store = MongoStore(Address(uri=Secret(odd.uri), database="slow"))
    await store.open()
    claim = Claim(key=LeaseKey("openai", "o3"), outcome_id=new_outcome_id())
    with (
        MongoClient[dict[str, Any]](odd.uri) as client,
        failing(client, "failCommand", failCommands=["findAndModify"], errorCode=50),
        pytest.raises(StoreError, match="took too long"),
    ):
        await store.leases("here", 30.0).claim([claim], fresh=60.0)
    await store.close()


@pytest.mark.parametrize("options", ["", "?directConnection=true"])
async def test_a_replica_set_that_is_not_initiated(tmp_path: Path, options: str) -> None:
    """It is not taken for a standalone server: the sentence says what is missing, and waiting may help."""
    with running(tmp_path, "--replSet", "rs0") as server:
        store = MongoStore(Address(uri=Secret(f"{server.uri}/{options}"), database="d"), Limits(server_selection=0.7))
        with pytest.raises(StoreError, match=r"not initiated, which takes no writes; call rs\.initiate\(\)") as caught:
            await store.open()
        assert not isinstance(caught.value, StoreUnusable)


async def test_the_path_of_the_uri_is_not_the_database(odd: Mongod, caplog: pytest.LogCaptureFixture) -> None:
    """The log says once which database is used and how to use the other one, and so does the doctor."""
    address = Address(uri=Secret(f"{odd.uri}/other"), database="used")
    store = MongoStore(address)
    await store.open()
    await store.close()

    [warning] = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert "'used'" in warning
    assert warning.endswith("set MONGODB_DB or store.mongo.database to 'other' to use that one")
    [told] = [one for one in await findings(address) if one.check == "database"]
    assert (told.state, told.advice) == ("warn", "set MONGODB_DB or store.mongo.database if 'other' is meant")

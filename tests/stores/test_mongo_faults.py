"""The MongoDB store under faults: the server killed, frozen, absent, refusing us; programs killed; several at once."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient, WriteConcern

from llmbench.messages import Envelope
from llmbench.secrets import Secret
from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable, Verdict
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address, Limits
from tests.stores.documents import envelope, envelopes, failure, moment, sample
from tests.stores.mongod import Mongod, replica_set, running

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "s3cr3t-pass"
QUICK = Limits(server_selection=0.5, connect=0.5, socket=0.5, question=0.4, put=0.7)

PUT_FOR_EVER = """
import sys, anyio
from llmbench.secrets import Secret
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from tests.stores.documents import envelopes, failure, sample

async def main():
    store = MongoStore(Address(uri=Secret(sys.argv[1]), database=sys.argv[2]))
    await store.open()
    while True:
        verdicts = await store.put(envelopes(*(make() for make in (sample, failure) * 5)))
        print(*(verdict.id for verdict in verdicts if verdict.acknowledged), flush=True)

anyio.run(main)
"""
"""Puts batches of five samples and five failures, and prints the ids of each batch once it is acknowledged."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A server that the tests of this module may kill and freeze; each leaves it running."""
    with running(tmp_path_factory.mktemp("own")) as server:
        yield server


def at(server: Mongod, name: str = "") -> Address:
    return Address(uri=Secret(server.uri), database=f"test-{name}-{ObjectId()}")


class TestServer:
    """What the server may do to us."""

    async def test_killed_and_started_again(self, own: Mongod) -> None:
        """Puts fail while it is away; what was acknowledged outlives SIGKILL, and the open store goes on by itself."""
        store = MongoStore(at(own), QUICK)
        await store.open()
        acknowledged = [failure(run_ts=moment(n)) for n in range(3)]
        await store.put(envelopes(*acknowledged))

        own.kill()
        later = failure(run_ts=moment(9))
        with pytest.raises(StoreError, match=r"can't be reached|failed"):
            await store.put([envelope(later)])
        own.start()

        [verdict] = await store.put([envelope(later)])
        assert verdict.acknowledged
        assert await store.outcomes(OutcomeQuery()) == [later, *reversed(acknowledged)]
        assert [rollup.count for rollup in await store.rollups()] == [4]
        await store.close()

    async def test_frozen(self, own: Mongod) -> None:
        """A put times out; its repeat, once the server goes on, is acknowledged, and nothing is there twice."""
        store = MongoStore(at(own), QUICK)
        await store.open()
        batch = envelopes(sample(), failure())

        with own.frozen():
            with anyio.fail_after(5):
                with pytest.raises(StoreError):
                    await store.put(batch)
                with pytest.raises(StoreError):
                    await store.history()

        assert all(verdict.acknowledged for verdict in await store.put(batch))
        assert len(await store.outcomes(OutcomeQuery())) == 2
        assert [rollup.count for rollup in await store.rollups()] == [1]
        await store.close()

    async def test_started_late(self, own: Mongod) -> None:
        """Opening fails with a sentence that says where, and works once the server is there."""
        store = MongoStore(at(own), QUICK)
        own.kill()
        with pytest.raises(StoreError, match=rf"at 127\.0\.0\.1:{own.port} can't be reached \(") as caught:
            await store.open()
        assert not isinstance(caught.value, StoreUnusable)
        assert "Topology" not in str(caught.value)
        own.start()

        await store.open()
        assert (await store.put([envelope(sample())]))[0].acknowledged
        await store.close()

    async def test_wrong_password(self, tmp_path: Path) -> None:
        """Refused for good, in a sentence without the password; the right one, and its role, are let in."""
        with running(tmp_path) as server, MongoClient[dict[str, Any]](server.uri) as client:
            roles = [{"role": "readWrite", "db": "llm-bench"}]
            client.admin.command("createUser", "me", pwd=PASSWORD, roles=roles, writeConcern={"w": 1, "j": True})
        with running(tmp_path, "--auth") as server:
            place = server.uri.removeprefix("mongodb://")

            def store(user: str, database: str = "llm-bench") -> MongoStore:
                return MongoStore(Address(uri=Secret(f"mongodb://{user}@{place}/"), database=database))

            for refused in (store(f"me:{PASSWORD}-no"), store(f"me:{PASSWORD}", "another")):
                with pytest.raises(StoreUnusable, match=r"refuses us \(") as caught:
                    await refused.open()
                assert PASSWORD not in str(caught.value)
            allowed = store(f"me:{PASSWORD}")
            await allowed.open()
            assert {state.status for state in await allowed.indexes()} == {"ok"}
            assert PASSWORD not in allowed.description
            await allowed.close()

    async def test_without_a_journal(self, tmp_path: Path) -> None:
        """A server on which nothing survives a crash acknowledges nothing."""
        with running(tmp_path, "--storageEngine", "ephemeralForTest") as server:
            store = MongoStore(at(server))
            await store.open()
            with pytest.raises(StoreUnusable, match="keeps no journal"):
                await store.put([envelope(sample())])
            await store.close()

    async def test_a_replica_set_has_to_agree(self, tmp_path: Path) -> None:
        """On a replica set a write waits for the majority's journals, and the whole store works there."""
        with replica_set(tmp_path) as server:
            store = MongoStore(Address(uri=Secret(f"{server.uri}/?replicaSet=rs0"), database="llm-bench"))
            await store.open()

            assert str(store.deployment).startswith("replica set: a write counts once a majority")
            assert store._database().write_concern.document == {"w": "majority", "j": True, "wtimeout": 10_000}
            verdicts = [one.status for _ in range(2) for one in await store.put([envelope(failure(id="a" * 24))])]
            assert verdicts == ["stored", "duplicate"]
            assert [rollup.count for rollup in await store.rollups()] == [1]
            await store.close()

    async def test_found_but_not_agreed_on(self, tmp_path: Path, long: bool) -> None:
        """With the only other server of data gone, neither a put nor its repeat is acknowledged until it is back."""
        if not long:
            pytest.skip("three servers take ten seconds to agree: only with --long")
        servers = [Mongod(tmp_path / str(number), "--replSet", "rs0", "--oplogSize", "50") for number in range(3)]
        try:
            for number, server in enumerate(servers):
                (tmp_path / str(number)).mkdir()
                server.start()
            await anyio.to_thread.run_sync(_initiate, servers)
            uri = f"{servers[0].uri},127.0.0.1:{servers[1].port}/?replicaSet=rs0"
            store = MongoStore(Address(uri=Secret(uri), database="llm-bench"), Limits(socket=1.0, put=2.0))
            await store.open()
            servers[1].kill()
            batch = envelopes(sample())

            for _ in range(2):
                with pytest.raises(StoreError):
                    await store.put(batch)
            assert len(await store.outcomes(OutcomeQuery())) == 1

            servers[1].start()
            with anyio.fail_after(30):
                while (verdict := await _put_or_none(store, batch)) is None:
                    pass  # each try waits for the majority by itself
            assert verdict.status == "duplicate"
            await store.close()
        finally:
            for server in servers:
                server.kill()


def _initiate(servers: Sequence[Mongod]) -> None:
    """Make a replica set of two servers and an arbiter, the first of them primary, and wait until both are there."""
    roles: list[dict[str, Any]] = [{"priority": 2}, {"priority": 0}, {"arbiterOnly": True}]
    members = [
        {"_id": number, "host": f"127.0.0.1:{server.port}", **role}
        for number, (server, role) in enumerate(zip(servers, roles, strict=True))
    ]
    settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 300}
    with MongoClient[dict[str, Any]](servers[0].uri, directConnection=True) as client:
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members, "settings": settings})
        # With an arbiter the server wants to be told what a write without a concern means.
        with MongoClient[dict[str, Any]](f"{servers[0].uri}/?replicaSet=rs0") as primary:
            primary.admin.command({"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": 1}})
            both = WriteConcern(w=2, wtimeout=30_000)
            primary.get_database("warm-up", write_concern=both).one.insert_one({})


async def _put_or_none(store: MongoStore, batch: Sequence[Envelope]) -> Verdict | None:
    try:
        return (await store.put(batch))[0]
    except StoreError:
        return None


class TestCounting:
    """Each failure counts once, whatever happens between the steps."""

    @pytest.mark.parametrize(("marked", "noted"), [*itertools.product([True, False], repeat=2)])
    @pytest.mark.parametrize("again", [True, False])
    async def test_what_a_killed_program_leaves(
        self, client: MongoClient[dict[str, Any]], emptied_address: Address, marked: bool, noted: bool, again: bool
    ) -> None:
        """Each state that a crash can leave is made good, by a repeat or by the next program's first put."""
        one, raw = failure(), client[emptied_address.database]
        store = MongoStore(emptied_address)
        await store.open()
        await store.put([envelope(one)])
        if marked:
            raw.errors_cloud.update_one({}, {"$set": {"uncounted": True}})
        if noted:
            raw.error_rollups.update_one({}, {"$set": {"counting": [ObjectId(one.id)]}})
        elif marked:
            raw.error_rollups.delete_many({})
        await store.close()
        await store.open()

        await store.put([envelope(one if again else failure())])

        assert [rollup.count for rollup in await store.rollups()] == [1 if again else 2]
        assert raw.errors_cloud.count_documents({"uncounted": True}) == 0
        assert [rollup["counting"] for rollup in raw.error_rollups.find()] == [[]]
        await store.close()

    async def test_several_runners_count_at_once(self, mongod: Mongod) -> None:
        """Runners that put failures of one kind at the same time, some of them the same, lose and double none."""
        address = at(mongod)
        stores = [MongoStore(address) for _ in range(4)]
        shared = [failure(run_ts=moment(n)) for n in range(20)]
        for store in stores:
            await store.open()

        async def put(store: MongoStore) -> None:
            own = [failure(run_ts=moment(n)) for n in range(10)]
            for start in range(0, 20, 5):
                await store.put(envelopes(*shared[start : start + 5], *own[start // 2 : start // 2 + 3]))

        async with anyio.create_task_group() as group:
            for store in stores:
                group.start_soon(put, store)

        stored = await stores[0].outcomes(OutcomeQuery(kind="failures"))
        assert [rollup.count for rollup in await stores[0].rollups()] == [len(stored)]
        assert len(stored) == len(shared) + 4 * 10
        for store in stores:
            await store.close()
        with MongoClient[dict[str, Any]](mongod.uri) as client:
            assert client[address.database].error_rollups.count_documents({"counting": []}) == 1
            client.drop_database(address.database)

    async def test_several_at_once_without_the_index(
        self, client: MongoClient[dict[str, Any]], address: Address
    ) -> None:
        """Where fingerprints can't be kept unique, runners still make one rollup of a new one, and count each once."""
        raw = client[address.database]
        raw.error_rollups.insert_many([{"fingerprint": "old", "count": 3}, {"fingerprint": "old", "count": 2}])
        stores = [MongoStore(address) for _ in range(4)]
        for store in stores:
            await store.open()

        for trial in range(8):
            new = [failure(fingerprint=f"new-{trial}") for _ in range(8)]
            async with anyio.create_task_group() as group:
                for number, store in enumerate(stores):
                    group.start_soon(store.put, envelopes(*new[2 * number : 2 * number + 2], new[0]))
            assert [one["count"] for one in raw.error_rollups.find({"fingerprint": f"new-{trial}"})] == [8]
        for store in stores:
            await store.close()

    async def test_what_another_rollup_of_the_kind_has_counted(
        self, client: MongoClient[dict[str, Any]], address: Address
    ) -> None:
        """Of several rollups of a fingerprint, each is asked what it has counted already."""
        raw, one = client[address.database], failure()
        raw.error_rollups.insert_many(
            [{"_id": n, "fingerprint": one.fingerprint, "count": n, "counting": []} for n in (1, 2)]
        )
        store = MongoStore(address)
        await store.open()
        await store.put([envelope(one)])
        raw.errors_cloud.update_one({}, {"$set": {"uncounted": True}})
        raw.error_rollups.update_one({"_id": 2}, {"$set": {"counting": [ObjectId(one.id)]}})

        await store.put([envelope(one)])

        await store.close()
        assert [(row["count"], row["counting"]) for row in raw.error_rollups.find().sort("_id", 1)] == [
            (2, []),
            (2, []),
        ]

    def test_killed_programs(self, mongod: Mongod) -> None:
        """A program that puts is killed three times, at random: what it acknowledged is there, and counts agree."""
        address, acknowledged = at(mongod), set[str]()
        command = [sys.executable, "-c", PUT_FOR_EVER, mongod.uri, address.database]
        for _ in range(3):
            with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                lines = (line for line in process.stdout if line.endswith("\n"))  # a kill may cut the last one
                acknowledged.update(" ".join(next(lines) for _ in range(random.randint(1, 20))).split())
                process.kill()
                acknowledged.update(" ".join(lines).split())

        anyio.run(_check_accounts, address, acknowledged)
        with MongoClient[dict[str, Any]](mongod.uri) as client:
            client.drop_database(address.database)


async def _check_accounts(address: Address, acknowledged: set[str]) -> None:
    store = MongoStore(address)
    await store.open()
    await store.put([envelope(failure())])
    stored = [outcome.id for outcome in await store.outcomes(OutcomeQuery())]
    failures = await store.outcomes(OutcomeQuery(kind="failures"))
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    assert [rollup.count for rollup in await store.rollups()] == [len(failures)]
    await store.close()

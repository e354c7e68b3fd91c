"""`llmbench store copy`: everything from SQLite to MongoDB and back, as often as it takes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from llmbench.cli import store_copy
from llmbench.cli.store_copy import Copy
from llmbench.lifecycle import RECORDS, Record
from llmbench.messages import Envelope
from llmbench.secrets import Secret
from llmbench.stores.base import PARTS, ErrorRollup, Page, Part, Store, StoreError, Verdict
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.sqlite import SQLiteStore
from tests.cli.conftest import Program, Result
from tests.stores.contract_lifecycle import entry, listing, run, snapshot, status
from tests.stores.contract_models import full
from tests.stores.documents import envelope, failure, model, moment, sample
from tests.stores.mongod import Mongod

EVERYTHING = [
    *(envelope(sample(run_ts=moment(n))) for n in range(7)),
    *(envelope(sample(run_ts=moment(n), sample_role="bench"), publish=False) for n in range(3)),
    *(envelope(failure(run_ts=moment(n), message=f"m{n}")) for n in range(5)),
]
MODELS = [model(), full("gpt-4o"), model("GPT-4o"), model("llama-3", provider="groq")]
RECORDED: list[Record] = [entry(), entry("o3", raw={"$a.b": 1}), run(), status(), status("o3"), snapshot()]
OLDER = ErrorRollup(
    fingerprint="0" * 64,
    provider="groq",
    model_name="gone",
    stage="connect",
    error_kind="network",
    first_seen=moment(-9),
    last_seen=moment(-8),
    count=12,
    sample_messages=["refused"],
)
"""A count whose failures are not there any more."""


@pytest.fixture
def variables(mongod: Mongod) -> Iterator[dict[str, str]]:
    """The variables of a database of its own."""
    name = f"llm-bench-{ObjectId()}"
    yield {"MONGODB_URI": mongod.uri, "MONGODB_DB": name}
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(name)


def mongo(variables: dict[str, str]) -> MongoStore:
    return MongoStore(Address(uri=Secret(variables["MONGODB_URI"]), database=variables["MONGODB_DB"]))


async def filled(store: Store) -> None:
    await store.open()
    assert all(verdict.status == "stored" for verdict in await store.put(EVERYTHING))
    for one in MODELS:
        assert await store.put_model(one) is None
    await store.put_rollup(OLDER)
    assert all(verdict.status == "stored" for verdict in await store.put_records(RECORDED))
    await store.put_listing(listing("gpt-4o", provider="groq"))
    await store.close()


async def contents(store: Store) -> list[Any]:
    """Return all that a store has."""
    await store.open()
    try:
        outcomes = [item for part in PARTS for item in (await store.page(part, size=1000)).items]
        # Two spellings of a model are in no order.
        models = sorted(await store.models(), key=lambda one: one.model_id)
        records = [await store.records(kind) for kind in RECORDS]
        return [outcomes, models, await store.rollups(), records]
    finally:
        await store.close()


def told(result: Result) -> dict[str, list[int]]:
    """Return of each sort what was read, added, there already, refused, and is there now."""
    found = [json.loads(line) for line in result.lines()]
    return {one.pop("what"): list(one.values()) for one in found}


async def test_there_and_back(program: Program, variables: dict[str, str]) -> None:
    """Through MongoDB into a second file: everything is in all three places, and each command tells its counts."""
    first, second = program.home / "first.db", program.home / "second.db"
    await filled(SQLiteStore(first))
    whole = await contents(SQLiteStore(first))

    there = program.ok("store", "copy", first, "env:MONGODB_URI", "--json", env=variables)
    back = program.ok("store", "copy", "env:MONGODB_URI", second, "--json", env=variables)

    assert await contents(mongo(variables)) == whole
    assert await contents(SQLiteStore(second)) == whole
    assert told(there) == {
        "models": [4, 4, 0, 0, 4],
        "samples": [7, 7, 0, 0, 7],
        "samples, not published": [3, 3, 0, 0, 3],
        "failures": [5, 5, 0, 0, 5],
        "counted errors": [2, 2, 0, 0, 2],
        "listed models": [3, 3, 0, 0, 3],
        "discoveries": [2, 2, 0, 0, 2],
        "statuses of models": [2, 2, 0, 0, 2],
        "deprecation snapshots": [1, 1, 0, 0, 1],
    }
    assert told(back) == told(there)
    assert there.err.startswith(f"copying from SQLite file {first} to MongoDB database ")


async def test_there_and_home(program: Program, variables: dict[str, str]) -> None:
    """MongoDB keeps milliseconds: what it gives back is what it came from all the same, and so is what it gave on."""
    first, second = program.home / "first.db", program.home / "second.db"
    store = SQLiteStore(first)
    await store.open()
    fine = moment() + timedelta(microseconds=123456)
    await store.put([envelope(sample(run_ts=fine)), envelope(failure(run_ts=fine))])
    await store.close()
    before = await contents(SQLiteStore(first))

    for source, target in ((first, "env:MONGODB_URI"), ("env:MONGODB_URI", second)):
        program.ok("store", "copy", source, target, env=variables)
    home = program.ok("store", "copy", "env:MONGODB_URI", first, "--json", env=variables)
    along = program.ok("store", "copy", first, second, "--json", env=variables)

    for result in (home, along):
        assert [told(result)[name][2:4] for name in ("samples", "failures")] == [[1, 0], [1, 0]]
    assert (await contents(SQLiteStore(first)))[0] == before[0]


async def test_twice_adds_nothing(program: Program, variables: dict[str, str]) -> None:
    """Everything is recognised, and what is in the target does not change."""
    source = program.home / "source.db"
    await filled(SQLiteStore(source))
    program.ok("store", "copy", source, "env:MONGODB_URI", env=variables)
    before = await contents(mongo(variables))

    again = program.ok("store", "copy", source, "env:MONGODB_URI", env=variables)

    assert await contents(mongo(variables)) == before
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in again.lines()[2:]]
    assert cells == [
        ["models", "4", "0", "4", "0", "4"],
        ["samples", "7", "0", "7", "0", "7"],
        ["samples, not published", "3", "0", "3", "0", "3"],
        ["failures", "5", "0", "5", "0", "5"],
        ["counted errors", "2", "0", "2", "0", "2"],
        ["listed models", "3", "0", "3", "0", "3"],
        ["discoveries", "2", "0", "2", "0", "2"],
        ["statuses of models", "2", "0", "2", "0", "2"],
        ["deprecation snapshots", "1", "0", "1", "0", "1"],
    ]


class Failing(SQLiteStore):
    """A store that is gone after so many batches."""

    batches = 2

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        if self.batches == 0:
            raise StoreError("the disk is full")
        self.batches -= 1
        return await super().put(items)


async def test_an_interrupted_copy_is_completed(tmp_path: Path) -> None:
    """What was copied before the target failed stays; another copy does the rest."""
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    await filled(SQLiteStore(source))
    reading, failing, well = SQLiteStore(source), Failing(target), SQLiteStore(target)
    for store in (reading, failing, well):
        await store.open()

    with pytest.raises(StoreError, match="the disk is full"):
        await Copy(reading, failing).all()
    assert await well.counts() == {"samples": 7, "probes": 3, "failures": 0}
    found = {one.what: one for one in await Copy(reading, well).all()}

    assert (found["samples"].there_already, found["failures"].added) == (7, 5)
    for store in (reading, failing, well):
        await store.close()
    assert await contents(SQLiteStore(target)) == await contents(SQLiteStore(source))


async def test_a_row_that_can_not_be_read(program: Program) -> None:
    """It is refused, by its id, and keeps nothing else back."""
    source = program.home / "source.db"
    await filled(SQLiteStore(source))
    damaged = EVERYTHING[3].outcome.id
    with closing(sqlite3.connect(source, isolation_level=None)) as connection:
        connection.execute("UPDATE samples SET document = '{' WHERE id = ?", (damaged,))

    result = program.run("store", "copy", source, "target.db", "--json")

    assert result.code == 1
    assert told(result)["samples"] == [7, 6, 0, 1, 6]
    assert told(result)["failures"] == [5, 5, 0, 0, 5]
    assert f"refused: {damaged}: " in result.err


class Busy(SQLiteStore):
    """A store in which a run fails after the last page of failures was read."""

    late: Envelope | None = None

    async def page(self, part: Part, *, after: Any = None, size: int) -> Page:
        found = await super().page(part, after=after, size=size)
        if part == "failures" and found.next is None and self.late is not None:
            late, self.late = self.late, None
            await self.put([late])
        return found


async def test_a_source_that_is_used_meanwhile(tmp_path: Path) -> None:
    """A failure that comes in between is counted once, by the copy that brings it."""
    source, target = Busy(tmp_path / "source.db"), SQLiteStore(tmp_path / "target.db")
    for store in (source, target):
        await store.open()
    await source.put([envelope(failure(run_ts=moment(0)))])
    source.late = envelope(failure(run_ts=moment(1)))

    await Copy(source, target).all()
    [first] = await target.rollups()
    await Copy(source, target).all()

    assert first.count == 1
    assert await target.counts() == await source.counts()
    assert await target.rollups() == await source.rollups()
    for store in (source, target):
        await store.close()


async def test_progress_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, how much of how many; here without the pause between two notes."""
    monkeypatch.setattr(store_copy, "_SECONDS_BETWEEN_NOTES", 0.0)
    await filled(SQLiteStore(tmp_path / "source.db"))
    source, target = SQLiteStore(tmp_path / "source.db"), SQLiteStore(tmp_path / "target.db")
    for store in (source, target):
        await store.open()
    await Copy(source, target).all()
    for store in (source, target):
        await store.close()

    parts = ["samples: 7 of 7", "samples, not published: 3 of 3", "failures: 5 of 5"]
    records = ["listed models: 3 of 3", "discoveries: 2 of 2"]
    records += ["statuses of models: 2 of 2", "deprecation snapshots: 1 of 1"]
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in [*parts, *records]))


async def test_a_target_that_is_used_meanwhile(program: Program, variables: dict[str, str]) -> None:
    """Its own rows stay; a model that it has is left as it is; a conflict is told, and the exit code is 1."""
    source = program.home / "source.db"
    await filled(SQLiteStore(source))
    own = envelope(sample(model_name="its-own"))
    other = envelope(sample(id=EVERYTHING[0].outcome.id, model_name="other"))
    store = mongo(variables)
    await store.open()
    await store.put([own, other])
    await store.add_model(model(notes="its own"))
    await store.close()

    result = program.run("store", "copy", source, "env:MONGODB_URI", "--json", env=variables)

    assert result.code == 1
    assert told(result)["samples"] == [7, 6, 0, 1, 8]
    assert told(result)["models"] == [4, 3, 1, 0, 4]
    assert f"refused: {other.outcome.id}: " in result.err
    outcomes, models, *_ = await contents(mongo(variables))
    assert own in outcomes
    assert other in outcomes
    assert model(notes="its own") in models


async def test_records_that_both_places_have(program: Program, variables: dict[str, str]) -> None:
    """The newer status and the wider sight of a model hold, in either direction; another snapshot is refused."""
    source = program.home / "source.db"
    await filled(SQLiteStore(source))
    newer: list[Record] = [status(computed_at=moment(9), last_updated=moment(9)), entry("O3", last_seen_at=moment(9))]
    other = snapshot(snapshot_mean=1.0)
    store = mongo(variables)
    await store.open()
    await store.put_records([*newer, status("o3", computed_at=moment(-9)), other])
    await store.close()

    result = program.run("store", "copy", source, "env:MONGODB_URI", "--json", env=variables)

    assert result.code == 1
    assert told(result)["statuses of models"] == [2, 0, 2, 0, 2]
    assert told(result)["listed models"] == [3, 2, 1, 0, 3]
    assert told(result)["deprecation snapshots"] == [1, 0, 0, 1, 1]
    assert "refused: openai/gpt-4o-mini: " in result.err
    [entries, _, statuses, snapshots] = (await contents(mongo(variables)))[3]
    assert newer[1] in entries
    assert [one.computed_at for one in statuses] == [moment(9), moment()]
    assert snapshots == [other]


async def test_documents_of_earlier_writers(program: Program, variables: dict[str, str]) -> None:
    """They come along with what they have, whatever their keys are; their failures are counted one by one."""
    with MongoClient[dict[str, Any]](variables["MONGODB_URI"]) as client:
        database = client[variables["MONGODB_DB"]]
        for key in (ObjectId(), "2024-11-03", 17):
            named = {"_id": key, "provider": "groq", "model_name": "llama"}
            database.metrics_cloud_v2.insert_one({**named, "run_ts": moment(), "tokens_per_second": 9.5})
        for n, message in enumerate(("no", "no", "never")):
            failed = {"provider": "groq", "model_name": "llama", "ts": moment() + timedelta(days=n)}
            database.errors_cloud.insert_one({**failed, "stage": "connect", "message": message})

        named = {"provider": "groq", "model_id": "llama"}
        database.provider_catalog.insert_one({**named, "raw": {"created": moment()}})
        database.model_status.insert_one({**named, "status": "odd", "metrics": {"last_error": "long ago"}})

    target = program.home / "target.db"
    result = program.ok("store", "copy", "env:MONGODB_URI", target, "--json", env=variables)

    assert [told(result)[name][1] for name in ("samples", "failures", "counted errors")] == [3, 3, 0]
    assert [told(result)[name][1] for name in ("listed models", "statuses of models")] == [1, 1]
    _, _, rollups, _ = await contents(SQLiteStore(target))
    assert [(one.count, one.sample_messages, len(one.fingerprint)) for one in rollups] == [
        (2, ["no"], 64),
        (1, ["never"], 64),
    ]


def test_a_terminal_is_safe_from_names(program: Program, variables: dict[str, str]) -> None:
    """Controls in the names of what is refused are shown as what they are."""
    with MongoClient[dict[str, Any]](variables["MONGODB_URI"]) as client:
        collection = client[variables["MONGODB_DB"]].metrics_cloud_v2
        odd = {"_id": "k\x1b[2J", "provider": "groq", "model_name": "llama", "run_ts": moment()}
        collection.insert_one(odd)
        program.ok("store", "copy", "env:MONGODB_URI", "target.db", env=variables)
        collection.update_one({}, {"$set": {"misc": {"n": 1}}})

    result = program.run("store", "copy", "env:MONGODB_URI", "target.db", env=variables)

    assert result.code == 1
    assert r"refused: k\x1b[2J: " in result.err
    assert "\x1b" not in result.err


def test_what_can_not_be_copied(program: Program, variables: dict[str, str]) -> None:
    """The same place twice, a place that is not there, two MongoDBs, a URI on the command line."""
    program.store()
    (program.home / "link.db").symlink_to(program.database)

    same = program.refused("store", "copy", program.database, "link.db")
    assert same == f"FROM and TO are the same file, '{program.database}': name another place to copy to"
    absent = program.refused("store", "copy", "absent.db", "new.db")
    assert absent.startswith("FROM is 'absent.db', which does not exist")
    assert not (program.home / "new.db").exists()
    (program.home / "empty.db").touch()
    assert program.refused("store", "copy", "empty.db", "new.db").startswith("FROM is 'empty.db', which is empty")
    assert not (program.home / "empty.db").stat().st_size
    both = program.refused("store", "copy", "env:MONGODB_URI", "env:MONGODB_URI", env=variables)
    assert "mongodump" in both
    uri = program.refused("store", "copy", "mongodb://me:hunter2@db/", "new.db")
    assert "hunter2" not in uri
    assert "write env:MONGODB_URI" in uri
    assert "'NOWHERE' is not set" in program.refused("store", "copy", "env:NOWHERE", "new.db").splitlines()[-1]


def test_a_target_that_does_not_answer(program: Program) -> None:
    """Exit code 3, and a sentence without the password."""
    program.store()
    uri = "mongodb://me:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=300"

    sentence = program.refused("store", "copy", program.database, "env:THERE", env={"THERE": uri}, code=3)

    assert "can't be reached" in sentence
    assert "hunter2" not in sentence

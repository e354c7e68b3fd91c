"""`llmbench doctor`: what is well, what is not, what to do; and nothing is changed by looking."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from llmbench.measure import probe
from llmbench.measure.probe import kernel_stamps_work
from llmbench.stores.counted import UNDATED
from llmbench.stores.mongo_findings import index_finding
from llmbench.stores.mongo_schema import INDEXES, IndexState
from tests.cli.conftest import Program, Result
from tests.stores.documents import failure, model, moment, sample
from tests.stores.mongod import Mongod

LOCAL = '[providers.local]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\n'
Document = dict[str, Any]


@pytest.fixture
def variables(mongod: Mongod) -> Iterator[dict[str, str]]:
    """The variables of a deployment with a database of its own."""
    name = f"llm-bench-{ObjectId()}"
    yield {"MONGODB_URI": mongod.uri, "MONGODB_DB": name}
    with MongoClient[Document](mongod.uri) as client:
        client.drop_database(name)


def found(result: Result) -> dict[str, list[Document]]:
    """Return the findings by what was checked."""
    by_check: dict[str, list[Document]] = {}
    for line in result.lines():
        one = json.loads(line)
        by_check.setdefault(one.pop("check"), []).append(one)
    return by_check


def states(result: Result) -> dict[str, str]:
    return {check: found[-1]["state"] for check, found in found(result).items()}


# configuration and credentials


def test_all_is_well(program: Program, narrow: Callable[[Result], None]) -> None:
    """Exit code 0, a row for each check; what is not there yet is not made."""
    program.configure(LOCAL)
    result = program.ok("doctor")

    narrow(result)
    assert result.err == ""
    assert found(program.ok("doctor", "--json"))["credentials of local"] == [{"state": "ok", "told": "none are needed"}]
    assert set(states(program.ok("doctor", "--json")).values()) == {"ok"}
    assert not program.database.parent.exists()


def test_a_wrong_configuration(program: Program) -> None:
    """Every problem is a row, and what does not depend on it is checked all the same."""
    program.configure('[schedule]\nfresh_minutes = "soon"\n[providers.groq]\nconcurency = 2\n')
    result = program.run("doctor", "--json")

    assert result.code == 1
    assert [one["state"] for one in found(result)["configuration"]] == ["fail", "fail"]
    assert set(found(result)) == {"configuration", "kernel stamps"}


def test_credentials_of_each_provider(program: Program) -> None:
    """A key that is not set and a cloud without credentials fail, with what to do; a key that is set is not shown."""
    program.configure("[providers.openai]\n[providers.groq]\n[providers.bedrock]\nregion = 'us-east-1'\n")
    # Nobody answers there: AWS's default chain would otherwise ask the machine's metadata service.
    env = {"OPENAI_API_KEY": "sk-test-0123456789", "AWS_EC2_METADATA_DISABLED": "true"}
    result = program.run("doctor", "--json", env=env)

    assert result.code == 1
    assert {check: state for check, state in states(result).items() if check.startswith("credentials")} == {
        "credentials of openai": "ok",
        "credentials of groq": "fail",
        "credentials of bedrock": "fail",
    }
    assert "'GROQ_API_KEY' is not set" in found(result)["credentials of groq"][0]["told"]
    assert found(result)["credentials of bedrock"][0]["told"].startswith("this machine has no AWS credentials")
    assert "sk-test" not in result.out


def test_a_listed_id_against_the_rules(program: Program) -> None:
    """A warning, which leaves the exit code 0."""
    program.configure(LOCAL + 'models = ["text-embedding-3-small"]\n')
    result = program.ok("doctor", "--json")

    assert states(result)["model ids"] == "warn"


# SQLite


def test_a_file_that_is_well(program: Program) -> None:
    """Size, versions, journal and integrity are told, while it is open elsewhere, too; and it stays as it is."""
    program.configure(LOCAL)
    program.store(models=[model()])
    before = program.database.read_bytes()
    closed = program.ok("doctor", "--json")
    with closing(sqlite3.connect(program.database)) as connection:
        connection.execute("SELECT * FROM models").fetchall()
        used = program.ok("doctor", "--json")

    for result in (closed, used):
        told = {check: one["told"] for check, [one] in found(result).items()}
        assert told["store"].startswith(f"SQLite file {program.database}: 0.1 MB")
        assert told["store"].endswith(f"SQLite {sqlite3.sqlite_version}")
        assert told["journal"].startswith("write-ahead log")
        assert told["schema"] == "version 2"
        assert set(states(result).values()) == {"ok"}
    assert "its log" in found(used)["store"][0]["told"]
    assert program.database.read_bytes() == before


def test_a_damaged_file(program: Program) -> None:
    """Pages that hold something else fail, and the exit code is 1."""
    program.configure(LOCAL)
    program.store(models=[model(f"m{n}", notes="long" * 500) for n in range(50)])
    whole = program.database.read_bytes()
    program.database.write_bytes(whole[: len(whole) // 2] + b"\7" * 8192 + whole[len(whole) // 2 + 8192 :])
    result = program.run("doctor", "--json")

    assert result.code == 1
    assert states(result)["integrity"] == "fail"
    assert found(result)["integrity"][0]["advice"] == "stop the engine and restore a backup"


def test_a_file_of_another_program(program: Program) -> None:
    """It can't be used, and that is all that is said of it."""
    program.configure(LOCAL)
    program.database.parent.mkdir(parents=True)
    program.database.write_bytes(b"dear diary\n" * 100)
    result = program.run("doctor", "--json")

    assert result.code == 1
    assert found(result)["store"][0]["told"].endswith("restore or move it away")


def test_a_file_that_was_worked_on_by_hand(program: Program) -> None:
    """Without its index a model may be enabled twice, and without a log a commit is less; both are told."""
    program.configure(LOCAL)
    program.store(models=[model()])
    with closing(sqlite3.connect(program.database, isolation_level=None)) as connection:
        connection.execute("DROP INDEX models_enabled")
        connection.execute("INSERT INTO models SELECT * FROM models")
        connection.execute("PRAGMA journal_mode = DELETE")
    result = program.run("doctor", "--json")

    assert result.code == 1
    assert found(result)["duplicates"][0]["told"] == "enabled more than once: openai/gpt-4o-mini"
    assert states(result)["journal"] == "warn"


# MongoDB


def test_a_database_that_is_well(program: Program, variables: dict[str, str]) -> None:
    """First its indexes are missing, and looking makes none; once llmbench has been there, all is well."""
    program.configure(LOCAL)
    result = program.ok("doctor", "--json", env=variables)
    indexes = {f"index {index.collection}.{index.name}" for index in INDEXES}

    assert {check for check, state in states(result).items() if state == "warn"} == indexes
    with MongoClient[Document](variables["MONGODB_URI"]) as client:
        assert client[variables["MONGODB_DB"]].list_collection_names() == []

    program.ok("models", "list", env=variables)
    result = program.ok("doctor", "--json", env=variables)
    assert indexes < set(states(result))
    assert set(states(result).values()) == {"ok"}
    assert "version 6.0" in found(result)["store"][0]["told"]
    assert found(result)["writing"][0]["told"].startswith("standalone server: ")


def test_indexes_and_duplicates_that_are_in_the_way(program: Program, variables: dict[str, str]) -> None:
    """An index with other options is a warning, two enabled spellings are a failure; each with what to do.

    Two statuses of one model keep nothing from working.
    """
    program.configure(LOCAL)
    with MongoClient[Document](variables["MONGODB_URI"]) as client:
        database = client[variables["MONGODB_DB"]]
        database.errors_cloud.create_index([("run_ts", 1)], name="llmbench_errors")
        for model_id in ("gpt-4o", "GPT-4o"):
            database.models.insert_one({"provider": "openai", "model_id": model_id, "enabled": True})
            database.model_status.insert_one({"provider": "openai", "model_id": model_id})
        result = program.run("doctor", "--json", env=variables)
        assert len(database.models.index_information()) == 1

    assert result.code == 1
    [other] = found(result)["index errors_cloud.llmbench_errors"]
    assert (other["state"], other["told"][:17]) == ("warn", "'llmbench_errors'")
    assert "dropIndex" in other["advice"]
    duplicates = {one["state"]: one for one in found(result)["duplicates"]}
    assert duplicates.keys() == {"ok", "fail", "warn"}
    assert "gpt-4o" in duplicates["fail"]["told"].lower()
    assert "disable all but one" in duplicates["fail"]["advice"]
    told = duplicates["warn"]["told"]
    assert told.startswith("documents of model_status with the same provider and model_id: openai/")


def test_documents_that_count_nowhere(program: Program, variables: dict[str, str]) -> None:
    """How many there are of each sort, which rows are no models, and whose clock is wrong."""
    ahead = datetime.now(UTC) + timedelta(days=30)
    named = {"provider": "groq", "model_name": "llama"}
    with MongoClient[Document](variables["MONGODB_URI"]) as client:
        database = client[variables["MONGODB_DB"]]
        program.ok("models", "list", env=variables)
        odd: list[Document] = [
            {**named, "run_ts": "yesterday"},
            {**named},
            {"run_ts": moment()},
            {"provider": "groq", "run_ts": moment()},
        ]
        database.metrics_cloud_v2.insert_many([*odd, {**named, "run_ts": ahead, "runner_id": "r7"}])
        failures: list[Document] = [{**named, "ts": moment()}, {**named, "ts": ahead}, {**named}, {"ts": moment()}]
        failures.append({**named, "run_ts": 7})
        database.errors_cloud.insert_many(failures)
        rows: list[Document] = [{"_id": 7, "model_id": 42}, {"provider": "", "model_id": "x"}, {}]
        rows += [{"provider": "sim", "model_id": name, "enabled": value} for name, value in (("a", "true"), ("b", 1))]
        database.models.insert_many([*rows, {"provider": "sim", "model_id": "c", "enabled": None}])

    result = program.run("doctor", "--json", env=variables)
    told = {check: [one["told"] for one in findings] for check, findings in found(result).items()}

    assert told["answers from metrics_cloud_v2"] == [
        "2 with no provider or no model, which count in no answer",
        "2 with no date (run_ts), which count in no answer",
        f"1 dated in the future, up to {ahead:%Y-%m-%d %H:%M} UTC by runner 'r7', which count in no answer",
    ]
    assert [one.split(",")[0] for one in told["answers from errors_cloud"]] == [
        "1 with no provider or no model",
        "2 with no date (run_ts)",
        "1 dated in the future",
    ]
    nameless, odd_enabled = told["models"]
    assert nameless.startswith("3 documents of models name no provider or no model_id: 7, ")
    assert odd_enabled.endswith("are not measured: sim/a, sim/b")


def test_rows_of_a_file_that_count_nowhere(program: Program) -> None:
    """They come from a copy, or from a wrong clock."""
    program.configure(LOCAL)
    ahead = datetime.now(UTC) + timedelta(days=30)
    program.store([sample(provider=""), sample(run_ts=UNDATED), failure(run_ts=ahead, runner_id="r7"), sample()])

    told = {
        check: [one["told"] for one in findings] for check, findings in found(program.ok("doctor", "--json")).items()
    }

    assert told["answers from samples"] == [
        "1 with no provider or no model, which count in no answer",
        "1 with no date (run_ts), which count in no answer",
    ]
    assert told["answers from failures"] == [
        f"1 dated in the future, up to {ahead:%Y-%m-%d %H:%M} UTC by runner 'r7', which count in no answer"
    ]


def test_an_index_that_is_being_built() -> None:
    """It is a warning, and there is nothing to do but wait."""
    told = index_finding(IndexState(collection="models", name="llmbench_enabled", status="building"))

    assert (told.state, told.told) == ("warn", "is being built")


def test_a_view_in_the_place_of_a_collection(program: Program, variables: dict[str, str]) -> None:
    """The store can't be used, and the sentence says why."""
    program.configure(LOCAL)
    with MongoClient[Document](variables["MONGODB_URI"]) as client:
        client[variables["MONGODB_DB"]].create_collection("models", viewOn="others")
    result = program.run("doctor", "--json", env=variables)

    assert result.code == 1
    assert "has 'models' as a view" in found(result)["store"][0]["told"]


def test_a_server_that_is_not_there(program: Program) -> None:
    """Exit code 3; the other checks are made, and the password is nowhere."""
    program.configure(LOCAL)
    uri = "mongodb://me:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=300"
    result = program.run("doctor", "--json", env={"MONGODB_URI": uri})

    assert result.code == 3
    assert states(result) == {
        "configuration": "ok",
        "credentials of local": "ok",
        "store": "unreachable",
        "kernel stamps": "ok",
    }
    assert "hunter2" not in result.out + result.err


def test_a_variable_that_is_not_set(program: Program) -> None:
    """A MongoDB store without its URI fails."""
    program.configure('[store]\nkind = "mongo"\n' + LOCAL)
    result = program.run("doctor", "--json")

    assert (result.code, states(result)["store"]) == (1, "fail")
    assert "'MONGODB_URI' is not set" in found(result)["store"][0]["told"]


# kernel stamps


def test_the_kernel_is_asked_for_a_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine it gives one; a socket option that means something else gives none."""
    assert kernel_stamps_work() is True
    monkeypatch.setattr(probe, "SO_TIMESTAMPNS", socket.SO_KEEPALIVE)
    assert kernel_stamps_work() is False

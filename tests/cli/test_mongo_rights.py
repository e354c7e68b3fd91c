"""A database that commands may only read, or whose indexes are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from tests.cli.conftest import Program
from tests.stores.mongod import Mongod, running

PASSWORD = "pass-0123456789"
GROQ = '[providers.groq]\nmodels = ["llama"]\n'


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a user who may only read; the database has one model."""
    with running(tmp_path_factory.mktemp("server"), "--auth") as mongod:
        with MongoClient[dict[str, Any]](mongod.uri) as first:
            # From the same machine, a server without users lets the first one be made.
            first.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"], writeConcern={"w": 1, "j": True})
        with MongoClient[dict[str, Any]](mongod.uri.replace("//", f"//root:{PASSWORD}@")) as admin:
            admin["llm-bench"].models.insert_one({"provider": "groq", "model_id": "qwen", "enabled": True})
            roles = [{"role": "read", "db": "llm-bench"}]
            admin.admin.command("createUser", "reader", pwd=PASSWORD, roles=roles, writeConcern={"w": 1, "j": True})
        yield {"MONGODB_URI": mongod.uri.replace("//", f"//reader:{PASSWORD}@") + "/?authSource=admin"}


def test_who_may_only_read_sees_what_is_there(program: Program, reader: dict[str, str]) -> None:
    """A warning says what could not be written, without the driver's view of it."""
    program.configure(GROQ)
    for action in (("list", "--json"), ("export",), ("show", "groq/qwen", "--json")):
        result = program.ok("models", *action, env=reader)
        shown = json.loads(result.out)
        assert shown.get("model", shown)["model_id"] == "qwen"
        assert result.err.startswith("warning: what config.toml lists is not in the catalogue yet: MongoDB database")
        assert "not authorized on llm-bench to execute command 'insert')" in result.err
        assert "{" not in result.err
        assert result.err.count("\n") == 1


def test_who_may_only_read_changes_nothing(program: Program, reader: dict[str, str]) -> None:
    """A command that would write is refused, in a sentence."""
    program.configure(GROQ)
    sentence = program.refused("models", "add", "groq/gemma2-9b-it", env=reader)
    assert "refuses us (" in sentence
    assert "{" not in sentence


@pytest.fixture
def spelled_twice(mongod: Mongod) -> Iterator[dict[str, str]]:
    """The variables of a database in which the catalogue's index can't be made."""
    name = f"llm-bench-{ObjectId()}"
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        for model_id in ("qwen", "QWEN"):
            client[name].models.insert_one({"provider": "groq", "model_id": model_id, "enabled": True})
        yield {"MONGODB_URI": mongod.uri, "MONGODB_DB": name}
        client.drop_database(name)


def test_answers_come_without_the_state_of_the_indexes(program: Program, spelled_twice: dict[str, str]) -> None:
    """That is for the engine's log and doctor."""
    program.configure("[providers.groq]\n")
    for words in (("models", "list", "--count"), ("errors",), ("results", "--summary")):
        assert "index" not in program.ok(*words, env=spelled_twice).err
    assert "groq/qwen" in program.run("doctor", env=spelled_twice).out


def test_copies_come_without_the_state_of_the_indexes(
    program: Program, spelled_twice: dict[str, str], tmp_path: Path
) -> None:
    """They read and write what is there."""
    result = program.ok("store", "copy", "env:MONGODB_URI", tmp_path / "copy.db", env=spelled_twice)
    assert "index" not in result.err


def test_doctor_tells_of_many_indexes_at_once(program: Program, mongod: Mongod) -> None:
    """Where none is there, or all are, it is one row of the table; as JSON each has its own."""
    name = f"llm-bench-{ObjectId()}"
    env = {"MONGODB_URI": mongod.uri, "MONGODB_DB": name}
    program.configure('[providers.local]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\n')
    before = " ".join(program.ok("doctor", env=env).out.split())
    program.ok("models", "list", env=env)
    after = program.ok("doctor", env=env).out
    each = [json.loads(line)["check"] for line in program.ok("doctor", "--json", env=env).lines()]
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(name)

    number = sum(check.startswith("index ") for check in each)
    assert f"{number} indexes warn are missing: error_rollups.llmbench_fingerprint, " in before
    assert before.count("llmbench makes it with its next start") == 1
    assert [line.split() for line in after.splitlines() if "index" in line] == [
        [str(number), "indexes", "ok", "are", "there"]
    ]

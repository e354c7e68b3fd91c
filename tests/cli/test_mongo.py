"""The program on a MongoDB server: the environment of an existing deployment is all that it needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from tests.cli.conftest import Program
from tests.stores.mongod import Mongod


@pytest.fixture
def variables(mongod: Mongod) -> Iterator[dict[str, str]]:
    """The variables of a deployment with a database of its own."""
    name = f"llm-bench-{ObjectId()}"
    yield {"MONGODB_URI": mongod.uri, "MONGODB_DB": name}
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(name)


def test_commands_use_the_database(program: Program, variables: dict[str, str]) -> None:
    """A model that is added is a row there, runs of earlier systems are shown, and no SQLite file is made."""
    program.configure("[providers.openai]\n")
    program.ok("models", "add", "openai/gpt-4o-mini", env=variables)
    with MongoClient[dict[str, Any]](variables["MONGODB_URI"]) as client:
        database = client[variables["MONGODB_DB"]]
        [row] = database.models.find()
        database.metrics_cloud_v2.insert_one(
            {
                "run_ts": datetime.now(UTC),
                "provider": "openai",
                "model_name": "gpt-4o-mini",
                "tokens_per_second": 41.5,
            }
        )

    assert (row["model_id"], row["enabled"]) == ("gpt-4o-mini", True)
    [shown] = program.ok("results", "--json", env=variables).lines()
    assert msgspec.json.decode(shown)["tokens_per_second"] == 41.5
    assert not program.database.exists()


def test_a_server_that_is_not_there(program: Program) -> None:
    """Exit code 3, and a sentence without the password."""
    program.configure("[providers.openai]\n")
    uri = "mongodb://me:hunter2@127.0.0.1:9/?serverSelectionTimeoutMS=300"

    sentence = program.refused("results", env={"MONGODB_URI": uri}, code=3)

    assert sentence.startswith("MongoDB database 'llm-bench' at 127.0.0.1:9 can't be reached (")
    assert sentence.endswith("; start it, or correct MONGODB_URI")
    assert "hunter2" not in sentence


def test_a_terminal_is_safe_from_providers(program: Program, variables: dict[str, str]) -> None:
    """Controls in a name that somebody else stored are shown as what they are."""
    with MongoClient[dict[str, Any]](variables["MONGODB_URI"]) as client:
        named = {"provider": "gro\x1b[2Jq", "model_name": "llama"}
        client[variables["MONGODB_DB"]].errors_cloud.insert_one({**named, "ts": datetime.now(UTC), "message": "boom"})

    result = program.run("health", env=variables)

    assert r"gro\x1b[2Jq (failing)" in result.err
    assert "\x1b" not in result.out + result.err


def test_a_variable_that_is_not_marked_as_one(program: Program, variables: dict[str, str]) -> None:
    """No file of its name is made; a file that is there is one."""
    file = program.home / "source.db"
    program.ok("models", "list")
    program.database.rename(file)
    told = "'MONGODB_URI', the name of an environment variable: write env:MONGODB_URI if a MongoDB database is meant"
    assert told in program.refused("store", "copy", file, "MONGODB_URI", env=variables)
    assert told in program.refused("store", "copy", "MONGODB_URI", file, env=variables)
    assert not (program.home / "MONGODB_URI").exists()
    assert program.refused("store", "copy", file, "env:NOPE") == (
        "environment variable 'NOPE' is not set: set it to the URI of the MongoDB server"
    )


def test_a_file_that_is_no_database(program: Program, variables: dict[str, str]) -> None:
    """Somebody may have named the wrong one, which is not to be restored."""
    program.configure("[providers.groq]\n")
    sentence = program.refused("store", "copy", "config.toml", "env:MONGODB_URI", env=variables)
    assert "is no SQLite database, or its beginning is damaged" in sentence
    assert sentence.endswith("; name another file, or restore or move it away")

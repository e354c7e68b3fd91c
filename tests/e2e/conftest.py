"""Where the real program runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.e2e.program import Place
from tests.stores.mongod import Mongod


@pytest.fixture
def place(tmp_path: Path, simulator: SpawnedSimulator) -> Place:
    """A folder for one test's program."""
    return Place(tmp_path, simulator)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, simulator: SpawnedSimulator) -> Place:
    """A folder for the programs of one module, each of which finds what the one before left."""
    return Place(tmp_path_factory.mktemp("shared"), simulator)


@pytest.fixture
def database(mongod: Mongod) -> Iterator[Database[dict[str, Any]]]:
    """A database of one test's own."""
    with MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        name = f"llm-bench-{ObjectId()}"
        yield client[name]
        client.drop_database(name)

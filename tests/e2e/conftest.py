"""Where the real program runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbench.simulator import SpawnedSimulator
from tests.e2e.program import Place


@pytest.fixture
def place(tmp_path: Path, simulator: SpawnedSimulator) -> Place:
    """A folder for one test's program."""
    return Place(tmp_path, simulator)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, simulator: SpawnedSimulator) -> Place:
    """A folder for the programs of one module, each of which finds what the one before left."""
    return Place(tmp_path_factory.mktemp("shared"), simulator)

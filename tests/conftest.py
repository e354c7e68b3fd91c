"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from llmbench.measure.loopwatch import BACKEND_OPTIONS
from llmbench.simulator import SpawnedSimulator, spawn_simulator
from tests.clouds import aws_environment, google_environment
from tests.stores.mongod import Mongod, running

_PARTS = ("", "_outcomes", "_questions", "_figures", "_models", "_transfer", "_trends", "_lifecycle", "_counted")
pytest.register_assert_rewrite(*(f"tests.stores.contract{part}" for part in _PARTS))


_FIRST = ("e2e", "faults", "tui", "cli", "stores", "bridge")
"""Folders of tests, those that take longest first."""

# How long an example takes says nothing on a machine that does other things as well.
hypothesis.settings.register_profile("llmbench", deadline=None)
hypothesis.settings.load_profile("llmbench")


def pytest_configure() -> None:
    """Take SIGINT as a terminal's program does: a shell ignores it for what it runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where workers share the tests, begin with those of whole programs: what is short fills the gaps at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _place(item.path.relative_to(config.rootpath).parts[1]))


def _place(folder: str) -> int:
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="do far more of what is done at random moments")
    parser.addoption("--update-snapshots", action="store_true", help="take what screens show now for right")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether this session may take its time."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Async tests run on the event loop of the measuring path."""
    return "asyncio", BACKEND_OPTIONS


@pytest.fixture(scope="session")
def simulator() -> Iterator[SpawnedSimulator]:
    """A simulator in a process of its own, shared by all tests: look only at requests of your own model or number."""
    with spawn_simulator() as spawned:
        yield spawned


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    """A MongoDB server that all tests share; use a database of your own."""
    with running(tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture(scope="module")
def clouds(simulator: SpawnedSimulator) -> Iterator[None]:
    """For a module: a machine with credentials of the clouds that the simulator takes, none of the developer's."""
    with pytest.MonkeyPatch.context() as patch:
        aws_environment(patch)
        google_environment(patch, simulator.url)
        yield

"""`llmbench tui` and the past: of which engine it is, that looking makes nothing, and a store that hangs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import COMMAND, KEYS, Place, until_logged
from tests.e2e.tmux import Pane, needs_tmux, pane
from tests.stores.mongod import Mongod, running

pytestmark = [needs_tmux, pytest.mark.timeout(120)]

SPOOL = Path(".local/share/llmbench/spool")


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory, simulator: SpawnedSimulator) -> Place:
    """Another configuration, with another store."""
    return Place(tmp_path_factory.mktemp("other"), simulator)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Mongod]:
    """A server that a test may freeze."""
    folder = tmp_path / "mongod"
    folder.mkdir()
    with running(folder) as server:
        yield server


@contextmanager
def watching(place: Place, *arguments: str, **variables: str) -> Iterator[Pane]:
    with pane([*COMMAND, "tui", *arguments], place.folder, place.environment(KEYS) | variables, size=(160, 40)) as it:
        yield it


def test_an_engine_of_another_configuration(place: Place, other: Place) -> None:
    """Its own past is not in the store here, which is not shown in its place, and not made if it is not there."""
    name, ours = unique(), unique()
    place.configure(groq=[name])
    other.configure(together=[ours])
    with place.started("--headless") as process, other.started("--headless") as another:
        until_logged(process, name)
        until_logged(another, ours)
        with watching(other, "--attach", str(place.folder / SPOOL)) as shown:
            shown.until("groq", "live")
            for key in "345":
                shown.press(key)
                text = shown.until("this engine stores in SQLite file", "engine's config.toml")
                assert ours not in text
                assert "together" not in text
            shown.press("q")
            assert shown.exit_code() == 0
        with watching(place) as shown:
            shown.until("groq", "live")
            shown.press("3")
            shown.until(name, "the store told this")
            shown.press("q")
            assert shown.exit_code() == 0


def test_looking_makes_no_store(place: Place, other: Place) -> None:
    """Neither for an engine that is away, nor for one of another configuration."""
    place.configure(groq=[unique()])
    other.configure(together=[unique()])
    folder = str(place.folder / SPOOL)
    with watching(other, "--attach", folder) as shown:
        shown.until("no engine runs")
        shown.press("3")
        shown.until("has not told yet where it stores")
        with place.started("--headless"):
            shown.until("this engine stores in SQLite file")
        shown.press("q")
        assert shown.exit_code() == 0
    assert not other.database.exists()


@pytest.mark.parametrize("asked", ["never", "before", "now"])
def test_a_store_that_hangs_keeps_nobody(place: Place, own: Mongod, asked: str) -> None:
    """Be it that it never answered, that it did before it froze, or that it is being asked: nothing is waited for."""
    name = unique()
    place.configure(groq=[name])
    with place.started("--headless", env=KEYS | {"MONGODB_URI": own.uri}) as process:
        until_logged(process, name)
        if asked == "never":
            with own.frozen(), watching(place, MONGODB_URI=own.uri) as shown:
                shown.until("groq", "live")
                shown.press("3")
                shown.until("asking the store for catalogue")
                leave_quickly(shown)
            return
        with watching(place, MONGODB_URI=own.uri) as shown:
            shown.until("groq", "live")
            shown.press("3")
            shown.until(name, "the store told this")
            with own.frozen():
                if asked == "now":
                    shown.press("C-r")
                    shown.until("asking again")
                leave_quickly(shown)


def leave_quickly(shown: Pane) -> None:
    begun = monotonic()
    shown.press("q")
    assert shown.exit_code() == 0
    took = monotonic() - begun
    shown.assert_restored()
    assert took < 2, "the driver waits for ten"

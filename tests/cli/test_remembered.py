"""The catalogue as it is remembered: for a store that is away, at the start of an engine or later."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from llmbench.actors.plans import Rotation
from llmbench.cli import headless
from llmbench.cli.remembered import Catalogue, Outdated
from llmbench.cli.selection import Selection
from llmbench.config import Config, load
from llmbench.messages import Model
from llmbench.naming import key_of
from llmbench.stores.base import StoreError, StoreUnusable
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.documents import model

LONG_AGO = timedelta(hours=6, minutes=5)
RECENT = timedelta(hours=5, minutes=55)


class Fickle(SQLiteStore):
    """A real store that can be told to be away or to refuse us."""

    error: StoreError | None = None

    async def seed_models(self, models: object) -> list[Model]:
        if self.error is not None:
            raise self.error
        return []


class Scene:
    """A catalogue over a store that can be away, and the note beside its spool."""

    def __init__(self, folder: Path) -> None:
        (folder / "config.toml").write_text('[spool]\nfolder = "spool"\n[store.sqlite]\npath = "llmbench.db"\n')
        (folder / "spool").mkdir()
        self.config = load(folder / "config.toml", {})
        self.note = folder / "spool" / "catalogue.json"
        self.store = Fickle(folder / "llmbench.db")

    def catalogue(self, config: Config | None = None) -> Catalogue:
        return Catalogue(config or self.config, self.store)

    def over_http(self) -> Config:
        """Return the configuration of an engine whose worklist comes over HTTP."""
        return msgspec.structs.replace(self.config, store=msgspec.structs.replace(self.config.store, kind="http"))

    def noted(self, ago: timedelta) -> None:
        self.noted_at(datetime.now(UTC) - ago)

    def noted_at(self, at: datetime) -> None:
        self.note.write_text(json.dumps(json.loads(self.note.read_text()) | {"at": at.isoformat()}))


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    """A store with two models, which was read once, and is away now."""
    scene = Scene(tmp_path)
    await scene.store.open()
    for name in ("one", "two"):
        await scene.store.add_model(model(name))
    assert [key_of(one) for one in await scene.catalogue().enabled()] == [("openai", "one"), ("openai", "two")]
    await scene.store.close()
    scene.store.error = StoreError("the store is away")
    return scene


async def test_remembered(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """A store that is away is made up for by what it had, however old that is, and the log says so once."""
    scene.noted(LONG_AGO)
    catalogue = scene.catalogue()
    for _ in range(2):
        assert [one.model_id for one in await catalogue.enabled()] == ["one", "two"]
    assert caplog.text.count("the models are those that it had at ") == 1


async def test_a_worklist_is_good_for_six_hours(scene: Scene) -> None:
    """What came over HTTP is used for six hours, and not after."""
    scene.noted(RECENT)
    assert len(await scene.catalogue(scene.over_http()).enabled()) == 2
    scene.noted(LONG_AGO)
    with pytest.raises(Outdated, match="is older than 6 hours, and not used"):
        await scene.catalogue(scene.over_http()).enabled()


async def test_a_note_of_another_store(scene: Scene, tmp_path: Path) -> None:
    """What another store had is not what this one has: nothing is known."""
    scene.store = Fickle(tmp_path / "other.db")
    scene.store.error = StoreError("the store is away")
    with pytest.raises(StoreError, match="the store is away"):
        await scene.catalogue().enabled()


async def test_a_note_that_can_not_be_read(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """It is not used, and said so."""
    scene.note.write_text("{")
    with pytest.raises(StoreError, match="the store is away"):
        await scene.catalogue().enabled()
    assert "catalogue.json can't be read, and is not used" in caplog.text


async def test_a_store_that_refuses_us(scene: Scene) -> None:
    """That is no outage, and what is remembered is not used."""
    scene.store.error = StoreUnusable("no such user")
    with pytest.raises(StoreUnusable):
        await scene.catalogue().enabled()


@pytest.mark.parametrize(("worklist", "left"), [(True, 0), (False, 1)])
async def test_a_refusal_while_the_engine_runs(
    scene: Scene, caplog: pytest.LogCaptureFixture, worklist: bool, left: int
) -> None:
    """A worklist that is refused is not gone by any longer; a catalogue that can't be read stays as it was."""
    caplog.set_level(logging.ERROR)
    scene.store.error = StoreUnusable("no such user")
    selection = Selection(scene.config, scene.catalogue().enabled, [])
    plan = Rotation([(model("one"), scene.config.profiles["default"])], {}, timedelta(hours=3))
    refresh = headless._refresher(selection, plan, worklist=worklist)
    assert refresh is not None
    await refresh()

    assert plan.due_count(datetime.now(UTC)) == left
    assert ("nothing is measured until the worklist can be read again" in caplog.text) == worklist

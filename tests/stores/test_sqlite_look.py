"""The embedded store for whoever only looks: it makes and changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable
from llmbench.stores.sqlite import SQLiteStore
from llmbench.stores.sqlite_schema import SCHEMA_VERSION
from tests.stores.documents import envelopes, sample


async def filled(path: Path, *, closed: bool = True) -> SQLiteStore:
    """Return a store with one run."""
    store = SQLiteStore(path)
    await store.open()
    await store.put(envelopes(sample()))
    if closed:
        await store.close()
    return store


def in_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_there_is_no_file(tmp_path: Path) -> None:
    """None is made, nor a folder; once another program has made one, it is found."""
    path = tmp_path / "folder" / "llmbench.db"
    looking = SQLiteStore(path, read_only=True)
    with pytest.raises(StoreError, match="is not there: nothing has been stored in it yet"):
        await looking.open()
    assert not path.parent.exists()

    await filled(path)
    await looking.open()
    assert len(await looking.outcomes(OutcomeQuery())) == 1
    await looking.close()


async def test_nothing_can_be_written(tmp_path: Path) -> None:
    await filled(path := tmp_path / "llmbench.db")
    looking = SQLiteStore(path, read_only=True)
    await looking.open()
    with pytest.raises(StoreUnusable, match="readonly"):
        await looking.put(envelopes(sample()))
    await looking.close()
    assert in_folder(tmp_path) == [path.name]


async def test_an_engine_that_leaves_first(tmp_path: Path) -> None:
    """What it stores is seen at once, and is in the file itself when all have left: nothing stays in a log."""
    writing = await filled(path := tmp_path / "llmbench.db", closed=False)
    looking = SQLiteStore(path, read_only=True)
    await looking.open()
    await writing.put(envelopes(sample()))
    assert len(await looking.outcomes(OutcomeQuery())) == 2
    await writing.close()
    await looking.close()
    assert in_folder(tmp_path) == [path.name]


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
async def test_a_file_of_another_version(tmp_path: Path, version: int) -> None:
    """It is refused with the version, and is not brought up to date under the engine that has it."""
    await filled(path := tmp_path / "llmbench.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match=f"has schema version {version}, and this llmbench"):
        await SQLiteStore(path, read_only=True).open()
    assert path.read_bytes() == before


async def test_a_file_that_is_moved(tmp_path: Path) -> None:
    """The call that finds it missing says so, and so does the next one: no other is made in its place."""
    await filled(path := tmp_path / "llmbench.db")
    looking = SQLiteStore(path, read_only=True)
    await looking.open()
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreError, match=r"was deleted, moved or replaced .* opens the file that is there then"):
        await looking.counts()
    with pytest.raises(StoreError, match="is not there"):
        await looking.counts()
    assert not path.exists()
    await looking.close()


async def test_a_copy_without_a_log(tmp_path: Path) -> None:
    """SQLite makes copies without the log that an engine turns on; one is asked as any other, also once that is on."""
    await filled(path := tmp_path / "llmbench.db")
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    looking = SQLiteStore(copy, read_only=True)
    await looking.open()
    assert len(await looking.outcomes(OutcomeQuery())) == 1
    await filled(copy)
    assert len(await looking.outcomes(OutcomeQuery())) == 2
    await looking.close()

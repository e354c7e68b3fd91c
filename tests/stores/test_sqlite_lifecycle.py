"""Records about models in the embedded store: what only this store has to see to."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmbench.lifecycle import RECORDS, CatalogEntry, ModelStatus
from llmbench.stores import sqlite_schema
from llmbench.stores.base import StoreError
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.contract_lifecycle import entry, listing, run, snapshot, status, statuses
from tests.stores.documents import model, moment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llmbench.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path)
    await store.open()
    yield store
    await store.close()


def rows(path: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


async def test_a_file_of_the_first_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what it has, and takes records from then on."""
    with monkeypatch.context() as earlier:
        earlier.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
        earlier.setattr(sqlite_schema, "SCHEMA_VERSION", 1)
        first = SQLiteStore(path)
        await first.open()
        await first.add_model(model("gpt-4o"))
        await first.close()
    store = SQLiteStore(path)
    await store.open()

    made = await store.put_listing(listing("GPT-4o"))

    assert made.run.accepted_count == 1
    assert [one.in_our_db for one in await store.records(CatalogEntry)] == [True]
    await store.close()


async def test_columns_follow_their_records(store: SQLiteStore, path: Path) -> None:
    """What a reader of the file filters by is what the documents say, after a change as well."""
    await store.put_records([entry(chat=None), status(), run(), snapshot()])
    await store.put_records(
        [entry("GPT-4o-mini", last_seen_at=moment(1)), status(status="stale", computed_at=moment(2))]
    )

    noon = int(moment().timestamp() * 1_000_000)
    assert rows(path, "SELECT model_id, last_seen_at, in_our_db, chat FROM provider_catalog") == [
        ("GPT-4o-mini", noon + 60_000_000, 1, 0)
    ]
    assert rows(path, "SELECT status, computed_at FROM model_status") == [("stale", noon + 120_000_000)]
    assert rows(path, "SELECT status, started_at FROM bench_discovery_runs") == [("failed", noon)]
    assert rows(path, "SELECT deprecation_date FROM deprecation_snapshots") == [(noon + 86_400_000_000,)]


async def test_a_listing_is_stored_whole_or_not_at_all(store: SQLiteStore, path: Path) -> None:
    """If its run can't be stored, neither are its entries."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON bench_discovery_runs BEGIN SELECT RAISE(ABORT, 'not now'); END"
        )
        connection.commit()

    with pytest.raises(StoreError, match="not now"):
        await store.put_listing(listing("gpt-4o"))

    assert [await store.records(kind) for kind in RECORDS] == [[], [], [], []]


async def test_a_record_that_was_edited(store: SQLiteStore, path: Path) -> None:
    """It can't be read any more, and the sentence says where it is."""
    await store.put_records([status()])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE model_status SET document = '{}'")
        connection.commit()

    with pytest.raises(StoreError, match="in table 'model_status' can't be read"):
        await store.records(ModelStatus)


async def test_large_integers(store: SQLiteStore) -> None:
    """What a provider says is JSON here, and comes back as it was."""
    large = entry(raw={"n": 2**63 + 1, "a\0b": 1})

    assert statuses(await store.put_records([large])) == ["stored"]
    assert await store.records(CatalogEntry) == [large]

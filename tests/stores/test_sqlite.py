"""The embedded store: the contract, and what is particular to a file."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from llmbench.stores import sqlite_outcomes, sqlite_questions, sqlite_schema
from llmbench.stores.base import ErrorQuery, OutcomeQuery, StoreError, StoreUnusable
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.contract import StoreContract
from tests.stores.documents import envelope, envelopes, failure, model, moment, sample


@pytest.mark.parametrize("backing", ["sqlite"], indirect=True)
class TestContract(StoreContract):
    """SQLite keeps the contract."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llmbench.db"


@pytest.fixture
async def file_store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def other(file_store: SQLiteStore, path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file of ``file_store``."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def connection_of(store: SQLiteStore) -> sqlite3.Connection:
    assert store._connection is not None
    return store._connection


class TestDocuments:
    """Outcomes in a file."""

    async def test_microseconds_survive(self, file_store: SQLiteStore) -> None:
        """Times keep their microseconds, and outcomes a microsecond apart keep their order."""
        times = [moment() + timedelta(microseconds=n) for n in (1, 999_999, 1_000_000)]
        stored = [sample(run_ts=time, gen_ts=time) for time in times]
        await file_store.put(envelopes(*stored))

        assert await file_store.outcomes(OutcomeQuery(since=times[1])) == [stored[2], stored[1]]

    async def test_publish_is_a_column(self, file_store: SQLiteStore, other: sqlite3.Connection) -> None:
        """Whether an outcome is for the public collection is stored beside it."""
        public, own = sample(), failure()
        await file_store.put([envelope(public, publish=True), envelope(own, publish=False)])

        assert other.execute("SELECT id, publish FROM samples").fetchall() == [(public.id, 1)]
        assert other.execute("SELECT id, publish FROM failures").fetchall() == [(own.id, 0)]

    async def test_columns_repeat_the_document(self, file_store: SQLiteStore, other: sqlite3.Connection) -> None:
        """What is filtered and added up by column is what the document says."""
        await file_store.put(envelopes(sample(), failure()))

        for table in ("samples", "failures"):
            names = [row[1] for row in other.execute(f"PRAGMA table_info({table})")]
            copied = [name for name in names if name not in ("id", "run_ts", "publish", "digest", "document")]
            [columns] = other.execute(f"SELECT {', '.join(copied)} FROM {table}")
            paths = ", ".join(f"document ->> '$.{name}'" for name in copied)
            [in_document] = other.execute(f"SELECT {paths} FROM {table}")
            assert columns == in_document

    async def test_edited_row_is_named(self, file_store: SQLiteStore, other: sqlite3.Connection) -> None:
        """A row that can't be read any more, because someone edited it, is named in the error."""
        edited = sample()
        await file_store.put([envelope(edited)])
        other.execute("UPDATE samples SET document = '{}'")

        with pytest.raises(StoreError, match=edited.id):
            await file_store.outcomes(OutcomeQuery())

    async def test_counting_leaves_a_verdict_alone(self, file_store: SQLiteStore, other: sqlite3.Connection) -> None:
        """A verdict that someone kept in a column of its own outlives the counting of further failures."""
        await file_store.put([envelope(failure())])
        other.execute("ALTER TABLE error_rollups ADD COLUMN verdict TEXT")
        other.execute("UPDATE error_rollups SET verdict = 'known, ticket 7'")

        await file_store.put([envelope(failure())])

        assert other.execute("SELECT count, verdict FROM error_rollups").fetchall() == [(2, "known, ticket 7")]

    @pytest.mark.parametrize("kind", ["samples", "failures", "all"])
    @pytest.mark.parametrize("since", [None, moment()])
    @pytest.mark.parametrize("provider", [None, "groq"])
    @pytest.mark.parametrize("model_name", [None, "o3"])
    async def test_outcomes_are_found_by_index(
        self, file_store: SQLiteStore, kind: str, since: object, provider: str | None, model_name: str | None
    ) -> None:
        """No question walks over all rows, and only one that leaves the provider open has to sort."""
        query = OutcomeQuery(kind=kind, since=since, provider=provider, model=model_name)  # type: ignore[arg-type]  # parametrised
        plan = _plan(connection_of(file_store), sqlite_outcomes._outcomes_sql(query))

        touched = [step for step in plan if re.search(r"\b(samples|failures)\b", step)]
        assert len(touched) == (2 if kind == "all" else 1)
        assert all("INDEX" in step for step in touched)
        assert any("TEMP B-TREE" in step for step in plan) == (model_name is not None and provider is None)

    @pytest.mark.parametrize(
        "sql",
        [
            sqlite_outcomes._NEXT_MODEL,
            sqlite_outcomes._LAST_SUCCESS,
            sqlite_outcomes._LAST_FAILURE,
            sqlite_outcomes._FAILURES_IN_A_ROW,
        ],
    )
    async def test_histories_never_touch_the_rows(self, file_store: SQLiteStore, sql: str) -> None:
        """Histories are answered by look-ups in indexes that hold all that is asked."""
        plan = _plan(connection_of(file_store), sql)

        touched = [step for step in plan if re.search(r"\b(samples|failures)\b", step)]
        assert touched
        assert all(step.startswith("SEARCH") and "COVERING INDEX" in step for step in touched)

    @pytest.mark.parametrize("by", ["provider", "model", "kind", "fingerprint"])
    @pytest.mark.parametrize("provider", [None, "groq"])
    async def test_failures_are_counted_in_an_index(
        self, file_store: SQLiteStore, by: str, provider: str | None
    ) -> None:
        """Counting touches no row and no entry before the window; the newest failure is looked up by its time."""
        query = ErrorQuery(by=by, provider=provider)  # type: ignore[arg-type]  # parametrised
        count = _plan(connection_of(file_store), sqlite_questions.groups_sql(query))
        look_up = _plan(connection_of(file_store), sqlite_questions.newest_sql(query))

        assert count[0].startswith("SEARCH failures USING COVERING INDEX failures_by_window (run_ts>?")
        assert look_up[0].startswith("SEARCH failures USING INDEX failures_by_window (run_ts=?")

    @pytest.mark.parametrize(
        "sql",
        [
            sqlite_questions._COUNT_SUCCESSES,
            sqlite_questions._COUNT_FAILURES,
            sqlite_questions._LAST_SUCCESS,
            sqlite_questions._LAST_FAILURE,
            sqlite_questions._FIGURES,
        ],
    )
    async def test_figures_never_touch_the_rows(self, file_store: SQLiteStore, sql: str) -> None:
        """A model's runs in a window are counted and summed up from the entries of the window in an index."""
        [step] = _plan(connection_of(file_store), sql)

        assert step.startswith("SEARCH")
        assert "COVERING INDEX" in step
        assert step.endswith("_by_model (model_name=? AND provider=? AND run_ts>? AND run_ts<?)")

    async def test_histories_cost_the_same_however_many_rows(self, file_store: SQLiteStore) -> None:
        """Fifty times the rows take no more work, as SQLite counts it, to find the histories."""

        async def work() -> int:
            steps = itertools.count()
            connection_of(file_store).set_progress_handler(lambda: next(steps) < 0, 1)
            await file_store.history()
            connection_of(file_store).set_progress_handler(None, 1)
            return next(steps)

        await file_store.put(envelopes(*(sample(run_ts=moment(n)) for n in range(20))))
        few = await work()
        await file_store.put(envelopes(*(sample(run_ts=moment(n)) for n in range(1000))))

        assert await work() < 1.5 * few

    async def test_no_two_enabled_spellings(self, file_store: SQLiteStore, other: sqlite3.Connection) -> None:
        """Whoever writes to the file, two spellings of one model can't both be enabled."""
        await file_store.add_model(model("gpt-4o"))
        insert = "INSERT INTO models (provider, model_id, enabled, document) VALUES ('OpenAI', 'GPT-4o', ?, '{}')"

        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            other.execute(insert, (True,))
        other.execute(insert, (False,))


def _plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    values = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    return [step for _, _, _, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


class TestPlace:
    """The file: how it is made, and where it can't be."""

    async def test_only_the_owner_may_read(self, tmp_path: Path) -> None:
        """The file and its logs get mode 0600 and new folders 0700, whatever the umask; older folders are left."""
        _chmod(tmp_path, 0o755)
        path = tmp_path / "new" / "newer" / "llmbench.db"
        before = os.umask(0)
        try:
            store = SQLiteStore(path)
            await store.open()
            await store.put([envelope(sample())])
        finally:
            os.umask(before)

        assert {found.name: _mode(found) for found in path.parent.iterdir()} == {
            "llmbench.db": 0o600,
            "llmbench.db-wal": 0o600,
            "llmbench.db-shm": 0o600,
        }
        assert [_mode(folder) for folder in list(path.parents)[:3]] == [0o700, 0o700, 0o755]
        await store.close()

    async def test_nothing_but_the_file_is_left(self, tmp_path: Path, path: Path) -> None:
        """Once closed, a new store is one file; there is nothing beside it that belongs to it."""
        store = SQLiteStore(path)
        await store.open()
        await store.add_model(model())
        await store.close()

        assert list(_contents(tmp_path)) == ["llmbench.db"]

    async def test_empty_file_becomes_a_store(self, path: Path) -> None:
        """An empty file, as `touch` or a mounted volume leaves it, is made into a store."""
        _write(path, b"")
        store = SQLiteStore(path)
        await store.open()

        assert [verdict.status for verdict in await store.put([envelope(sample())])] == ["stored"]
        await store.close()

    async def test_settings_of_the_connection(self, file_store: SQLiteStore) -> None:
        """A commit is synchronous, locks are waited for, and only a store that outcomes are put into checkpoints."""
        connection = connection_of(file_store)

        def setting(name: str) -> object:
            return connection.execute(f"PRAGMA {name}").fetchone()[0]

        names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        assert [setting(name) for name in names] == ["wal", 2, 5000, 1]
        await file_store.add_model(model())
        assert setting("wal_autocheckpoint") == 0
        await file_store.put([envelope(sample())])
        assert setting("wal_autocheckpoint") == 1000

    async def test_log_stays_small(self, file_store: SQLiteStore, path: Path) -> None:
        """The write-ahead log is moved into the file as it grows, also after the store was closed and opened again."""
        await file_store.put([envelope(sample())])
        await file_store.close()
        await file_store.open()
        for n in range(20):
            await file_store.put(envelopes(*(sample(run_ts=moment(n)) for _ in range(100))))

        assert _size(path.with_name("llmbench.db-wal")) < 6_000_000 < _size(path)

    @pytest.mark.parametrize(
        ("place", "reason"),
        [
            pytest.param(lambda tmp: tmp, "not a regular file", id="a folder"),
            pytest.param(lambda tmp: _garbage(tmp) / "llmbench.db", "Not a directory", id="below a file"),
            pytest.param(lambda tmp: _garbage(tmp) / "a" / "llmbench.db", "Not a directory", id="further below a file"),
            pytest.param(lambda tmp: Path("/proc/llmbench/llmbench.db"), "choose a path", id="in /proc"),
            pytest.param(lambda tmp: Path("/proc/version"), "choose|check", id="a file of /proc"),
            pytest.param(lambda tmp: Path("/dev/full"), "not a regular file", id="a device"),
            pytest.param(lambda tmp: tmp / ("x" * 300), "File name too long", id="too long a name"),
            pytest.param(lambda tmp: _link(tmp, "nowhere"), "No such file", id="a link to nothing"),
            pytest.param(lambda tmp: _garbage(tmp), "no SQLite database", id="not a database"),
        ],
    )
    async def test_unusable_place(self, tmp_path: Path, place: Callable[[Path], Path], reason: str) -> None:
        """A place where no store can be is refused at once, by name, with the reason and what to do."""
        path = place(tmp_path)
        before = _contents(tmp_path)

        with pytest.raises(StoreUnusable, match=reason) as caught:
            await SQLiteStore(path).open()

        assert str(caught.value).removeprefix("SQLite file ").startswith(f"'{path}' ")
        assert _contents(tmp_path) == before

    async def test_newer_schema_is_left_untouched(self, tmp_path: Path, path: Path) -> None:
        """A file of a newer llmbench is refused with both versions named, and not a byte of it changes."""
        await _closed_store(path)
        _execute(path, "PRAGMA user_version = 99")
        before = _contents(tmp_path)

        with pytest.raises(StoreUnusable, match=rf"schema version 99.* versions up to {sqlite_schema.SCHEMA_VERSION}"):
            await SQLiteStore(path).open()

        assert _contents(tmp_path) == before

    @pytest.mark.parametrize(
        "mark", ["CREATE TABLE theirs (a)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"]
    )
    async def test_database_of_another_program(self, tmp_path: Path, path: Path, mark: str) -> None:
        """A database that another program made is refused, and not a byte of it changes."""
        _execute(path, mark)
        before = _contents(tmp_path)

        with pytest.raises(StoreUnusable, match="another program"):
            await SQLiteStore(path).open()

        assert _contents(tmp_path) == before

    async def test_damaged_file(self, path: Path) -> None:
        """Damage inside the file is reported as such when it is met, not as a passing trouble."""
        await _closed_store(path)
        whole = _contents(path.parent)[path.name]
        roots = slice(4096, 11 * 4096)  # where the tables of outcomes and their indexes begin
        _write(path, whole[: roots.start] + b"\xff" * (roots.stop - roots.start) + whole[roots.stop :])
        store = SQLiteStore(path)
        await store.open()

        with pytest.raises(StoreUnusable, match="damaged"):
            await store.outcomes(OutcomeQuery())
        await store.close()


class TestMigration:
    """Files of earlier versions."""

    async def test_older_file_is_brought_up_to_date(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file of an older version gets the steps that it lacks and keeps what is in it."""
        await _closed_store(path)
        _with_step(monkeypatch, "ALTER TABLE models ADD COLUMN note TEXT;\nUPDATE models SET note = 'migrated';")

        store = SQLiteStore(path)
        await store.open()

        assert len(await store.outcomes(OutcomeQuery())) == 20
        assert connection_of(store).execute("SELECT note FROM models").fetchall() == [("migrated",)]
        assert connection_of(store).execute("PRAGMA user_version").fetchone() == (sqlite_schema.SCHEMA_VERSION,)
        await store.close()

    async def test_a_file_of_version_1(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is in it is there afterwards, and its failures are counted in the index that it lacked."""
        runs = [make(run_ts=moment(n)) for n in range(5) for make in (sample, failure)]
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_schema, "MIGRATIONS", sqlite_schema.MIGRATIONS[:1])
            patch.setattr(sqlite_schema, "SCHEMA_VERSION", 1)
            old = SQLiteStore(path)
            await old.open()
            await old.put(envelopes(*runs))
            await old.close()

        store = SQLiteStore(path)
        await store.open()
        kept, [group] = await store.outcomes(OutcomeQuery()), await store.error_groups(ErrorQuery())
        again = await store.put(envelopes(*runs))
        await store.close()

        assert sorted(one.id for one in kept) == sorted(one.id for one in runs)
        assert (group.count, group.newest) == (5, runs[-1])
        assert {verdict.status for verdict in again} == {"duplicate"}

    async def test_step_that_fails_changes_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a step fails half way, the file stays at the version it had, without half a step in it."""
        await _closed_store(path)
        with monkeypatch.context() as patched:
            _with_step(patched, "ALTER TABLE models ADD COLUMN note TEXT;\nUPDATE absent SET note = 1;")
            with pytest.raises(StoreError, match="absent"):
                await SQLiteStore(path).open()

        store = SQLiteStore(path)
        await store.open()
        assert len(await store.models()) == 1
        columns = [row[1] for row in connection_of(store).execute("PRAGMA table_info(models)")]
        assert "note" not in columns
        await store.close()

    async def test_store_that_cannot_be_made_leaves_nothing(
        self, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A new file appears only once it is complete: if making it fails half way, there is none."""
        _with_step(monkeypatch, "UPDATE absent SET note = 1;")

        with pytest.raises(StoreError, match="absent"):
            await SQLiteStore(path).open()

        assert _contents(tmp_path) == {}


def _with_step(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    steps = (*sqlite_schema.MIGRATIONS, step)
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", steps)
    monkeypatch.setattr(sqlite_schema, "SCHEMA_VERSION", len(steps))


async def _closed_store(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.put(envelopes(*(sample(run_ts=moment(n)) for n in range(20))))
    await store.add_model(model())
    await store.close()


def _execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _garbage(folder: Path) -> Path:
    made = folder / "notes.txt"
    made.write_text("This is a file, but it is no database.\n" * 200)
    return made


def _link(folder: Path, target: str) -> Path:
    made = folder / "llmbench.db"
    made.symlink_to(folder / target)
    return made


def _contents(folder: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in folder.iterdir() if found.is_file()}


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _size(path: Path) -> int:
    return path.stat().st_size


def _chmod(path: Path, mode: int) -> None:
    path.chmod(mode)

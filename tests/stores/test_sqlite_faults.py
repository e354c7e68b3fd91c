"""The embedded store under faults: killed, locked, full, cancelled, and shared between processes."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from llmbench.messages import Failure
from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.documents import envelope, envelopes, failure, model, moment, sample

REPOSITORY = Path(__file__).parents[2]

PUT_FOR_EVER = """
import sys, anyio
from pathlib import Path
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.documents import envelopes, failure, sample

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    while True:
        verdicts = await store.put(envelopes(*(make() for make in (sample, failure) * 5)))
        print(*(verdict.id for verdict in verdicts if verdict.acknowledged), flush=True)

anyio.run(main)
"""
"""Puts batches of five samples and five failures, and prints the ids of each batch once it is acknowledged."""

OPEN_WHEN_TOLD = """
import sys, anyio
from pathlib import Path
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.documents import envelope, sample

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    print((await store.put([envelope(sample())]))[0].status)
    await store.close()

anyio.run(main)
"""


@contextmanager
def running(program: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program text with the path as its argument; kill it at the end if it still runs."""
    command = [sys.executable, "-c", program, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return (line for line in process.stdout if line.endswith("\n"))  # a kill may cut the last one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llmbench.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    """A store that waits for locks only as long as a test can."""
    store = SQLiteStore(path, busy_timeout=0.2)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def other(store: SQLiteStore, path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the store's file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


class TestKill:
    """SIGKILL at any moment."""

    def test_acknowledged_outcomes_survive(self, path: Path) -> None:
        """A process that puts is killed ten times, at random.

        1. Every outcome that it reported as acknowledged is stored, once, and batches are stored whole.
        2. The failures and their counts agree.
        3. The file passes its integrity check.
        """
        acknowledged: set[str] = set()
        for _ in range(10):
            with running(PUT_FOR_EVER, path) as process:
                batches = lines(process)
                acknowledged.update(" ".join(next(batches) for _ in range(random.randint(1, 40))).split())
                process.kill()
                acknowledged.update(" ".join(batches).split())

        anyio.run(_check_accounts, path, acknowledged)

    def test_one_process_puts_while_another_changes_models(self, path: Path) -> None:
        """A command may read and change models while the engine puts; neither loses anything."""
        with running(PUT_FOR_EVER, path) as process:
            batches = lines(process)
            acknowledged = set(next(batches).split())
            anyio.run(_add_models, path, 50)
            acknowledged.update(next(batches).split())
            process.kill()
            acknowledged.update(" ".join(batches).split())

        assert anyio.run(_model_ids, path) == sorted(f"model-{n}" for n in range(50))
        anyio.run(_check_accounts, path, acknowledged)

    @pytest.mark.parametrize("attempt", range(3))
    def test_processes_that_start_together(self, tmp_path: Path, path: Path, attempt: int) -> None:
        """Several processes that open the same new store at the same moment all get it."""
        with running(OPEN_WHEN_TOLD, path) as a, running(OPEN_WHEN_TOLD, path) as b, running(OPEN_WHEN_TOLD, path) as c:
            processes = (a, b, c)
            assert [next(lines(process)) for process in processes] == ["ready\n"] * 3
            for process in processes:
                _tell(process, "go\n")
            answers = [process.communicate()[0] for process in processes]

        assert answers == ["stored\n"] * 3
        assert [found.name for found in tmp_path.iterdir()] == ["llmbench.db"]


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


async def _check_accounts(path: Path, acknowledged: set[str]) -> None:
    store = SQLiteStore(path)
    await store.open()
    outcomes = await store.outcomes(OutcomeQuery())
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    rollups = await store.rollups()
    await store.close()

    assert acknowledged
    assert acknowledged <= {outcome.id for outcome in outcomes}
    assert len({outcome.id for outcome in outcomes}) == len(outcomes) == 2 * len(failures)
    assert len(outcomes) % 10 == 0
    assert [rollup.count for rollup in rollups] == [len(failures)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def _add_models(path: Path, count: int) -> None:
    store = SQLiteStore(path)
    await store.open()
    for n in range(count):
        await store.add_model(model(f"model-{n}"))
        assert await store.outcomes(OutcomeQuery(limit=3))
    await store.close()


async def _model_ids(path: Path) -> list[str]:
    store = SQLiteStore(path)
    await store.open()
    found = await store.models()
    await store.close()
    return sorted(one.model_id for one in found)


class TestLock:
    """Another program holds the file."""

    async def test_locked_file_is_a_passing_trouble(self, store: SQLiteStore, other: sqlite3.Connection) -> None:
        """A put that meets a lock gives up after the busy timeout; reading goes on, and the put can be repeated."""
        batch = [envelope(sample())]
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreError, match="is locked by another program") as caught:
            await store.put(batch)
        assert not isinstance(caught.value, StoreUnusable)
        assert await store.outcomes(OutcomeQuery()) == []

        other.execute("ROLLBACK")
        assert [verdict.status for verdict in await store.put(batch)] == ["stored"]

    async def test_lock_is_waited_for(self, path: Path, other: sqlite3.Connection) -> None:
        """A lock that goes away within the busy timeout is no trouble at all."""
        patient = SQLiteStore(path)
        await patient.open()
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(patient.put, [envelope(sample())])
            await anyio.wait_all_tasks_blocked()
            other.execute("COMMIT")

        assert len(await patient.outcomes(OutcomeQuery())) == 1
        await patient.close()

    async def test_file_locked_at_opening(self, path: Path) -> None:
        """A file that another program has to itself can't be opened now, but may be later."""
        first = SQLiteStore(path)
        await first.open()
        await first.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as exclusive:
            exclusive.execute("PRAGMA locking_mode = EXCLUSIVE")
            exclusive.execute("BEGIN EXCLUSIVE")

            with pytest.raises(StoreError, match="is locked by another program") as caught:
                await SQLiteStore(path, busy_timeout=0.2).open()

        assert not isinstance(caught.value, StoreUnusable)


class TestFull:
    """No more room."""

    async def test_full_disk_stores_nothing(self, store: SQLiteStore) -> None:
        """A batch that no longer fits is refused as a whole, says why, and fits when there is room again."""
        assert store._connection is not None
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        batch = envelopes(*(failure(run_ts=moment(n)) for n in range(50)))

        with pytest.raises(StoreError, match="can't grow"):
            await store.put(batch)
        assert await store.outcomes(OutcomeQuery()) == []
        assert await store.rollups() == []

        store._connection.execute("PRAGMA max_page_count = 100000")
        assert {verdict.status for verdict in await store.put(batch)} == {"stored"}
        assert [rollup.count for rollup in await store.rollups()] == [50]


def remove(path: Path, *endings: str) -> None:
    for ending in endings:
        path.with_name(path.name + ending).unlink()


def move(path: Path) -> Path:
    return path.rename(path.with_name("moved.db"))


async def ids(store: SQLiteStore) -> set[str]:
    return {outcome.id for outcome in await store.outcomes(OutcomeQuery())}


class TestLostFile:
    """The file is deleted, moved or replaced under the program that has it open."""

    @pytest.mark.parametrize("endings", [("", "-wal", "-shm"), ("",), ("-wal",)])
    async def test_deleted_between_puts(self, store: SQLiteStore, path: Path, endings: tuple[str, ...]) -> None:
        """The next put is refused and says why; repeated, it is stored in a file that is whole and at its path."""
        await store.put([envelope(sample())])
        remove(path, *endings)
        batch = [envelope(sample()), envelope(failure())]

        with pytest.raises(StoreError, match=rf"'{path}' or its log .* was deleted") as caught:
            await store.put(batch)
        assert not isinstance(caught.value, StoreUnusable)
        assert {verdict.status for verdict in await store.put(batch)} == {"stored"}

        reader = SQLiteStore(path)
        await reader.open()
        assert await ids(reader) >= {item.outcome.id for item in batch}
        await reader.close()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def test_deleted_while_batches_are_put(self, store: SQLiteStore, path: Path) -> None:
        """Whenever it happens, also in the middle of a put: all that is acknowledged afterwards is in the new file."""
        before = await store.put(envelopes(*(sample() for _ in range(20))))
        retried: list[str] = []
        stored: set[str] = set()
        under_way = anyio.Event()

        async def put_until_noticed() -> None:
            while not retried:
                batch = envelopes(*(sample() for _ in range(10)))
                try:
                    verdicts = await store.put(batch)
                except StoreError as error:
                    retried.append(str(error))
                    stored.clear()
                    verdicts = await store.put(batch)
                stored.update(verdict.id for verdict in verdicts if verdict.acknowledged)
                under_way.set()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(put_until_noticed)
                await under_way.wait()
                remove(path, "", "-wal", "-shm")
        assert stored
        reader = SQLiteStore(path)
        await reader.open()
        assert await ids(reader) == stored
        assert not stored & {verdict.id for verdict in before}
        await reader.close()

    async def test_moved_away(self, store: SQLiteStore, path: Path) -> None:
        """A file that was moved without its log has all that was acknowledged as soon as the move is noticed."""
        old, new = sample(), sample()
        await store.put([envelope(old)])
        moved = move(path)
        with pytest.raises(StoreError, match="moved or replaced"):
            await store.put([envelope(new)])
        await store.put([envelope(new)])

        other = SQLiteStore(moved)
        await other.open()
        assert old.id in await ids(other)
        await other.close()
        assert await ids(store) == {new.id}

    async def test_replaced_by_another_store(self, store: SQLiteStore, path: Path) -> None:
        """A new store at the path, in use by another program, keeps its rows and gets the repeated batch as well."""
        await store.put([envelope(sample())])
        remove(path, "", "-wal", "-shm")
        theirs, ours = sample(), sample()
        other = SQLiteStore(path)
        await other.open()
        await other.put([envelope(theirs)])

        with pytest.raises(StoreError, match="replaced while it was in use"):
            await store.put([envelope(ours)])
        await store.put([envelope(ours)])

        assert await ids(store) == await ids(other) == {theirs.id, ours.id}
        await other.close()

    async def test_closed_store_stays_closed(self, store: SQLiteStore, path: Path) -> None:
        """A store that lost its file and is closed then does not open itself again."""
        remove(path, "")
        with pytest.raises(StoreError, match="was deleted"):
            await store.history()
        await store.close()
        with pytest.raises(StoreError, match="is not open"):
            await store.history()


class TestCancel:
    """Callers that no longer wait."""

    async def test_cancelled_while_it_waits_for_its_turn(self, path: Path, other: sqlite3.Connection) -> None:
        """A put that is cancelled before its turn stores nothing and holds nobody up."""
        store = SQLiteStore(path)
        await store.open()
        first, never = sample(), sample()
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(store.put, [envelope(first)])
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as cancelled:
                    cancelled.start_soon(store.put, [envelope(never)])
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
            other.execute("ROLLBACK")

        assert await store.outcomes(OutcomeQuery()) == [first]
        await store.close()

    async def test_cancelled_by_asyncio_itself(self, store: SQLiteStore) -> None:
        """A put that asyncio cancels while its thread runs ends in its thread; the next one waits for that."""
        batches = [envelopes(*(failure(run_ts=moment(n)) for n in range(100))) for _ in range(10)]
        for batch in batches:
            with store._in_use:  # so that the thread is at work when the task is cancelled
                put = asyncio.ensure_future(store.put(batch))
                await anyio.wait_all_tasks_blocked()
                put.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await put
            assert all(verdict.acknowledged for verdict in await store.put(batch))

        assert len(await store.outcomes(OutcomeQuery())) == 1000
        assert [rollup.count for rollup in await store.rollups()] == [1000]

    async def test_closed_though_cancelled(self, path: Path) -> None:
        """A store is closed even by a task that is being cancelled."""
        store = SQLiteStore(path)
        await store.open()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.close()

        assert store._connection is None


class TestOpenAndClose:
    """The life of a store object."""

    async def test_closed_store_says_so(self, path: Path) -> None:
        """A store that is not open yet, or no longer, answers with a `StoreError` that says so."""
        store = SQLiteStore(path)
        for _ in range(2):
            with pytest.raises(StoreError, match="is not open"):
                await store.history()
            await store.open()
            await store.close()

    async def test_repeats_are_harmless(self, store: SQLiteStore) -> None:
        """Opening an open store and closing a closed one do nothing, and a closed one can be opened again."""
        await store.put([envelope(sample())])
        await store.open()
        await store.close()
        await store.close()
        await store.open()

        assert len(await store.outcomes(OutcomeQuery())) == 1

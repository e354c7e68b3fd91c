"""The spool: what its calls promise while nothing goes wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import anyio
import msgspec
import pytest

from llmbench.ids import new_outcome_id
from llmbench.stores.base import StoreError
from llmbench.stores.canonical import UnstorableError
from llmbench.stores.spool import Limits, Spool, SpoolFull
from tests.stores.documents import NOON, envelope, failure, moment, sample
from tests.stores.spooling import QUICK, SetClock, exported, filled, opened_spool


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def spool(tmp_path: Path, clock: SetClock) -> AsyncIterator[Spool]:
    async with opened_spool(tmp_path, clock=clock) as spool:
        yield spool


class TestRecord:
    """Outcomes come in."""

    async def test_what_is_recorded_is_delivered_as_it_was(self, spool: Spool) -> None:
        """An outcome comes out with all that it had, public or not, and can be read at the next start."""
        items = [envelope(sample(), publish=False), envelope(failure())]
        assert [await spool.record(item) for item in items] == ["recorded", "recorded"]
        assert [waiting.envelope for waiting in await spool.peek(10, NOON)] == items

    async def test_again(self, spool: Spool) -> None:
        """The same outcome again is a duplicate, also when it was delivered, and is not delivered again."""
        item = envelope(sample())
        await spool.record(item)
        assert await spool.record(item) == "duplicate"
        await spool.delivered([item.outcome.id])
        assert await spool.record(item) == "duplicate"
        assert await spool.peek(10, NOON) == []

    async def test_conflict(self, spool: Spool) -> None:
        """Other content under a known id goes into quarantine, once, and what was recorded first stays as it is."""
        first = envelope(sample())
        other = envelope(msgspec.structs.replace(first.outcome, output_tokens=65))
        await spool.record(first)

        assert [await spool.record(other) for _ in range(2)] == ["conflict", "conflict"]
        assert [waiting.envelope for waiting in await spool.peek(10, NOON)] == [first]
        (kept,) = await exported(spool, "quarantined")
        assert (kept.id, kept.conflicting, kept.reason) == (first.outcome.id, True, "conflict")
        assert b'"output_tokens":65' in kept.body
        assert await spool.release_quarantined([kept.id]) == 0

    async def test_unstorable(self, spool: Spool) -> None:
        """An outcome with no JSON form is refused, and those beside it are recorded."""
        results: list[object] = []

        async def record(misc: float) -> None:
            try:
                results.append(await spool.record(envelope(sample(misc={"value": misc}))))
            except UnstorableError as error:
                results.append(error)

        async with anyio.create_task_group() as group:
            for value in (1.0, float("nan"), 2.0):
                group.start_soon(record, value)
        assert sorted(type(result).__name__ for result in results) == ["UnstorableError", "str", "str"]

    async def test_not_open(self, tmp_path: Path) -> None:
        """Before it is opened, and after it is closed, every call says so."""
        spool = Spool(tmp_path)
        with pytest.raises(StoreError, match="is not open"):
            await spool.record(envelope(sample()))
        await spool.open()
        with pytest.raises(StoreError, match="is open already"):
            await spool.open()
        await spool.close()
        with pytest.raises(StoreError, match="is not open"):
            await spool.counts()


class TestGroups:
    """Rows share commits."""

    async def _record_together(self, spool: Spool, count: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(spool.record, envelope(failure()))

    async def test_sixteen_rows_are_a_commit(self, tmp_path: Path) -> None:
        """Rows don't wait for the rest of the window once there are sixteen."""
        async with opened_spool(tmp_path, Limits(group_seconds=3600)) as spool:
            with anyio.fail_after(20):
                await self._record_together(spool, 48)
            assert spool.commits == 3

    async def test_window(self, tmp_path: Path) -> None:
        """Fewer rows are committed together when the window ends, and none is told of before that."""
        spool = Spool(tmp_path, limits=Limits(group_seconds=0.15))
        await spool.open()
        await self._record_together(spool, 5)
        assert spool.commits == 1
        await self._record_together(spool, 3)
        assert spool.commits == 2
        await spool.close()

    async def test_call_ends_the_window(self, tmp_path: Path) -> None:
        """A question is answered at once, and sees the rows that were waiting for company."""
        async with opened_spool(tmp_path, Limits(group_seconds=3600)) as spool:
            spool.opened(new_outcome_id(), "openai", "gpt-4o", NOON)
            with anyio.fail_after(20):
                counts = await spool.counts()
            assert (counts.in_flight, spool.commits) == (1, 1)

    async def test_close_commits(self, tmp_path: Path) -> None:
        """What is given before `close` is durable after it, however long the window is."""
        async with opened_spool(tmp_path, Limits(group_seconds=3600)) as spool, anyio.create_task_group() as group:
            group.start_soon(spool.record, envelope(sample()))
            await anyio.wait_all_tasks_blocked()
            await spool.close()
        async with opened_spool(tmp_path) as spool:
            assert (await spool.counts()).waiting == 1

    async def test_commit_is_synchronous(self, spool: Spool) -> None:
        """Every commit is synced to the disk (FULL), in a log, with nobody else at the file."""
        writer = spool._writer
        assert writer is not None
        names = ("synchronous", "journal_mode", "locking_mode", "wal_autocheckpoint")
        settings = [writer._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
        assert settings == [2, "wal", "exclusive", 0]


class TestDelivery:
    """Outcomes go out."""

    async def test_newest_and_oldest(self, spool: Spool) -> None:
        """Half of a batch is the newest that there is, the rest the oldest, in the order they were recorded."""
        ids = [item.outcome.id for item in await filled(spool, 20)]
        assert [waiting.id for waiting in await spool.peek(5, NOON)] == [*ids[:3], *ids[-2:]]

    async def test_fresh_ones_pass_a_backlog(self, spool: Spool) -> None:
        """Whatever waits, an outcome recorded just now is in the next batch; and the backlog comes to its end."""
        backlog = {item.outcome.id for item in await filled(spool, 30)}
        while backlog:
            (fresh,) = await filled(spool, 1)
            batch = [waiting.id for waiting in await spool.peek(4, NOON)]
            assert fresh.outcome.id in batch
            await spool.delivered(batch)
            assert len(backlog - set(batch)) <= len(backlog) - min(2, len(backlog))
            backlog -= set(batch)

    @pytest.mark.parametrize("limit", [0, 1, 1001])
    async def test_limit(self, spool: Spool, limit: int) -> None:
        """A batch has room for an old and a new one, and is not unbounded."""
        with pytest.raises(ValueError, match="from 2 to 1000"):
            await spool.peek(limit, NOON)

    async def test_retry_later(self, spool: Spool) -> None:
        """What is put off is due at its time again, and says how often it was tried and why it failed."""
        (item,) = await filled(spool, 1)
        assert await spool.retry_later([item.outcome.id, new_outcome_id()], "timed\nout", moment(5)) == 1
        assert await spool.peek(10, moment(4)) == []
        (waiting,) = await spool.peek(10, moment(5))
        assert (waiting.tries, waiting.error) == (1, "timed\\nout")

    async def test_quarantine_and_release(self, spool: Spool) -> None:
        """What the store rejects is kept aside, counted by reason, and can be given another chance."""
        first, second = (item.outcome.id for item in await filled(spool, 2))
        assert await spool.quarantine(first, "rejected", "422: \ud800 no such field")
        assert not await spool.quarantine(first, "rejected")
        assert [waiting.id for waiting in await spool.peek(10, NOON)] == [second]
        assert (await spool.counts()).quarantined == {"rejected": 1}

        assert await spool.release_quarantined([first, second]) == 1
        assert [waiting.id for waiting in await spool.peek(10, NOON)] == [first, second]

    async def test_only_waiting_ones_are_marked(self, spool: Spool) -> None:
        """A word for an id that does not wait changes nothing: not for one in quarantine, nor for an unknown one."""
        (item,) = await filled(spool, 1)
        await spool.quarantine(item.outcome.id, "rejected")
        assert await spool.delivered([item.outcome.id, new_outcome_id()]) == 0
        assert (await spool.counts()).quarantined == {"rejected": 1}

    async def test_undecodable(self, tmp_path: Path) -> None:
        """A body that is not what was recorded goes into quarantine with its bytes, and the rest goes out."""
        async with opened_spool(tmp_path) as spool:
            bad, good = (item.outcome.id for item in await filled(spool, 2))
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
            connection.execute(
                "UPDATE outcomes SET body = CAST(replace(body, 'groq', 'gorq') AS BLOB) WHERE id = ?", (bad,)
            )
        async with opened_spool(tmp_path) as spool:
            assert [waiting.id for waiting in await spool.peek(10, NOON)] == [good]
            (kept,) = await exported(spool, "quarantined")
            assert (kept.id, kept.reason, b"gorq" in kept.body) == (bad, "undecodable", True)

    async def test_delivered_ones_are_kept_a_day(self, spool: Spool, clock: SetClock) -> None:
        """They are kept for audit; when they are a day old, each commit deletes some of them."""
        items = await filled(spool, 80)
        await spool.delivered([item.outcome.id for item in items])
        clock.advance(hours=23)
        await filled(spool, 1)
        assert (await spool.counts()).delivered == 80

        clock.advance(hours=1)
        left = []
        for _ in range(4):
            await filled(spool, 1)
            left.append((await spool.counts()).delivered)
        assert left == [48, 16, 0, 0]

    async def test_export_in_pages(self, spool: Spool) -> None:
        """All rows of a state come, in order, also if there are more than a page of them."""
        items = await filled(spool, 130)
        assert [kept.id for kept in await exported(spool, "waiting")] == [item.outcome.id for item in items]


class TestAttempts:
    """What was begun has an end."""

    async def test_interrupted(self, tmp_path: Path) -> None:
        """Attempts without an outcome are given back at every start, until they have one or are withdrawn."""
        ids = [new_outcome_id() for _ in range(4)]
        async with opened_spool(tmp_path) as spool:
            for n, one in enumerate(ids):
                spool.opened(one, "openai", f"model-{n}", moment(n))
            await spool.record(envelope(sample(id=ids[0])))
            spool.withdrawn(ids[1])
            assert (await spool.counts()).in_flight == 2
        for _ in range(2):
            spool = Spool(tmp_path, limits=QUICK)
            found = await spool.open()
            assert [(one.outcome_id, one.model_id, one.opened_at) for one in found] == [
                (ids[2], "model-2", moment(2)),
                (ids[3], "model-3", moment(3)),
            ]
            assert (await spool.counts()).interrupted == 2
            await spool.close()
        await spool.open()
        await spool.record(envelope(failure(id=ids[2])))
        spool.withdrawn(ids[3])
        await spool.close()
        assert await spool.open() == []
        await spool.close()


async def level_and_use(spool: Spool) -> tuple[str, float]:
    counts = await spool.counts()
    return spool.level, counts.used_bytes / counts.cap_bytes


class TestRoom:
    """The cap."""

    async def test_hysteresis(self, tmp_path: Path) -> None:
        """It warns from 80 % on, pauses at 95 %, and goes on only below 80 %; room is that of rows, not of the file."""
        limits = Limits(group_seconds=0.0, cap_bytes=100 * 4096)
        levels: list[tuple[str, float]] = []
        async with opened_spool(tmp_path, limits) as spool:
            while not levels or levels[-1][0] != "paused":
                await filled(spool, 1)
                levels.append(await level_and_use(spool))
            assert {level for level, used in levels if used < 0.80} == {"ok"}
            assert {level for level, used in levels if 0.80 <= used < 0.95} == {"warning"}
            assert levels[-1][1] >= 0.95

            del levels[:-1]
            while levels[-1][0] == "paused":
                await spool.delivered([waiting.id for waiting in await spool.peek(2, NOON)])
                await spool.retry_later([], "", NOON)
                spool.opened("f" * 24, "openai", "gpt-4o", NOON)
                levels.append(await level_and_use(spool))
                assert len(levels) < 200
            assert {level for level, used in levels if used >= 0.80} == {"paused"}
            assert levels[-1][1] < 0.80

    async def test_cap(self, tmp_path: Path) -> None:
        """At the cap it takes no more outcomes and says so; delivering makes room, and then it does."""
        limits = Limits(group_seconds=0.0, cap_bytes=60 * 4096)
        async with opened_spool(tmp_path, limits, clock := SetClock()) as spool:
            refused = envelope(failure())
            recorded: set[str] = set()
            while (await spool.counts()).used_bytes < limits.cap_bytes:
                await spool.record(item := envelope(failure()))
                recorded.add(item.outcome.id)
            with pytest.raises(SpoolFull, match="has reached its cap of 245760 bytes"):
                await spool.record(refused)
            assert {kept.id for kept in await exported(spool, "waiting")} == recorded

            clock.advance(seconds=1)
            await spool.delivered(sorted(recorded)[:40])
            clock.advance(seconds=1)
            spool.withdrawn("none")
            await spool.delivered(sorted(recorded)[40:42])
            assert await spool.record(refused) == "recorded"

    async def test_counts(self, tmp_path: Path, spool: Spool, clock: SetClock) -> None:
        """They say how much waits, since when, and what it takes."""
        first = await filled(spool, 1)
        clock.advance(hours=1)
        await filled(spool, 2)
        counts = await spool.counts()
        assert (counts.waiting, counts.delivered, counts.oldest, counts.level) == (3, 0, NOON, "ok")
        assert counts.file_bytes == sum((tmp_path / name).stat().st_size for name in ("spool.db", "spool.db-wal"))
        assert counts.sqlite_version == sqlite3.sqlite_version
        await spool.delivered([first[0].outcome.id])
        assert (await spool.counts()).oldest == clock.now()

    async def test_log_goes_into_the_file(self, spool: Spool, tmp_path: Path) -> None:
        """The log does not grow beyond a few megabytes."""
        text = "x" * 500_000
        for _ in range(30):
            await spool.record(envelope(sample(misc={"text": text})))
        assert (tmp_path / "spool.db-wal").stat().st_size < 6_000_000
        assert (tmp_path / "spool.db").stat().st_size > 9_000_000

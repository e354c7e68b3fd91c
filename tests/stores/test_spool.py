"""The spool: what its calls promise while nothing goes wrong."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import anyio
import msgspec
import pytest

from llmbench.ids import new_outcome_id
from llmbench.stores.base import StoreError
from llmbench.stores.canonical import canonical_json
from llmbench.stores.spool import Limits, Spool, SpoolFull
from tests.stores.contract_questions import HistoryContract
from tests.stores.documents import NOON, envelope, failure, moment, noise, sample
from tests.stores.spooling import QUICK, SetClock, begun, exported, filled, opened_spool, record


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
        assert [await record(spool, item) for item in items] == ["stored", "stored"]
        assert [waiting.envelope for waiting in await spool.peek(10, NOON)] == items

    async def test_again(self, spool: Spool) -> None:
        """The same outcome again is a duplicate, also when it was delivered, and is not delivered again."""
        item = envelope(sample())
        await record(spool, item)
        assert await record(spool, item) == "duplicate"
        await spool.delivered([item.outcome.id])
        assert await record(spool, item) == "duplicate"
        assert await spool.peek(10, NOON) == []

    async def test_conflict(self, spool: Spool) -> None:
        """Other content under a known id goes into quarantine, once, and what was recorded first stays as it is."""
        first = envelope(sample())
        other = envelope(msgspec.structs.replace(first.outcome, output_tokens=65))
        await record(spool, first)

        assert [await record(spool, other) for _ in range(2)] == ["conflict", "conflict"]
        assert [waiting.envelope for waiting in await spool.peek(10, NOON)] == [first]
        (kept,) = await exported(spool, "quarantined")
        assert (kept.id, kept.conflicting, kept.reason) == (first.outcome.id, True, "conflict")
        assert b'"output_tokens":65' in kept.body
        assert await spool.release_quarantined([kept.id]) == 0

    async def test_two_conflicts(self, spool: Spool) -> None:
        """Each other content of one id is kept, once, and can be told from the rest; none of them is delivered."""
        (first,) = await filled(spool, 1)
        others = [envelope(msgspec.structs.replace(first.outcome, model_name=name)) for name in ("b", "c")]
        assert [await record(spool, other) for other in [*others, *others]] == ["conflict"] * 4

        kept = await exported(spool, "quarantined")
        assert [(one.id, one.conflicting) for one in kept] == [(first.outcome.id, True)] * 2
        assert [msgspec.json.decode(one.body)["outcome"]["model_name"] for one in kept] == ["b", "c"]
        assert len({one.seq for one in kept}) == 2
        assert [waiting.envelope for waiting in await spool.peek(10, NOON)] == [first]
        assert await spool.delivered([first.outcome.id]) == 1
        assert (await spool.counts()).quarantined == {"conflict": 2}

    async def test_unstorable(self, spool: Spool) -> None:
        """An outcome with no JSON form is refused with the reason, and those beside it are recorded."""
        items = [envelope(sample(misc={"value": value})) for value in (1.0, float("nan"), 2.0)]
        verdicts = await spool.put(items)
        assert [verdict.status for verdict in verdicts] == ["stored", "rejected", "stored"]
        assert "'misc'" in (verdicts[1].reason or "")

    async def test_in_order(self, spool: Spool) -> None:
        """Each of many gets its own verdict, in the order they were given, however they were grouped."""
        (known,) = await filled(spool, 1)
        other = envelope(msgspec.structs.replace(known.outcome, model_name="other"))
        items = [envelope(sample()) for _ in range(40)]
        verdicts = await spool.put([known, *items, other, items[0]])
        assert [verdict.id for verdict in verdicts] == [item.outcome.id for item in [known, *items, other, items[0]]]
        assert [verdict.status for verdict in verdicts] == ["duplicate", *["stored"] * 40, "conflict", "duplicate"]
        assert await spool.put([]) == []

    async def test_not_open(self, tmp_path: Path) -> None:
        """Before it is opened, and after it is closed, every call says so."""
        spool = Spool(tmp_path)
        with pytest.raises(StoreError, match="is not open"):
            await record(spool, envelope(sample()))
        await spool.open()
        with pytest.raises(StoreError, match="is open already"):
            await spool.open()
        await spool.close()
        with pytest.raises(StoreError, match="is not open"):
            await spool.counts()


class TestGroups:
    """Rows share commits."""

    async def _record_together(self, spool: Spool, count: int) -> None:
        await spool.put([envelope(failure()) for _ in range(count)])

    async def test_sixteen_rows_are_a_commit(self, tmp_path: Path) -> None:
        """Rows don't wait for the rest of the window once there are sixteen."""
        async with opened_spool(tmp_path, Limits(group_seconds=3600)) as spool:
            with anyio.fail_after(20):
                await self._record_together(spool, 48)
            assert spool.commits == 3

    async def test_window(self, tmp_path: Path) -> None:
        """Fewer rows are committed together when the window ends, and none is told of before that."""
        spool = Spool(tmp_path, limits=Limits(group_seconds=0.05))
        await spool.open()
        await self._record_together(spool, 5)
        assert spool.commits == 1
        await self._record_together(spool, 3)
        assert spool.commits == 2
        await spool.close()

    async def test_call_ends_the_window(self, tmp_path: Path) -> None:
        """A question is answered at once, and sees the rows that were waiting for company."""
        async with opened_spool(tmp_path, Limits(group_seconds=3600)) as spool:
            spool.opened(begun())
            with anyio.fail_after(20):
                counts = await spool.counts()
            assert (counts.in_flight, spool.commits) == (1, 1)

    async def test_close_commits(self, tmp_path: Path) -> None:
        """What is given before `close` is durable after it, however long the window is."""
        async with opened_spool(tmp_path, Limits(group_seconds=3600)) as spool, anyio.create_task_group() as group:
            group.start_soon(spool.put, [envelope(sample())])
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

    async def test_clock_that_is_set_back(self, spool: Spool, clock: SetClock) -> None:
        """What was put off while the clock was a year ahead does not wait for a year."""
        (item,) = await filled(spool, 1)
        await spool.retry_later([item.outcome.id], "timed out", NOON + timedelta(days=365, minutes=1))
        assert [waiting.id for waiting in await spool.peek(10, NOON)] == [item.outcome.id]

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

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda body: zlib.compress(zlib.decompress(body).replace(b"groq", b"gorq")), "its digest is another one"),
            (lambda body: body[:-5], "it can't be unpacked"),
            (lambda body: b"{}", "it can't be unpacked"),
            (lambda body: b"", "it can't be unpacked"),
        ],
        ids=["changed", "cut", "not-packed", "empty"],
    )
    async def test_undecodable(self, tmp_path: Path, change: Callable[[bytes], bytes], words: str) -> None:
        """A body that is not what was recorded goes into quarantine with its bytes, and the rest goes out."""
        async with opened_spool(tmp_path) as spool:
            bad, good = (item.outcome.id for item in await filled(spool, 2))
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
            (body,) = connection.execute("SELECT body FROM outcomes WHERE id = ?", (bad,)).fetchone()
            connection.execute("UPDATE outcomes SET body = ? WHERE id = ?", (change(body), bad))
        async with opened_spool(tmp_path) as spool:
            assert [waiting.id for waiting in await spool.peek(10, NOON)] == [good]
            (kept,) = await exported(spool, "quarantined")
            assert (kept.id, kept.reason) == (bad, "undecodable")
            assert words in str(kept.error)
            assert b"gorq" in kept.body or kept.body == change(body)

    async def test_digest_is_of_the_body_as_it_was(self, tmp_path: Path) -> None:
        """A file whose bodies are packed in another way, or better, is read as well, and a repeat is a duplicate."""
        async with opened_spool(tmp_path) as spool:
            items = await filled(spool, 2)
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
            for seq, digest, body in connection.execute("SELECT seq, digest, body FROM outcomes").fetchall():
                whole = zlib.decompress(body)
                assert (len(body) < len(whole), hashlib.sha256(whole).digest()) == (True, digest)
                stored = zlib.compress(whole, 0)
                assert stored != body
                connection.execute("UPDATE outcomes SET body = ? WHERE seq = ?", (stored, seq))
        async with opened_spool(tmp_path) as spool:
            assert [waiting.envelope for waiting in await spool.peek(10, NOON)] == items
            assert [await record(spool, item) for item in items] == ["duplicate", "duplicate"]

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

    async def test_export_is_readable(self, spool: Spool) -> None:
        """What is exported is the JSON that was recorded, not what the file makes of it."""
        items = [envelope(sample(), publish=False), envelope(failure())]
        await spool.put(items)
        read = [msgspec.json.decode(kept.body) for kept in await exported(spool, "waiting")]
        assert [one["outcome"] for one in read] == [msgspec.json.decode(canonical_json(item.outcome)) for item in items]
        assert [(one["kind"], one["publish"]) for one in read] == [("sample", False), ("failure", True)]


class TestAttempts:
    """What was begun has an end."""

    async def test_interrupted(self, tmp_path: Path, clock: SetClock) -> None:
        """Attempts without an outcome are recorded at the next start, once, as they were begun; they wait then."""
        attempts = [begun(run_ts=moment(n), model_name=f"model-{n}") for n in range(4)]
        async with opened_spool(tmp_path, clock=clock) as spool:
            for one in reversed(attempts):
                spool.opened(one)
            await record(spool, envelope(sample(id=attempts[0].outcome.id)))
            spool.withdrawn(attempts[1].outcome.id)
            assert (await spool.counts()).in_flight == 2
        spool = Spool(tmp_path, limits=QUICK, clock=clock)
        assert await spool.open() == [one.outcome for one in attempts[2:]]
        assert spool.recorded == 2
        assert ((await spool.counts()).in_flight, (await spool.counts()).waiting) == (0, 3)
        assert [waiting.envelope for waiting in await spool.peek(10, NOON)][1:] == attempts[2:]
        await spool.close()
        assert await spool.open() == []
        assert await record(spool, attempts[3]) == "duplicate"
        await spool.close()

    async def test_interrupted_at_the_cap(self, tmp_path: Path) -> None:
        """They are recorded though the spool takes nothing else, and though its cap was lowered."""
        attempts = [begun(traceback=noise(20_000)) for _ in range(50)]
        async with opened_spool(tmp_path) as spool:
            for one in attempts:
                spool.opened(one)
        small = Limits(group_seconds=0.0, cap_bytes=10 * 4096)
        spool = Spool(tmp_path, limits=small, clock=SetClock())
        assert len(await spool.open()) == 50
        with pytest.raises(SpoolFull):
            await filled(spool, 1)
        assert {kept.id for kept in await exported(spool, "waiting")} == {one.outcome.id for one in attempts}
        await spool.close()

    async def test_unreadable(self, tmp_path: Path) -> None:
        """One that can't be read is not lost, and goes into quarantine."""
        attempts = [begun(), begun()]
        async with opened_spool(tmp_path) as spool:
            for one in attempts:
                spool.opened(one)
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
            connection.execute("UPDATE attempts SET body = x'7b7d' WHERE id = ?", (attempts[0].outcome.id,))
        spool = Spool(tmp_path, limits=QUICK, clock=SetClock())
        assert await spool.open() == [attempts[1].outcome]
        (kept,) = await exported(spool, "quarantined")
        assert (kept.id, kept.reason, kept.body) == (attempts[0].outcome.id, "undecodable", b"{}")
        await spool.close()

    async def test_not_storable(self, spool: Spool) -> None:
        """One that could not be recorded is not noted; a success is no way to begin."""
        spool.opened(begun(partial={"value": float("nan")}))
        spool.opened(begun())
        with pytest.raises(TypeError, match="not with a Sample"):
            spool.opened(envelope(sample()))
        assert (await spool.counts()).in_flight == 1


class TestNews:
    """Who delivers is woken."""

    async def test_recorded(self, spool: Spool) -> None:
        """What becomes due is counted: new outcomes and released ones; no repeats, and no conflicts."""
        items = await filled(spool, 2)
        await record(spool, items[0])
        await record(spool, envelope(msgspec.structs.replace(items[0].outcome, model_name="other")))
        assert spool.recorded == 2
        await spool.quarantine(items[1].outcome.id, "rejected")
        await spool.release_quarantined([item.outcome.id for item in items])
        assert spool.recorded == 3

    async def test_more_than(self, spool: Spool) -> None:
        """Waiting for news ends at once if there are some already, and else with the next outcome."""
        await filled(spool, 1)
        with anyio.fail_after(20):
            await spool.more_than(0)
            async with anyio.create_task_group() as group:
                group.start_soon(spool.more_than, 2)
                await filled(spool, 1)
                await anyio.wait_all_tasks_blocked()
                assert group.cancel_scope.cancel_called is False
                await filled(spool, 1)
        assert spool.recorded == 3

    async def test_counted_though_nobody_waits(self, spool: Spool) -> None:
        """An outcome of which the recording was cancelled is recorded all the same, and is news."""
        with anyio.CancelScope() as scope:
            scope.cancel()
            await filled(spool, 1)
        with anyio.fail_after(20):
            await spool.more_than(0)

    async def test_end(self, tmp_path: Path) -> None:
        """Nobody waits for news of a spool that is closed."""
        spool = Spool(tmp_path, limits=QUICK)
        await spool.open()
        ended = []

        async def wait() -> None:
            with pytest.raises(StoreError, match="is not open"):
                await spool.more_than(0)
            ended.append(True)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await spool.close()
        assert ended


class TestHistory(HistoryContract):
    """The spool tells of every model's past what any store tells."""

    @pytest.fixture
    async def store(self, spool: Spool, clock: SetClock) -> Spool:
        clock.advance(days=1)
        return spool

    async def test_outlives_outcomes(self, tmp_path: Path, clock: SetClock) -> None:
        """What was recorded is known though the outcomes are gone; a repeat is not counted again."""
        async with opened_spool(tmp_path, clock=clock) as spool:
            items = [envelope(failure(run_ts=moment(n), error_kind="timeout")) for n in range(3)]
            await spool.put([*items, items[0]])
            await spool.delivered([item.outcome.id for item in items])
            clock.advance(days=2)
            await filled(spool, 1)
            assert (await spool.counts()).delivered == 0
        async with opened_spool(tmp_path, clock=clock) as spool:
            past = next(past for past in await spool.history() if past.last_failure_kind == "timeout")
            assert (past.failures_in_a_row, past.last_failure) == (4, moment(2))

    async def test_wrong_clock(self, spool: Spool, clock: SetClock) -> None:
        """A success that was recorded by a clock far ahead does not stand once the clock is right."""
        clock.advance(days=400)
        await record(spool, envelope(sample(run_ts=clock.now())))
        clock.time = NOON
        assert await spool.history() == []
        await record(spool, envelope(sample(run_ts=NOON)))
        assert [past.last_success for past in await spool.history()] == [NOON]


async def level_and_use(spool: Spool) -> tuple[str, float]:
    counts = await spool.counts()
    return spool.level, counts.used_bytes / counts.cap_bytes


class TestRoom:
    """The cap."""

    async def test_hysteresis(self, tmp_path: Path) -> None:
        """It warns from 80 % on, pauses at 95 %, and goes on only below 80 %; room is that of rows, not of the file."""
        limits = Limits(group_seconds=0.0, cap_bytes=60 * 4096)
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
                spool.opened(begun(id="f" * 24))
                levels.append(await level_and_use(spool))
                assert len(levels) < 200
            assert {level for level, used in levels if used >= 0.80} == {"paused"}
            assert levels[-1][1] < 0.80

    async def test_room_after_a_backlog(self, tmp_path: Path) -> None:
        """A spool that filled up has room again once all is delivered, though nothing is recorded meanwhile."""
        limits = Limits(group_seconds=0.0, cap_bytes=2**22)
        async with opened_spool(tmp_path, limits) as spool:
            while spool.level != "paused":
                await filled(spool, 20)
            while batch := await spool.peek(500, NOON):
                await spool.delivered([waiting.id for waiting in batch])
            assert (await spool.counts()).level == "ok"

    async def test_room_after_the_clock_was_ahead(self, tmp_path: Path, clock: SetClock) -> None:
        """What was delivered while the clock was a year ahead takes no room from what is to be recorded."""
        async with opened_spool(tmp_path, Limits(group_seconds=0.0, cap_bytes=2**20), clock) as spool:
            clock.advance(days=365)
            await spool.delivered([item.outcome.id for item in await filled(spool, 100)])
            clock.advance(days=-365)
            while (counts := await spool.counts()).delivered and counts.level != "paused":
                await filled(spool, 1)
            assert (counts.level, counts.delivered) == ("ok", 0)

    @pytest.mark.parametrize("restarted", [False, True])
    async def test_a_pause_ends_by_itself(self, tmp_path: Path, restarted: bool) -> None:
        """All is delivered in one call, and nothing is recorded while it is paused: it makes room all the same."""
        limits = Limits(group_seconds=0.0, cap_bytes=200 * 4096)
        async with opened_spool(tmp_path, limits) as spool:
            while (await level_and_use(spool))[0] != "paused":
                await filled(spool, 1)
            assert spool._writer is not None
            with pytest.MonkeyPatch.context() as patch:
                if restarted:
                    patch.setattr(spool._writer, "_make_room", lambda: None)
                await spool.delivered([kept.id for kept in await exported(spool, "waiting")])
                if restarted:
                    await spool.close()
                    await spool.open()
            for _ in range(20):  # calls that change nothing
                await spool.peek(2, NOON)
            assert (await level_and_use(spool))[0] == "ok"

    async def test_cap(self, tmp_path: Path) -> None:
        """At the cap it takes no more outcomes and says so; delivering makes room, and then it does."""
        limits = Limits(group_seconds=0.0, cap_bytes=30 * 4096)
        async with opened_spool(tmp_path, limits, clock := SetClock()) as spool:
            refused = envelope(failure())
            recorded: set[str] = set()
            while (await spool.counts()).used_bytes < limits.cap_bytes:
                await record(spool, item := envelope(failure()))
                recorded.add(item.outcome.id)
            with pytest.raises(SpoolFull, match="has reached its cap of 122880 bytes"):
                await record(spool, refused)
            assert {kept.id for kept in await exported(spool, "waiting")} == recorded

            clock.advance(seconds=1)
            await spool.delivered(sorted(recorded)[:-2])
            clock.advance(seconds=1)
            await spool.delivered(sorted(recorded)[-2:])
            assert await record(spool, refused) == "stored"

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
        for _ in range(30):
            await record(spool, envelope(sample(misc={"text": noise(500_000)})))
        assert (tmp_path / "spool.db-wal").stat().st_size < 6_000_000
        assert (tmp_path / "spool.db").stat().st_size > 9_000_000

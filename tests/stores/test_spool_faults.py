"""The spool under faults: killed, damaged, full, shared, and on a disk that fails."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from llmbench.messages import Envelope
from llmbench.stores import spool_schema, spool_writer
from llmbench.stores.spool import Limits, Spool, SpoolFailed, SpoolFull
from tests.stores.documents import NOON, envelope, failure, noise, sample
from tests.stores.spooling import QUICK, begun, exported, filled, opened_spool, record, reopened
from tests.stores.test_sqlite_faults import lines, running

RECORD_FOR_EVER = """
import os, signal, sys, time
import anyio
from pathlib import Path
from llmbench.stores import spool_rows as rows, spool_schema, spool_writer
from llmbench.stores.spool import Limits, Spool
from tests.stores.documents import NOON, envelope, failure
from tests.stores.spooling import begun

def say(*words):
    os.write(1, (" ".join(words) + "\\n").encode())  # whole lines: two threads speak

def kill():
    say("point")
    time.sleep(0.1)  # long enough for the other thread to say what it was told too early
    os.kill(os.getpid(), signal.SIGKILL)

def die_in(name, after):
    real, calls = getattr(spool_schema, name), []
    def dying(connection):
        calls.append(rows.last_seq(connection))
        due = len(calls) > 10 and (name == "checkpoint" or calls[-1] > calls[-2])  # with an outcome in the commit
        if due and not after:
            kill()
        real(connection)
        if due:
            kill()
    setattr(spool_schema, name, dying)

def die_at(name, when):
    die_in(name, when == "after")
    if name == "checkpoint":
        spool_writer._LOG_BYTES = 0

async def record_for_ever(spool, told):
    while True:
        item = envelope(failure())
        spool.opened(begun(id=item.outcome.id))
        (verdict,) = await spool.put([item])
        if verdict.status == "stored":
            say("recorded", item.outcome.id)

async def deliver_for_ever(spool):
    while True:
        ids = [waiting.id for waiting in await spool.peek(6, NOON)]
        for one in ids[::2]:
            say("stored", one)
        await spool.delivered(ids[::2])
        await anyio.sleep(0.01)

async def main(folder):
    spool = Spool(Path(folder), limits=Limits(group_seconds=0.002))
    say("recorded", *(one.id for one in await spool.open()))
    assert spool.damages == []
    async with anyio.create_task_group() as group:
        for n in range(8):
            group.start_soon(record_for_ever, spool, n)
        group.start_soon(deliver_for_ever, spool)

while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        say("pid", str(os.getpid()))
        folder, point = line[:-1].split("\\t")
        if point:
            die_at(*point.split())
        anyio.run(main, folder)
    os.waitpid(child, 0)
    say("dead")
"""
"""Records outcomes and delivers half of what it peeks, and says each id before the store would have it, and after it is
recorded. Each line that it gets, a folder and a point to die at, makes it do so in a new process, forked from one that
has imported all it needs."""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    with running(RECORD_FOR_EVER, tmp_path_factory.mktemp("none")) as process:
        yield process


class TestKill:
    """SIGKILL at any moment, and at those that matter most."""

    def test_at_random(self, recorder: subprocess.Popen[str], tmp_path: Path, long: bool) -> None:
        """Every id that was told to be recorded is there, once, whole; what was delivered stays so or goes again."""
        recorded: set[str] = set()
        stored: set[str] = set()
        for _ in range(200 if long else 8):
            seen = _until_killed(recorder, tmp_path, random.randint(1, 60))
            recorded.update(one for word, *ids in seen for one in ids if word == "recorded")
            stored.update(one for word, *ids in seen for one in ids if word == "stored")
        assert recorded
        assert stored
        anyio.run(_check_accounts, tmp_path, recorded, stored)

    @pytest.mark.parametrize("point", ["commit before", "commit after", "checkpoint before", "checkpoint after"])
    def test_at_a_point(self, recorder: subprocess.Popen[str], tmp_path: Path, point: str) -> None:
        """Nothing that was told to be recorded is lost by a kill around a commit or a checkpoint."""
        words = _started(recorder, tmp_path, point)
        seen = list(iter(words.__next__, ["dead"]))
        assert ["point"] in seen
        recorded = {one for word, *ids in seen for one in ids if word == "recorded"}
        assert recorded
        anyio.run(_check_accounts, tmp_path, recorded, {one for word, *ids in seen for one in ids if word == "stored"})


def _started(process: subprocess.Popen[str], folder: Path, point: str = "") -> Iterator[list[str]]:
    """Start a recorder, and return what it says from then on."""
    assert process.stdin is not None
    process.stdin.write(f"{folder}\t{point}\n")
    process.stdin.flush()
    return _words(process)


def _until_killed(process: subprocess.Popen[str], folder: Path, after: int) -> list[list[str]]:
    """Start a recorder, kill it after so many lines, and return all that it said."""
    words = _started(process, folder)
    word, pid = next(words)
    assert word == "pid"
    seen = [next(words) for _ in range(after)]
    os.kill(int(pid), signal.SIGKILL)
    seen.extend(iter(words.__next__, ["dead"]))
    return seen


def _words(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    return (line.split() for line in lines(process))


async def _check_accounts(folder: Path, recorded: set[str], stored: set[str]) -> None:
    spool = Spool(folder, limits=QUICK)
    recorded.update(failed.id for failed in await spool.open())
    waiting = [kept.id for kept in await exported(spool, "waiting")]
    delivered = [kept.id for kept in await exported(spool, "delivered")]
    assert spool.damages == []
    assert len(waiting) + len(delivered) == len(set(waiting + delivered))
    assert recorded <= {*waiting, *delivered}
    assert set(delivered) <= stored
    while batch := await spool.peek(1000, NOON):
        await spool.delivered([one.id for one in batch])
    assert (await spool.counts()).quarantined == {}
    await spool.close()
    with closing(sqlite3.connect(folder / "spool.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class TestFull:
    """No more room."""

    async def test_file_that_can_not_grow(self, tmp_path: Path) -> None:
        """Of a group that no longer fits, each outcome that does is recorded, and of the others it is said."""
        async with opened_spool(tmp_path) as spool:
            (first,) = await filled(spool, 1)
            writer = spool._writer
            assert writer is not None
            connection = writer._connection
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 3}")
            items = [envelope(sample(misc={"text": noise(size)})) for size in (100_000, 10, 100_000)]
            verdicts = await spool.put(items)
            assert [verdict.status for verdict in verdicts] == ["unknown", "stored", "unknown"]
            assert all("can't grow" in str(verdict.reason) for verdict in verdicts if not verdict.acknowledged)
            assert {kept.id for kept in await exported(spool, "waiting")} == {first.outcome.id, items[1].outcome.id}

            with pytest.raises(SpoolFull, match="can't grow"):
                await spool.put([items[0], items[2]])
            connection.execute("PRAGMA max_page_count = 100000")
            assert await record(spool, items[0]) == "stored"

    @pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk takes root")
    async def test_full_disk(self, tmp_path: Path) -> None:
        """A full disk is said; what was recorded stays, and it goes on when there is room again."""
        folder = tmp_path / "disk"
        folder.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
        if (await anyio.run_process(mount, check=False)).returncode:
            pytest.skip("this root may not mount")
        try:
            recorded: list[str] = []
            async with opened_spool(folder) as spool:
                items = [envelope(failure(traceback=noise(20_000))) for _ in range(100)]
                with pytest.raises(SpoolFull, match=r"can't grow \(database or disk is full\)"):
                    await _record_all(spool, items, recorded)
                item = items[len(recorded)]
                assert [kept.id for kept in await exported(spool, "waiting")] == recorded
                await anyio.run_process(["mount", "-o", "remount,size=4m", str(folder)])
                assert await record(spool, item) == "stored"
            damages, waiting, _ = await reopened(folder)
            assert (damages, waiting) == ([], {*recorded, item.outcome.id})
        finally:
            await anyio.run_process(["umount", str(folder)])


class TestFailure:
    """A disk that fails: the file can't be trusted any more until it is checked."""

    async def test_failed_write(self, tmp_path: Path) -> None:
        """Once a write failed, every call says so at once, though writing would work again; the next start is fine."""
        spool = Spool(tmp_path, limits=QUICK)
        await spool.open()
        (item,) = await filled(spool, 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((await spool.counts()).file_bytes, hard))
        try:
            with pytest.raises(SpoolFailed, match="SQLITE_IOERR_WRITE"):
                await record(spool, envelope(sample(misc={"text": noise(1_000_000)})))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with pytest.raises(SpoolFailed, match="SQLITE_IOERR_WRITE"):
            await record(spool, envelope(sample()))
        await spool.close()
        damages, waiting, _ = await reopened(tmp_path)
        assert (damages, waiting) == ([], {item.outcome.id})

    @pytest.mark.parametrize("point", ["commit", "checkpoint"])
    async def test_failed_sync(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
        """An I/O error on a commit or checkpoint is final: those who wait, and all later calls, get `SpoolFailed`."""
        monkeypatch.setattr(spool_writer, "_LOG_BYTES", 0)
        spool = Spool(tmp_path, limits=Limits(group_seconds=0.03))
        await spool.open()
        (item,) = await filled(spool, 1)
        monkeypatch.setattr(spool_schema, point, _io_error)
        errors = []

        async def fail() -> None:
            with pytest.raises(SpoolFailed, match=r"SQLITE_IOERR_FSYNC.*start llmbench again") as caught:
                await _record_two(spool)
            errors.append(caught.value)

        async def wait_for_news() -> None:
            with pytest.raises(SpoolFailed, match="SQLITE_IOERR_FSYNC"):
                await spool.more_than(1000)
            news.append("none")

        news: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_news)
            for _ in range(3):
                group.start_soon(fail)
        assert (len(errors), news) == (3, ["none"])
        with pytest.raises(SpoolFailed):
            await spool.peek(10, NOON)
        with pytest.raises(SpoolFailed):
            spool.opened(begun(id="f" * 24))
        await spool.close()
        monkeypatch.undo()
        damages, waiting, _ = await reopened(tmp_path)
        assert damages == []
        assert item.outcome.id in waiting

    async def test_failed_sync_at_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A start that meets an I/O error gives its lock away, so the next one can try."""
        async with opened_spool(tmp_path) as spool:
            spool.opened(begun(id="f" * 24))
        with monkeypatch.context() as patch:
            patch.setattr(spool_schema, "commit", _io_error)
            with pytest.raises(SpoolFailed):
                await Spool(tmp_path).open()
        async with opened_spool(tmp_path) as spool:
            assert (spool.recorded, (await spool.counts()).waiting) == (1, 1)

    @pytest.mark.parametrize("name", ["spool.db", "spool.db-wal"])
    async def test_deleted_while_open(self, tmp_path: Path, name: str) -> None:
        """An outcome that went into a file that nobody will find is not told to be recorded."""
        async with opened_spool(tmp_path) as spool:
            await filled(spool, 1)
            (tmp_path / name).unlink()
            with pytest.raises(SpoolFailed, match="was deleted, moved or replaced"):
                await record(spool, envelope(sample()))


async def _record_all(spool: Spool, items: list[Envelope], recorded: list[str]) -> None:
    for item in items:
        await record(spool, item)
        recorded.append(item.outcome.id)


async def _record_two(spool: Spool) -> None:
    """Record twice: a failing checkpoint comes after its commit, so the first may still be recorded."""
    for _ in range(2):
        await record(spool, envelope(sample()))


def _io_error(_: sqlite3.Connection) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    raise error

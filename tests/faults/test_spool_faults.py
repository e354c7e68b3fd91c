"""Faults of the spool, one test a row of the fault matrix, through the program: killed, full, damaged, shared."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep

import anyio
import msgspec
import pytest

from llmbench.messages import Envelope
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import unique
from tests.e2e.program import SECONDS, Place
from tests.faults.doomed import SPOOL, Doomed, configure, copied, doomed
from tests.stores.documents import envelope, sample

QUICK = "ttft5-gap1"
RARE = "fresh_minutes = 60"
"""Nothing is measured twice."""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, simulator: SpawnedSimulator) -> Iterator[subprocess.Popen[str]]:
    place = Place(tmp_path_factory.mktemp("driver"), simulator)
    with doomed(place, "faulty_driver", []) as engines:
        yield engines.driver


class Faulty(Doomed):
    """Engines of a test's own folder, each with the fault that it is given."""

    def __init__(self, driver: subprocess.Popen[str], place: Place) -> None:
        super().__init__(driver, place.folder)
        self.place = place
        self.database = place.database
        self.spool = place.folder / SPOOL

    def configure(self, *models: str, schedule: str = RARE, spool: Mapping[str, object] = {}) -> None:
        configure(self.place, models=models, schedule=schedule, spool=spool)

    def start(self, fault: str = "") -> None:
        (self.folder / "fault").write_text(fault)
        (self.folder / "hit").unlink(missing_ok=True)
        super().start()

    @property
    def hit(self) -> bool:
        return (self.folder / "hit").exists()

    def stored(self) -> list[str]:
        """Return the id of every outcome in the store, in order."""
        with copied(self.database) as copy:
            if copy is None or not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'failures'").fetchall():
                return []
            return sorted(one for (one,) in copy.execute("SELECT id FROM samples UNION ALL SELECT id FROM failures"))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = monotonic() + SECONDS
        while not condition():
            assert monotonic() < deadline, self.messages()[-5:]
            sleep(0.05)

    def until_stored(self, count: int) -> None:
        self.until(lambda: len(self.stored()) >= count)

    @contextmanager
    def without_store(self, fault: str = "") -> Iterator[None]:
        """Start an engine while another program holds the store's lock: the store takes nothing meanwhile."""
        anyio.run(_put, self.database, [])
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            self.start(fault)
            yield
            connection.execute("ROLLBACK")

    def rolled_up(self) -> int:
        """Return how many failures the store has counted."""
        with copied(self.database) as copy:
            assert copy is not None
            return int(copy.execute("SELECT sum(count) FROM error_rollups").fetchone()[0])

    def check_accounts(self) -> None:
        """All that was told, and all that the spool has, is in the store once; nothing waits."""
        left = self.left()
        assert set(self.told()) <= left.recorded
        assert self.stored() == sorted(left.recorded - left.quarantined)
        assert (left.waiting, left.attempts) == (set(), set())


@pytest.fixture
def engines(driver: subprocess.Popen[str], simulator: SpawnedSimulator, tmp_path: Path) -> Iterator[Faulty]:
    engines = Faulty(driver, Place(tmp_path, simulator))
    yield engines
    if engines.running:
        engines.kill()


AT_FILES = ("before-checkpoint", "after-checkpoint", "creation")
POINTS = ("request", "first-token", "before-commit", "after-commit", "after-ack", *AT_FILES)


@pytest.mark.parametrize("point", POINTS)
def test_K2_S7_a_kill_at_a_named_point(engines: Faulty, point: str) -> None:
    """The engine reaches the point and is killed there; the next one makes up for it, and every account is settled.

    What streamed is recorded as interrupted if that was noted in time; what the store had already is there once.
    """
    slow = point == "first-token"
    engines.configure(*(unique("ttft200-gap1" if slow else QUICK) for _ in range(10)))
    engines.start(f"kill {point}")
    assert engines.end() == -signal.SIGKILL
    assert engines.hit
    left = engines.left()
    assert set(engines.told()) <= left.recorded
    assert bool(left.attempts) or not slow
    assert bool(left.waiting & set(engines.stored())) or point != "after-ack"

    engines.start()
    engines.until_stored(10)
    assert engines.end(signal.SIGTERM) == 0
    assert left.recorded | left.attempts <= set(engines.stored())
    engines.check_accounts()


def test_S8_an_id_that_the_store_has_with_another_body(engines: Faulty) -> None:
    """It is put in quarantine and said so, the exit code is 1, and the store's row stays as it is."""
    ours, theirs = sample(), sample(output_tokens=63)
    ours = msgspec.structs.replace(ours, id=theirs.id)
    engines.configure(model := unique(QUICK))
    anyio.run(_spooled, engines.spool, [envelope(ours)])
    anyio.run(_put, engines.database, [envelope(theirs)])
    engines.start()
    engines.until_logged(f'"model":"{model}"')
    engines.until_logged(f"outcome {theirs.id} of openai/gpt-4o-mini was not stored, and is kept in quarantine: ")

    assert engines.end(signal.SIGTERM) == 1
    assert engines.left().quarantined == {theirs.id}
    assert theirs in engines.place.samples()
    assert len(engines.stored()) == 2


async def _spooled(folder: Path, items: list[Envelope]) -> None:
    spool = Spool(folder)
    await spool.open()
    await spool.put(items)
    await spool.close()


async def _put(database: Path, items: list[Envelope]) -> None:
    store = SQLiteStore(database)
    await store.open()
    await store.put(items)
    await store.close()


@pytest.mark.timeout(180)
def test_S10_a_spool_at_its_cap(engines: Faulty, simulator: SpawnedSimulator) -> None:
    """While the store is away it fills: nothing new is started, and all goes on afterwards; nothing is lost.

    It is more than half full from the beginning, which saves the runs.
    """
    before = simulator.counts().requests
    earlier = [envelope(sample()) for _ in range(550)]
    models = [unique("ttft2-gap0.1") for _ in range(250)]
    engines.configure(*models, spool={"cap_mb": 1})
    anyio.run(_spooled, engines.spool, earlier)
    with engines.without_store():
        engines.until_logged("nothing new is started: spool_full")
        asked = settled(lambda: simulator.counts().requests - before)
        assert 0 < asked < 250
    engines.until_logged("the spool has room again: runs are started")
    engines.until_stored(800)

    assert engines.end(signal.SIGTERM) == 0
    assert engines.stored() == sorted({*engines.told(), *(one.outcome.id for one in earlier)})
    assert simulator.counts().requests - before == 250


def settled(number: Callable[[], int]) -> int:
    """Return a number once it has stayed the same for a while."""
    deadline, last = monotonic() + SECONDS, -1
    while (now := number()) != last:
        assert monotonic() < deadline
        last = now
        sleep(1)
    return now


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk takes root")
def test_S10_a_disk_that_is_full(engines: Faulty) -> None:
    """Nothing is told that is not recorded; with room on the disk it goes on by itself, and nothing is lost."""
    engines.configure(*(unique("ttft2-gap0.5") for _ in range(150)))
    with small_disk(engines.spool, "400k"):
        with engines.without_store():
            engines.until_logged("can't grow (database or disk is full)")
            sleep(0.3)
            assert set(engines.told()) <= engines.left().recorded
            subprocess.run(["mount", "-o", "remount,size=16m", str(engines.spool)], check=True)
            engines.until_logged("spool takes outcomes again")
        engines.until_stored(150)
        assert engines.end(signal.SIGTERM) == 0
        engines.check_accounts()
    assert len(engines.stored()) == 150


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_S11_a_write_that_fails(engines: Faulty) -> None:
    """The system lets no file grow beyond 300 kB: the engine says why and ends with code 4; the next checks the file.

    The store is away, so the spool's log is the first file to come so far.
    """
    engines.configure(*(unique("ttft2-gap0.5") for _ in range(200)))
    with engines.without_store("limit FSIZE 300000"):
        assert engines.end() == 4
    assert engines.hit
    assert "ended, since what is measured can't be recorded: Spool '" in engines.messages()[-1]
    assert "SQLITE_IOERR_WRITE" in engines.messages()[-1]
    assert set(engines.told()) <= engines.left().recorded

    engines.start()
    engines.until_stored(200)
    assert engines.end(signal.SIGTERM) == 0
    engines.check_accounts()


def _flip(spool: Path) -> None:
    with (spool / "spool.db").open("r+b") as file:
        file.seek(4096)  # the root of the first table
        page = file.read(64)
        file.seek(4096)
        file.write(bytes(255 - byte for byte in page))


def _cut_log(spool: Path) -> None:
    log = spool / "spool.db-wal"
    os.truncate(log, log.stat().st_size // 2)


DAMAGES = {
    "flipped": (_flip, (signal.SIGTERM,)),
    "log-cut": (_cut_log, (signal.SIGKILL,)),
    "log-gone": (lambda spool: (spool / "spool.db-wal").unlink(), (signal.SIGKILL,)),
    "empty": (lambda spool: os.truncate(spool / "spool.db", 0), (signal.SIGKILL,)),
    "gone": (lambda spool: (spool / "spool.db").unlink(), (signal.SIGKILL,)),
}
"""What is done to the files, and how the engine ended before: after SIGKILL all is in the log, after others none."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_S12_a_spool_that_is_damaged_between_two_runs(engines: Faulty, damage: str) -> None:
    """It is moved aside, salvaged and reported, and the exit code is 1 until somebody has acknowledged it.

    A start that is killed while it salvages is made up for by the next one. What is stored was recorded.
    """
    do, numbers = DAMAGES[damage]
    engines.configure(*(unique(QUICK) for _ in range(10)))
    with engines.without_store():
        engines.until_runs(10)
        engines.end(*numbers)
    told = set(engines.told())
    do(engines.spool)
    engines.start("kill salvage")
    assert engines.end() == -signal.SIGKILL

    for _ in range(2):
        engines.start()
        engines.until_listening()
        (said,) = {message for message in engines.messages() if message.startswith("Spool was damaged (")}
        found = re.search(r": (\d+) salvaged, (an unknown number|\d+) unreadable, 0 in quarantine", said)
        assert found, said
        salvaged, lost = found.groups()
        engines.until_stored(int(salvaged))
        assert engines.end(signal.SIGTERM) == 1
    assert len(told & {run.id for run in engines.place.samples()}) == int(salvaged), "others are told as interrupted"
    assert not lost.isdecimal() or int(salvaged) + int(lost) == 10
    assert set(engines.stored()) <= set(engines.told())
    assert list(engines.spool.glob("spool.db.damaged-*"))

    anyio.run(_acknowledge, engines.spool)
    engines.start()
    engines.until_listening()
    assert engines.end(signal.SIGTERM) == 0


async def _acknowledge(folder: Path) -> None:
    spool = Spool(folder)
    await spool.open()
    await spool.acknowledge_damage()
    await spool.close()


def test_S12_a_spool_of_a_newer_llmbench(engines: Faulty) -> None:
    """It is refused with code 2, and stays as it is."""
    engines.configure(unique(QUICK))
    anyio.run(_spooled, engines.spool, [envelope(sample())])
    with closing(sqlite3.connect(engines.spool / "spool.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (engines.spool / "spool.db").read_bytes()
    engines.start()

    assert engines.end() == 2
    assert (engines.spool / "spool.db").read_bytes() == before
    assert engines.told() == []


def test_S13_two_engines_on_one_spool(engines: Faulty) -> None:
    """The second ends with code 2 and names the first by its process id; the first notices nothing."""
    engines.configure(unique(QUICK))
    engines.start()
    engines.until_runs()
    second = engines.place.run("--headless", "--once")

    assert second.code == 2
    assert f"is in use by the process with the id {engines.process}; stop that one" in second.err
    assert engines.end(signal.SIGTERM) == 0
    engines.check_accounts()


@pytest.mark.timeout(180)
def test_S20_a_store_that_another_program_locks(engines: Faulty, long: bool) -> None:
    """Runs are made and recorded meanwhile, the log says why nothing is stored, and then all is, once."""
    engines.configure(*(unique("ttft20-gap5") for _ in range(50)), schedule="fresh_minutes = 0.1")
    with engines.without_store():
        engines.until_logged("the store takes nothing now, what is measured is kept in the spool: ")
        told = len(engines.told())
        sleep(60 if long else 1)
        engines.until_runs(told + 20)
    engines.until_logged("the store takes outcomes again")

    assert engines.end(signal.SIGTERM) == 0
    engines.check_accounts()


def test_S23_a_whole_spool_that_is_delivered_again(engines: Faulty) -> None:
    """Every row is marked as waiting: all are delivered a second time, and the store has no row more."""
    engines.configure(*(unique(words) for words in [QUICK, "404"] * 10))
    engines.start()
    engines.until_stored(20)
    assert engines.end(signal.SIGTERM) == 0
    stored = engines.stored()
    with closing(sqlite3.connect(engines.spool / "spool.db")) as connection:
        connection.execute("UPDATE outcomes SET state = 'waiting'")
        connection.commit()
    engines.start()
    engines.until_listening()

    assert engines.end(signal.SIGTERM) == 0
    assert engines.messages()[-1] == "ended: 0 outcomes recorded, 20 stored, 0 wait in the spool, 0 lost"
    assert engines.stored() == stored
    assert engines.rolled_up() == 10
    engines.check_accounts()

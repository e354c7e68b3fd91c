"""Process faults, one test a row of the fault matrix: kills, signals, crashes, readers that go away."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import fcntl
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic, sleep

import msgspec
import pytest

from llmbench.actors.plans import Batch, Rotation
from llmbench.actors.supervisor import Buffer
from llmbench.config import ResolvedProvider
from llmbench.measure.exchange import Exchange, Limits
from llmbench.messages import Envelope, Model, Profile, RunFinished
from llmbench.providers.base import Prepared
from llmbench.providers.openai_family import OpenAIFamily
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.base import Verdict
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import Engine, failures, ids, in_store, lane, runs, samples, settings, unique
from tests.e2e.program import KEY, SECONDS, Place, ended, output, until_logged
from tests.stores.spooling import opened_spool


@pytest.fixture
def place(tmp_path: Path, simulator: SpawnedSimulator) -> Place:
    return Place(tmp_path, simulator)


def test_K3_what_does_not_end_in_time_is_cut_off_and_recorded(place: Place, simulator: SpawnedSimulator) -> None:
    """SIGTERM while one stream ends soon and two never do: one sample, two ``cancelled``, exit code 0 in time.

    The grace period is a second and a half.
    """
    ends = unique("ttft100-gap40", "a-ends-")
    never = [unique("ttft5-gap5-stall3", f"{letter}-never-") for letter in "bc"]
    quick = unique(name="d-quick-")
    place.configure("grace_seconds = 1.5", groq=[ends, *never, quick])
    _allow(place, concurrency=4)
    with place.started("--headless") as process:
        before = until_logged(process, quick)
        began = monotonic()
        done = ended(process, signal.SIGTERM, before=before)

    assert (done.code, done.err) == (0, "")
    assert monotonic() - began < 15
    assert {sample.model_name for sample in place.samples()} == {ends, quick}
    cut = place.failures()
    assert sorted(failed.model_name for failed in cut) == never
    assert {(failed.error_kind, failed.error_cause) for failed in cut} == {("local", "cancelled")}
    assert {line["id"] for line in done.runs()} == {outcome.id for outcome in place.outcomes()}
    assert all(len(simulator.requests(model=name)) == 1 for name in [ends, *never, quick])


def _allow(place: Place, **limits: int) -> None:
    config = place.folder / "config.toml"
    more = "\n".join(f"{name} = {value}" for name, value in limits.items())
    config.write_text(config.read_text().replace("requests_per_minute = 6000", f"requests_per_minute = 6000\n{more}"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_K4_a_second_signal_ends_it_at_once(place: Place, number: signal.Signals) -> None:
    """In spite of a stream that never ends and of a long grace period it ends, and says by which signal.

    The stream is cut off and recorded as such, and the file is whole.
    """
    never, quick = unique("ttft5-gap5-stall3", "a-never-"), unique(name="b-quick-")
    place.configure("grace_seconds = 3600", groq=[never, quick])
    with place.started("--headless") as process:
        before = until_logged(process, quick)
        began = monotonic()
        done = ended(process, signal.SIGTERM, number, before=before)

    assert done.code == 128 + number
    assert monotonic() - began < 10
    assert "Traceback" not in done.err
    assert [(failed.model_name, failed.error_cause) for failed in place.failures()] == [(never, "cancelled")]
    assert {line["id"] for line in done.runs()} == {outcome.id for outcome in place.outcomes()}
    with closing(sqlite3.connect(place.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


SUPERVISOR_BUG = """
import sys
from llmbench.actors.supervisor import Supervisor
from llmbench.cli.main import main

async def broken(self):
    raise ExceptionGroup("the supervisor broke", [KeyError("first cause"), ZeroDivisionError("second cause")])

Supervisor._run_lanes = broken
sys.exit(main(["--headless", "--once"]))
"""


class FaultyOnce(OpenAIFamily):
    """A provider that raises once, at one of the steps that a lane takes with it."""

    def __init__(self, provider: ResolvedProvider, step: str, left: list[str]) -> None:
        self._step = step
        self._left = left
        self._trip("open")
        super().__init__(provider, KEY)

    def _trip(self, step: str) -> None:
        if step == self._step and self._left:
            raise RuntimeError(self._left.pop())

    def exchange(self, limits: Limits) -> Exchange:
        self._trip("exchange")
        return super().exchange(limits)

    async def check(self) -> None:
        self._trip("check")

    async def renew(self) -> None:
        self._trip("renew")

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        self._trip("connect")
        await super().connect(exchange, prepared)
        self._trip("connected")

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        self._trip("prepare")
        return msgspec.structs.replace(super().prepare(model, profile, prompt), send=self._sender(model, profile))

    def _sender(self, model: Model, profile: Profile) -> Callable[[], AbstractAsyncContextManager[object]]:
        whole = super().prepare(model, profile, "Write.").send

        @asynccontextmanager
        async def send() -> AsyncIterator[object]:
            self._trip("send")
            async with whole() as answer:
                self._trip("head")
                yield answer
                self._trip("body")

        return send

    async def close(self) -> None:
        await super().close()
        self._trip("close")


STEPS = ("open", "check", "prepare", "renew", "exchange", "connect", "connected", "send", "head", "body", "close")


@pytest.mark.parametrize("step", STEPS)
async def test_K10_a_lane_that_raises_at_any_step_comes_back(
    simulator: SpawnedSimulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """The fault is seen, each job has one outcome, and the neighbour's runs are as good as if nothing had been."""
    faulty, left = settings(simulator, concurrency=1), ["provoked"]
    batch = Batch(
        runs("groq", *(unique() for _ in range(3))) + runs("together", *(unique() for _ in range(6))), "bench"
    )
    lanes = [lane(faulty, partial(FaultyOnce, faulty, step, left)), lane(settings(simulator, "together"))]
    async with opened(tmp_path / "llmbench.db") as store:
        engine = await Engine(lanes, batch, store).finish()
        stored = await in_store(store)

    assert left == []
    assert "provoked" in caplog.text
    assert step == "close" or "restarting" in engine.statuses("groq")
    assert len(set(ids(stored))) == len(stored) == batch.done == 9
    ours = failures(stored)
    assert [failed.error_kind for failed in ours] == ([] if step in ("open", "check", "close") else ["internal"])
    assert len(samples(engine.of("together"))) == 6
    assert engine.statuses("together") == ["ok", "stopped"]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.timeout(300)
async def test_K20_starting_and_stopping_leaves_nothing_behind(
    simulator: SpawnedSimulator, tmp_path: Path, long: bool
) -> None:
    """Engines, one after the other, in one process, over one file and one spool: no descriptor, thread or lock stays.

    The next one opens the spool and has all of it delivered, so the lock was given away.
    """
    descriptors, threads = [], []
    for _ in range(50 if long else 8):
        async with opened(tmp_path / "llmbench.db") as store, opened_spool(tmp_path / "spool") as spool:
            plan = Rotation(runs("groq", *(unique() for _ in range(2))), {}, timedelta(hours=1))
            engine = Engine([lane(settings(simulator))], plan, store, buffer=Buffer(spool=spool))
            async with engine.running():
                await engine.until(lambda: len(engine.stored) == 2)  # noqa: B023  called in this turn of the loop only
            assert (await spool.counts()).waiting == 0
        descriptors.append(len(names_in(Path("/proc/self/fd"))))
        threads.append(threading.active_count())

    assert set(descriptors[2:]) == {descriptors[1]}
    assert max(threads) - min(threads) <= 2, "anyio keeps an idle worker thread or two"
    assert names_in(tmp_path) == ["llmbench.db", "spool"]
    assert names_in(tmp_path / "spool") == ["spool.db", "spool.lock"]


class CrashLoop(Spool):
    """A spool whose every answer is lost to a bug, for as long as it is told so."""

    broken = True

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        verdicts = await super().put(items)
        if self.broken:
            raise RuntimeError("provoked")
        return verdicts


async def test_K12_a_sink_that_crashes_over_and_over(simulator: SpawnedSimulator, tmp_path: Path) -> None:
    """It is down, which is not healthy; lanes measure on; and once it works all is recorded and stored, once."""
    batch = Batch(runs("groq", *(unique() for _ in range(12))), "scheduled")
    spool = CrashLoop(tmp_path / "spool")
    await spool.open()
    async with opened(tmp_path / "llmbench.db") as store:
        engine = Engine([lane(settings(simulator))], batch, store, buffer=Buffer(spool=spool))
        async with engine.running():
            await engine.until(lambda: "down" in engine.statuses("sink"))
            assert engine.supervisor.anything_down
            await engine.until(lambda: len(engine.told(RunFinished)) == 12)
            assert batch.done == 0
            spool.broken = False
            await engine.until(lambda: batch.finished)
        stored = await in_store(store)
    assert (await spool.counts()).waiting == 0
    await spool.close()

    assert ids(stored) == ids(engine.stored) == ids([run.outcome for run in engine.told(RunFinished)])
    assert len(stored) == 12


async def test_S11_an_engine_whose_spool_has_failed_ends(simulator: SpawnedSimulator, tmp_path: Path) -> None:
    """Its file is deleted while it measures: it says why, starts nothing more and ends by itself."""
    plan = Rotation(runs("groq", *(unique("ttft30-gap1") for _ in range(200))), {}, timedelta(hours=1))
    spool = Spool(tmp_path / "spool")
    await spool.open()
    async with opened(tmp_path / "llmbench.db") as store:
        engine = Engine([lane(settings(simulator))], plan, store, buffer=Buffer(spool=spool))
        async with engine.running():
            await engine.until(lambda: len(engine.stored) >= 2)
            (tmp_path / "spool" / "spool.db").unlink()
            await engine.until(lambda: engine.supervisor.stopping)
        assert "was deleted, moved or replaced" in str(engine.supervisor.spool_failure)
        assert set(ids(await in_store(store))) <= set(ids(engine.stored))
    await spool.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_K13_a_bug_in_the_supervisor_ends_the_program(place: Place) -> None:
    """Nothing goes on half alive: the exit code says that it was a bug, and every cause is shown once."""
    place.configure(groq=[unique()])
    with place.started(command=(sys.executable, "-c", SUPERVISOR_BUG)) as process:
        done = ended(process)

    assert done.code == 70
    assert done.err.count("KeyError: 'first cause'") == 1
    assert done.err.count("ZeroDivisionError: second cause") == 1
    assert "this is a fault of llmbench itself" in done.err


class TestK19:
    """The log's reader goes away, or reads no more: the engine measures on, and ends when it is told to."""

    @pytest.fixture
    def models(self, place: Place) -> list[str]:
        models = [unique("ttft20-gap2") for _ in range(30)]
        place.configure("grace_seconds = 5", groq=models)
        return models

    def test_K19_a_reader_that_goes_away(self, place: Place, simulator: SpawnedSimulator, models: list[str]) -> None:
        """After the first run nobody reads: the other models are measured and stored all the same, exit code 0."""
        with place.started("--headless") as process:
            next(line for line in output(process) if '"event":"run"' in line)
            output(process).close()
            _until_requested(simulator, models)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0

        assert len(place.samples()) == 30

    def test_K19_a_reader_that_is_stuck(self, place: Place, simulator: SpawnedSimulator, models: list[str]) -> None:
        """The pipe holds a dozen lines and is never emptied: the same, and it waits for the reader a moment only."""
        with place.started("--headless") as process:
            fcntl.fcntl(output(process), fcntl.F_SETPIPE_SZ, 4096)
            _until_requested(simulator, models)
            began = monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            assert monotonic() - began < 15

        assert len(place.samples()) == 30


def _until_requested(simulator: SpawnedSimulator, models: list[str]) -> None:
    """Wait until the server has seen a request for each of the models."""
    deadline = monotonic() + SECONDS
    while not {record.model for record in simulator.requests(provider="groq")} >= set(models):
        assert monotonic() < deadline
        sleep(0.05)

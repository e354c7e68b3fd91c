"""From the end of a stream into the store: nothing is lost or told too early, whatever the store does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import anyio
import msgspec
import pytest

from llmbench.actors.plans import Batch, Rotation
from llmbench.messages import Envelope, Failure, Outcome, Role, RunFinished, RunStarted, StoreState
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.base import StoreError, Verdict
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import LIMIT, PROFILE, Engine, ids, in_store, lane, runs, samples, settings, unique

pytestmark = pytest.mark.usefixtures("sdks")


class Guarded(SQLiteStore):
    """A real store behind a gate: it can fail (``broken``), hang (``gate`` shut) or refuse a model's outcomes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.broken = False
        self.gate = anyio.Event()
        self.gate.set()
        self.refuses: str | None = None
        self.asked = 0
        self.published: dict[str, bool] = {}

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        self.asked += 1
        await self.gate.wait()
        if self.broken:
            raise StoreError("the disk is slow today")
        self.published |= {item.outcome.id: item.publish for item in items}
        good = [item for item in items if item.outcome.model_name != self.refuses]
        verdicts = {verdict.id: verdict for verdict in await super().put(good)}
        return [verdicts.get(item.outcome.id, Verdict(item.outcome.id, "rejected", "too odd")) for item in items]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    store = Guarded(tmp_path / "guarded.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmbench.actors.sink._RETRY_FIRST", 0.02)
    monkeypatch.setattr("llmbench.actors.sink._RETRY_LONGEST", 0.05)


async def test_a_store_that_fails_for_a_while_costs_nothing(simulator: SpawnedSimulator, guarded: Guarded) -> None:
    """Lanes go on measuring, nothing counts as stored until it is, and then every run is there, once."""
    guarded.broken = True
    batch = Batch(runs("groq", *(unique() for _ in range(12))), "scheduled")
    engine = Engine([lane(settings(simulator))], batch, guarded)
    async with engine.running():
        await engine.until(lambda: len(engine.told(RunFinished)) == 12)
        await engine.until(lambda: len(engine.told(StoreState)) >= 3)
        assert engine.stored == []
        assert batch.done == 0
        guarded.broken = False
        await engine.until(lambda: batch.finished)

    assert ids(engine.stored) == ids(await in_store(guarded)) == ids([run.outcome for run in engine.told(RunFinished)])
    assert len(samples(engine.stored)) == 12
    states = engine.told(StoreState)
    assert {(state.status, state.reason) for state in states[:-1]} == {("failing", "the disk is slow today")}
    assert states[-1].status == "ok"


async def test_a_model_is_not_fresh_before_its_result_is_stored(simulator: SpawnedSimulator, guarded: Guarded) -> None:
    """While the store fails a model stays in flight: it is neither measured again nor taken for fresh."""
    guarded.broken = True
    plan = Rotation(runs("groq", unique()), {}, timedelta(minutes=180))
    engine = Engine([lane(settings(simulator))], plan, guarded)
    async with engine.running():
        await engine.until(lambda: len(engine.told(StoreState)) >= 3)
        assert plan.due_count(engine.started()[0].at) == 1
        assert len(engine.started()) == 1
        guarded.broken = False
        await engine.until(lambda: len(engine.stored) == 1)
        await anyio.wait_all_tasks_blocked()
        assert plan.due_count(engine.stored[0].run_ts) == 0

    assert len(engine.started()) == 1


async def test_a_refused_outcome_is_made_known_and_not_tried_in_a_loop(
    simulator: SpawnedSimulator, guarded: Guarded
) -> None:
    """One model's rows are refused: the others' are stored, and that model is not measured over and over."""
    odd, good = unique(), [unique() for _ in range(3)]
    guarded.refuses = odd
    plan = Rotation(runs("groq", odd, *good), {}, timedelta(minutes=180))
    engine = Engine([lane(settings(simulator))], plan, guarded)
    async with engine.running():
        await engine.until(lambda: len(engine.stored) == 3 and len(engine.told(RunFinished)) == 4)
        await anyio.wait_all_tasks_blocked()

    assert sorted(outcome.model_name for outcome in await in_store(guarded)) == sorted(good)
    assert engine.supervisor.sink.refused == 1
    assert [run.model_id for run in engine.started()].count(odd) == 1


async def test_a_store_that_hangs_holds_lanes_back_instead_of_filling_the_memory(
    simulator: SpawnedSimulator, guarded: Guarded
) -> None:
    """The way to the sink holds 64 outcomes; then lanes wait with theirs, and all of them arrive in the end."""
    guarded.gate = anyio.Event()
    workers, room = 4, 64
    batch = Batch(runs("groq", *(unique("ttft1-gap0.5") for _ in range(90))), "scheduled")
    engine = Engine([lane(settings(simulator, concurrency=workers))], batch, guarded)
    async with engine.running():
        # Counted are: the batch that hangs, one outcome or a few, the channel, and one in the hands of each worker.
        await engine.until(lambda: len(engine.started()) > room + workers)
        await anyio.wait_all_tasks_blocked()
        assert guarded.asked == 1
        assert len(engine.started()) < 90
        guarded.gate.set()
        await engine.until(lambda: batch.finished)

    assert len(set(ids(await in_store(guarded)))) == batch.done == 90


async def test_a_crash_of_the_sink_is_told_and_costs_nothing(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """It is restarted like any actor; the lanes notice nothing, and every outcome is stored and acknowledged."""
    batch = Batch(runs("groq", *(unique() for _ in range(6))), "scheduled")
    engine = Engine([lane(settings(simulator))], batch, store)
    hear = engine.supervisor.sink._on_stored

    def crash_once(outcome: Outcome) -> None:
        hear(outcome)
        if len(engine.stored) == 2:
            raise RuntimeError("provoked")

    engine.supervisor.sink._on_stored = crash_once
    await engine.finish()

    assert batch.done == 6
    assert ids(engine.stored) == ids(await in_store(store))
    assert engine.statuses("sink") == ["restarting", "starting", "ok", "stopped"]
    assert engine.statuses("groq") == ["ok", "stopped"]


@pytest.mark.parametrize(
    ("role", "publish", "public"), [("scheduled", True, True), ("scheduled", False, False), ("bench", True, False)]
)
async def test_only_scheduled_runs_of_public_profiles_are_published(
    simulator: SpawnedSimulator, guarded: Guarded, role: Role, *, publish: bool, public: bool
) -> None:
    """A bench or a demonstration, or a profile that says so, never gets into the public collection."""
    profile = msgspec.structs.replace(PROFILE, publish=publish)
    batch = Batch(runs("groq", unique(), unique("500"), profile=profile), role)
    engine = await Engine([lane(settings(simulator))], batch, guarded).finish()

    assert guarded.published == dict.fromkeys(ids(engine.stored), public)
    assert {outcome.sample_role for outcome in engine.stored} == {role}


async def test_a_store_that_recovers_as_the_engine_stops_is_tried_again(
    simulator: SpawnedSimulator, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the sink was going to wait: what is measured is stored before the end, if the store takes it."""
    monkeypatch.setattr("llmbench.actors.sink._RETRY_FIRST", 3600.0)
    monkeypatch.setattr("llmbench.actors.sink._RETRY_LONGEST", 3600.0)
    guarded.broken = True
    engine = Engine([lane(settings(simulator))], Batch(runs("groq", *(unique() for _ in range(3))), "demo"), guarded)
    async with engine.running():
        await engine.until(lambda: len(engine.told(RunFinished)) == 3 and bool(engine.told(StoreState)))
        guarded.broken = False

    assert len(engine.stored) == 3
    assert engine.supervisor.sink.waiting == 0


async def test_a_second_signal_records_what_it_cuts_off(simulator: SpawnedSimulator, guarded: Guarded) -> None:
    """Stopping at once still stores an outcome for each run that streams, if the store takes it in two seconds."""
    models = [unique("ttft2-gap1000"), unique("ttft2-gap1000")]
    engine = Engine([lane(settings(simulator))], Batch(runs("groq", *models), "demo"), guarded)
    async with engine.running():
        await engine.until(lambda: len(engine.told(RunStarted)) == 2)
        engine.supervisor.stop()
        engine.supervisor.abort()

    assert [outcome.error_cause for outcome in engine.stored if isinstance(outcome, Failure)] == [
        "cancelled",
        "cancelled",
    ]
    assert ids(engine.stored) == ids(await in_store(guarded))


async def test_a_second_signal_shortens_the_wait_for_a_store_that_is_away(
    simulator: SpawnedSimulator, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it comes when the lanes have ended already, and the store alone is waited for."""
    monkeypatch.setattr("llmbench.actors.supervisor._DRAIN_SECONDS", LIMIT)
    monkeypatch.setattr("llmbench.actors.supervisor._ABORT_SECONDS", 0.1)
    guarded.broken = True
    engine = Engine([lane(settings(simulator))], Batch(runs("groq", unique()), "scheduled"), guarded)
    with anyio.fail_after(LIMIT / 3):
        async with engine.running():
            await engine.until(lambda: len(engine.told(RunFinished)) == 1)
            engine.supervisor.stop()
            await engine.until(lambda: engine.statuses("groq")[-1] == "stopped")
            await anyio.wait_all_tasks_blocked()
            engine.supervisor.abort()

    assert engine.supervisor.sink.waiting == 1


async def test_a_command_that_ends_by_itself_does_not_wait_for_a_store_for_ever(
    simulator: SpawnedSimulator, guarded: Guarded
) -> None:
    """It gives up after its patience, says how much was not stored, and the sink is down with the reason."""
    guarded.broken = True
    batch = Batch(runs("groq", *(unique() for _ in range(4))), "demo")
    engine = await Engine([lane(settings(simulator))], batch, guarded, store_patience=0.2).finish()

    assert engine.stored == []
    assert engine.supervisor.sink.waiting > 0
    assert engine.supervisor.anything_down

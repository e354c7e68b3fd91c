"""What an engine does when its owner tells it to: real lanes, a real store, and the sentences that come back."""

from __future__ import annotations

import logging
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llmbench import messages
from llmbench.actors.due import ModelClock
from llmbench.actors.engine_commands import Commands
from llmbench.actors.engine_requests import DisableModel, EnableModel, Order, Pause, Resume, RunNow
from llmbench.actors.leasing import Sharing
from llmbench.actors.plans import Batch, Plan, Rotation
from llmbench.config import ResolvedProvider
from llmbench.messages import Hold, Job, Model, Profile
from llmbench.naming import key_of
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.leases import Answer, Claim, Unshared
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import PROFILE, Engine, lane, runs, settings, unique
from tests.stores.documents import model

FRESH = timedelta(minutes=180)
ENDLESS = "ttft5-gap5-stall3"
Runs = list[tuple[Model, Profile]]


class Commanded(Engine):
    """An engine on a catalogue, with all of its models fresh unless they are said to be due."""

    def __init__(self, lanes: Sequence[ResolvedProvider], models: Runs, store: SQLiteStore, due: Sequence[str]) -> None:
        now = datetime.now(UTC)
        clocks = {key_of(row): ModelClock(last_success=now) for row, _profile in models if row.model_id not in due}
        rotation = Rotation(models, clocks, FRESH)
        super().__init__([lane(one) for one in lanes], rotation, store)
        self.catalogue = store
        self.commands = commands(self, rotation, store)
        self.rotation = rotation

    async def reread(self) -> None:
        self.rotation.replace_models([(row, PROFILE) for row in await self.catalogue.models(enabled=True)])

    async def done(self, order: Order) -> str:
        answer = await self.commands(order)
        assert answer.error is None
        return str(answer.done)

    async def error(self, order: Order) -> str:
        answer = await self.commands(order)
        assert answer.done is None
        return str(answer.error)


def commands(engine: Engine, plan: Plan, store: SQLiteStore) -> Commands:
    supervisor = engine.supervisor
    actors = supervisor.actors
    return Commands(
        plan,
        supervisor.scheduler,
        supervisor.tell,
        supervisor.lanes,
        lambda name: actors[name].breaker != "closed",
        store,
        supervisor.bus.publish,
        engine.reread if isinstance(engine, Commanded) else None,
    )


@asynccontextmanager
async def commanded(
    simulator: SpawnedSimulator,
    store: SQLiteStore,
    *models: tuple[str, str],
    due: Sequence[str] = (),
    **table: Any,
) -> AsyncIterator[Commanded]:
    """Run an engine with lanes groq and together, on models that are in the catalogue."""
    rows = [model(name, provider=provider) for provider, name in models]
    await store.seed_models(rows)
    lanes = [settings(simulator, **table), settings(simulator, "together", **table)]
    engine = Commanded(lanes, [(row, PROFILE) for row in rows], store, due)
    async with engine.running():
        await engine.until(lambda: bool(engine.states("groq") and engine.states("together")))
        yield engine
        engine.supervisor.abort()


class TestRunNow:
    async def test_a_fresh_model_is_measured_at_once(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """That one, once; afterwards it is fresh again."""
        one, other = unique(), unique()
        async with commanded(simulator, store, ("groq", one), ("groq", other)) as engine:
            assert await engine.done(RunNow("Groq", one.upper())) == f"groq/{one.upper()} is due now"
            await engine.until(lambda: bool(engine.stored))
            assert [outcome.model_name for outcome in engine.stored] == [one]
            await anyio.wait_all_tasks_blocked()
            assert engine.rotation.load("groq", datetime.now(UTC)).due == 0
        assert len(engine.started()) == 1

    async def test_a_whole_lane(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """All of its models, and none of another lane's."""
        names = {unique(), unique(), unique()}
        listed = [("groq", name) for name in names]
        async with commanded(simulator, store, *listed, ("together", unique())) as engine:
            assert await engine.done(RunNow("groq")) == "groq: 3 models due now"
            await engine.until(lambda: len(engine.stored) == 3)
        assert {run.model_id for run in engine.started()} == names

    async def test_what_is_being_measured_already(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """It is not measured twice at a time, and one learns why nothing happens."""
        name = unique(ENDLESS)
        async with commanded(simulator, store, ("groq", name), due=[name]) as engine:
            await engine.until(lambda: bool(engine.started(name)))
            assert await engine.error(RunNow("groq", name)) == f"groq/{name} is being measured already"
            assert await engine.error(RunNow("groq")) == "groq: every model is being measured already"
        assert len(engine.started()) == 1

    async def test_what_there_is_not(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """Names that are unknown, with the nearest one; a lane without models."""
        async with commanded(simulator, store, ("groq", "llama-8b")) as engine:
            assert await engine.error(RunNow("grok")) == "no lane is called 'grok': this engine has groq, together"
            assert (
                await engine.error(RunNow("groq", "llama-8"))
                == "groq/llama-8 is not in the catalogue: did you mean groq/llama-8b?"
            )
            assert await engine.error(RunNow("together")) == "together: there is no model to be measured"
            hostile = await engine.error(RunNow("\x1b[31m\u202e", "m"))
            assert hostile.isprintable()

    async def test_what_is_not_measured(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """A disabled row, with its reason, and one that is enabled and not among what this engine measures."""
        async with commanded(simulator, store, ("groq", "a")) as engine:
            await store.seed_models([model("b", provider="groq"), model("c", provider="groq")])
            await store.disable_model("groq", "b", reason="too dear", by="cli:me", at=datetime.now(UTC))
            assert await engine.error(RunNow("groq", "b")) == "groq/b is disabled (too dear): enable it first"
            assert "groq/c is enabled, but not measured by this engine" in await engine.error(RunNow("groq", "c"))

    async def test_a_closed_breaker_keeps_its_rest(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """After a refused key nothing starts before its time, and one is told."""
        refused, other = unique("401"), unique()
        async with commanded(simulator, store, ("groq", refused), ("groq", other), due=[refused]) as engine:
            engine.supervisor.actors["groq"]._breaker._probe_seconds = 3600.0
            await engine.until(lambda: "blocked" in engine.statuses("groq"))
            assert "but groq was refused its key or its bill" in await engine.done(RunNow("groq", other))
            await engine.until(lambda: bool(engine.stored))
        assert [run.model_id for run in engine.started()] == [refused]

    async def test_a_lane_that_is_down(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        plan = Rotation(runs("groq", "a"), {("groq", "a"): ModelClock(last_success=datetime.now(UTC))}, FRESH)
        engine = Engine([lane(settings(simulator), problem="GROQ_API_KEY is not set")], plan, store)
        async with engine.running():
            await engine.until(lambda: engine.statuses("groq") == ["down"])
            answer = await commands(engine, plan, store)(RunNow("groq"))
            assert answer.done == "groq: 1 model due now; but groq is down: GROQ_API_KEY is not set"

    async def test_a_round_has_its_own_order(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        batch = Batch(runs("groq", unique(ENDLESS)), "scheduled")
        engine = Engine([lane(settings(simulator))], batch, store)
        async with engine.running():
            answer = await commands(engine, batch, store)(RunNow("groq"))
            assert answer.error == "this engine makes one round and ends: what is due in it is measured anyway"
            engine.supervisor.abort()


class TestPausing:
    async def test_nothing_new_is_started_in_a_lane(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """What streams goes on to its end, another lane measures, and after `Resume` the rest is measured."""
        slow, waits, others = unique("ttft200-gap1"), unique(), unique()
        listed = [("groq", slow), ("groq", waits), ("together", others)]
        async with commanded(simulator, store, *listed, due=[slow], concurrency=2) as engine:
            await engine.until(lambda: bool(engine.started(slow)))
            assert "groq is paused" in await engine.done(Pause("Groq"))
            assert await engine.done(RunNow("groq")) == "groq: 1 model due now; but groq is paused"
            await engine.done(RunNow("together"))
            await engine.until(lambda: len(engine.stored) == 2)
            assert engine.supervisor.scheduler.paused("groq")
            assert engine.supervisor.scheduler.hold is None
            assert {outcome.model_name for outcome in engine.stored} == {slow, others}
            assert await engine.done(Resume("groq")) == "groq goes on"
            await engine.until(lambda: len(engine.stored) == 3)
        assert [run.model_id for run in engine.started()][-1] == waits

    async def test_a_job_on_its_way_does_not_start(
        self, simulator: SpawnedSimulator, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lane that was handed a job, and had no turn since, gives it back; after `Resume` it is measured."""
        name = unique()
        async with commanded(simulator, store, ("groq", name)) as engine:
            next_job = engine.rotation.next_job

            def handed_out(provider: str, now: datetime) -> Job | None:
                job = next_job(provider, now)
                if job is not None:  # before the lane's own turn
                    get_running_loop().call_soon(engine.supervisor.scheduler.pause, provider)
                return job

            monkeypatch.setattr(engine.rotation, "next_job", handed_out)
            await engine.done(RunNow("groq", name))
            while not engine.supervisor.scheduler.paused("groq"):
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            assert (engine.started(), engine.rotation.standing(("groq", name))) == ([], "waiting")

            monkeypatch.undo()
            assert await engine.done(Resume("groq")) == "groq goes on"
            await engine.until(lambda: bool(engine.stored))

    async def test_all_lanes(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """The engine says that it holds everything back; each lane can be resumed, or all that are left."""
        one, two = unique(), unique()
        async with commanded(simulator, store, ("groq", one), ("together", two)) as engine:
            assert "all lanes are paused" in await engine.done(Pause())
            await engine.done(RunNow("groq"))
            await engine.done(RunNow("together"))
            assert "paused" in str(engine.supervisor.scheduler.hold)
            assert engine.started() == []
            assert await engine.done(Resume("groq")) == "groq goes on"
            await engine.until(lambda: bool(engine.stored))
            assert engine.supervisor.scheduler.hold is None
            assert [outcome.model_name for outcome in engine.stored] == [one]
            assert await engine.done(Resume()) == "together goes on"
            await engine.until(lambda: len(engine.stored) == 2)
            assert await engine.error(Resume()) == "no lane is paused"
            assert await engine.error(Resume("groq")) == "groq is not paused"
            assert "no lane is called 'x'" in await engine.error(Pause("x"))

    async def test_a_spool_without_room_is_told_first(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """A person's `Resume` does not make room."""
        async with commanded(simulator, store, ("groq", unique())) as engine:
            engine.supervisor.tell(Hold(reason="spool_full: no room"))
            await anyio.wait_all_tasks_blocked()
            assert (
                await engine.done(RunNow("groq")) == "groq: 1 model due now; but nothing is started now: "
                "spool_full: no room"
            )
            await engine.done(Pause())
            await engine.done(Resume())
            assert engine.supervisor.scheduler.hold == "spool_full: no room"

    async def test_it_is_logged_and_told_to_who_watches(
        self, simulator: SpawnedSimulator, store: SQLiteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever reads the log learns why an engine does nothing; what was not done is not in it."""
        caplog.set_level(logging.INFO, "llmbench.actors.engine_commands")
        async with commanded(simulator, store, ("groq", unique())) as engine:
            with engine.bus.watch() as events:
                await engine.error(Resume())
                done = await engine.done(Pause("groq"))
                seen = [await anext(events) for _ in range(events.waiting)]
        assert [event.done for event in seen if isinstance(event, messages.Commanded)] == [done]
        told = [record.message for record in caplog.records if record.name == "llmbench.actors.engine_commands"]
        assert told == ["from the dashboard: groq is paused: nothing new is started, what streams goes on"]


class TestCatalogue:
    async def test_a_model_is_disabled_and_enabled(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """With who and why; the engine follows at once, in whatever case its name is spelled."""
        name = unique()
        async with commanded(simulator, store, ("groq", name)) as engine:
            told = await engine.done(DisableModel("groq", name.upper(), " too dear "))
            assert told == f"groq/{name} is disabled (too dear), and measured no more"
            row = await store.model("groq", name)
            assert (row.enabled, row.disabled_reason, row.disabled_by) == (False, "too dear", "dashboard")
            assert not engine.rotation.measures(("groq", name))

            assert await engine.done(EnableModel("groq", name)) == f"groq/{name} is enabled, and measured from now on"
            assert engine.rotation.measures(("groq", name))
            await engine.done(RunNow("groq", name))
            await engine.until(lambda: bool(engine.stored))

    async def test_a_model_that_becomes_due_by_it_is_measured_at_once(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Nobody waits until the catalogue is read again by itself."""
        name = unique()
        async with commanded(simulator, store) as engine:
            await store.seed_models([model(name, provider="groq", enabled=False)])
            await engine.done(EnableModel("groq", name))
            await engine.until(lambda: bool(engine.stored))
            assert [outcome.model_name for outcome in engine.stored] == [name]

    async def test_hostile_text(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """A reason is stored on one line, with its controls made visible; markup is text like any other."""
        name = unique(name="[red]x[/]")
        async with commanded(simulator, store, ("groq", name)) as engine:
            told = await engine.done(DisableModel("groq", name, "x\x1b[2J\n\x00\u202e" + "r" * 1900))
            assert told.isprintable()
            assert told.startswith(f"groq/{name} is disabled (x\\x1b[2J\\n\\x00\\u202errr")
            assert (await store.model("groq", name)).disabled_reason == r"x\x1b[2J\n\x00\u202e" + "r" * 1900

    async def test_what_can_not_be_done(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """A name that is unknown, no reason, a store that does not answer."""
        async with commanded(simulator, store, ("groq", "llama-8b")) as engine:
            assert "did you mean groq/llama-8b?" in await engine.error(EnableModel("groq", "llama-8"))
            assert "did you mean groq/llama-8b?" in await engine.error(DisableModel("groq", "llama-8", "why"))
            assert "say why" in await engine.error(DisableModel("groq", "llama-8b", "  "))
            await store.close()
            assert "is not open" in await engine.error(EnableModel("groq", "llama-8b"))
            await store.open()

    async def test_one_that_this_engine_does_not_measure(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """The row is changed all the same, and one is told; a round goes on with what it began with."""
        await store.seed_models([model("m", provider="cerebras")])
        async with commanded(simulator, store, ("groq", "a")) as engine:

            async def nothing_new() -> None:
                pass

            engine.commands._refresh = nothing_new
            assert "this engine does not measure it" in await engine.done(EnableModel("cerebras", "m"))
            told = await engine.done(DisableModel("groq", "a", "x"))
            assert "goes on with it, since BENCHMARK_MODELS names it" in told
            engine.commands._refresh = None
            assert "makes one round" in await engine.done(EnableModel("cerebras", "m"))
        assert (await store.model("cerebras", "m")).enabled


async def test_an_order_on_a_shared_store_is_claimed_as_one(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Freshness is judged by the store, too: its lease is asked for as a person's wish."""

    class Watched(Unshared):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[bool] = []

        async def claim(self, claims: Sequence[Claim], *, fresh: float) -> list[Answer]:
            self.asked += [claim.asked for claim in claims]
            return await super().claim(claims, fresh=fresh)

    leases = Watched()
    one, other = unique(), unique()
    plan = Rotation(runs("groq", one, other), {("groq", one): ModelClock(last_success=datetime.now(UTC))}, FRESH)
    engine = Engine([lane(settings(simulator))], plan, store, sharing=Sharing(leases=leases, fresh=FRESH, term=30.0))
    async with engine.running():
        await engine.until(lambda: len(engine.stored) == 1)
        await commands(engine, plan, store)(RunNow("groq", one))
        await engine.until(lambda: len(engine.stored) == 2)
    assert leases.asked == [False, True]

"""Leases in the engine: what is handed out was claimed first, what another runner has is left to it."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream
from pymongo import MongoClient

from llmbench.actors import leasing as module
from llmbench.actors.bus import Bus
from llmbench.actors.leasing import Leasing, Sharing
from llmbench.actors.plans import Batch, Rotation
from llmbench.cli import headless
from llmbench.cli.beginning import Past
from llmbench.clock import SystemClock
from llmbench.config import load
from llmbench.ids import new_outcome_id
from llmbench.messages import Acknowledged, Deferred, Job, LaneBlocked, LaneState, LeaseGranted, SchedulerMessage
from llmbench.secrets import Secret
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.base import StoreError
from llmbench.stores.leases import Answer, Claim, Ended, Granted, LeaseKey, Measured, Unanswered, Unshared, Withheld
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import LIMIT, PROFILE, Engine, lane, runs, seen, settings, unique
from tests.stores.documents import NOON, model
from tests.stores.mongod import Mongod
from tests.stores.spooling import opened_spool

FRESH = timedelta(minutes=180)
TERM = 60.0


class Scripted(Unshared):
    """Leases of which a test says what becomes of them; what was asked of it is kept."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, Withheld] = {}
        self.away: StoreError | None = None
        self.refused = 0
        self.lost: set[str] = set()
        self.damaged: set[str] = set()
        self.asked: list[LeaseKey] = []
        self.renewed: list[str] = []
        self.ended: list[Ended] = []
        self.noted: list[Measured] = []
        self.all_released = False
        self._changed = anyio.Event()

    def take(self, model_id: str, seconds: float, provider: str = "groq") -> None:
        """From now on another runner has this model."""
        key = LeaseKey(provider, model_id)
        self.taken[model_id] = Withheld(key=key, reason="held", runner="other", seconds=seconds)

    async def claim(self, claims: Sequence[Claim], *, fresh: float) -> list[Answer]:
        assert fresh == FRESH.total_seconds()
        self.asked += [claim.key for claim in claims]
        self._refuse_if_away()
        granted = await super().claim(claims, fresh=fresh)
        return [self._answer(claim, lease) for claim, lease in zip(claims, granted, strict=True)]

    def _answer(self, claim: Claim, lease: Answer) -> Answer:
        if claim.key.model_id in self.damaged:
            return Unanswered(key=claim.key, error="no number")
        return self.taken.get(claim.key.model_id, lease)

    async def renew(self, held: Sequence[Granted]) -> list[Granted]:
        self._refuse_if_away()
        self.renewed += [lease.key.model_id for lease in held]
        return [lease for lease in held if lease.key.model_id in self.lost]

    async def release(self, ended: Sequence[Ended]) -> None:
        await anyio.lowlevel.checkpoint()
        self._refuse_if_away()
        self.ended += ended

    async def note(self, measured: Sequence[Measured]) -> None:
        await anyio.lowlevel.checkpoint()
        self._refuse_if_away()
        self.noted += measured

    async def release_all(self) -> None:
        self.all_released = True

    def _refuse_if_away(self) -> None:
        """Tell those that wait `until`, who look when this call is over."""
        self.refused += self.away is not None
        self._changed.set()
        self._changed = anyio.Event()
        if self.away is not None:
            raise self.away

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that is asked makes the condition true."""
        while not condition():
            await self._changed.wait()


class Around:
    """A leases actor with the scheduler's inbox."""

    def __init__(self, leases: Scripted, term: float, patience: float | None) -> None:
        inbox_in, self.inbox = anyio.create_memory_object_stream[SchedulerMessage](1000)
        self.bus = Bus()
        sharing = Sharing(leases=leases, fresh=FRESH, term=term)
        self.leasing = Leasing(sharing, inbox_in, self.bus, SystemClock(), patience)
        self._streams: list[Any] = [inbox_in, self.inbox]

    async def answer(self) -> SchedulerMessage:
        return await receive(self.inbox)

    async def grants(self, count: int) -> list[str]:
        """Return for which jobs the next answers are grants."""
        answers = [await self.answer() for _ in range(count)]
        return [answer.outcome_id for answer in answers if isinstance(answer, LeaseGranted)]

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


async def receive(inbox: MemoryObjectReceiveStream[SchedulerMessage]) -> SchedulerMessage:
    return await inbox.receive()


@asynccontextmanager
async def running(leases: Scripted, term: float = TERM, patience: float | None = None) -> AsyncIterator[Around]:
    """Run a leases actor beside the block."""
    around = Around(leases, term, patience)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(around.leasing.run)
            yield around
            group.cancel_scope.cancel()
    around.close()


def job(model_id: str = "m") -> Job:
    return Job(outcome_id=new_outcome_id(), model=model(model_id, provider="groq"), profile=PROFILE)


def acknowledged(done: Job, kind: str | None = None) -> Acknowledged:
    return Acknowledged(
        outcome_id=done.outcome_id,
        provider=done.model.provider,
        model_id=done.model.model_id,
        ok=kind is None,
        at=NOON,
        error_kind=kind,
    )


def granted_to(wanted: Job) -> LeaseGranted:
    return LeaseGranted(
        outcome_id=wanted.outcome_id, provider=wanted.model.provider, model_id=wanted.model.model_id, until=monotonic()
    )


class TestTheActor:
    """What it answers, and what it tells the store."""

    async def test_a_granted_lease_is_given_back_with_what_became_of_it(self) -> None:
        """A success, a failure with its backoff, and a job that was not started."""
        leases = Scripted()
        async with running(leases) as around:
            jobs = [job(name) for name in ("good", "bad", "unused")]
            for one in jobs:
                around.leasing.want(one)
            answers = [await around.answer() for _ in jobs]
            around.leasing.settle(acknowledged(jobs[0]))
            around.leasing.settle(acknowledged(jobs[1], "transient_provider"))
            back = Deferred(outcome_id=jobs[2].outcome_id, provider="groq", model_id="unused", reason="paused")
            around.leasing.settle(back)
            await leases.until(lambda: len(leases.ended) == 3)

        assert all(isinstance(answer, LeaseGranted) for answer in answers)
        told = {one.lease.key.model_id: one for one in leases.ended}
        assert [told[name].result for name in ("good", "bad", "unused")] == ["succeeded", "failed", "unused"]
        assert told["bad"].failures_in_a_row == 1
        assert 300 <= told["bad"].rest <= 330

    async def test_what_another_has_is_deferred_with_the_reason(self) -> None:
        """And with the time for which it is to be left alone."""
        leases = Scripted()
        leases.take("m", 7.0)
        async with running(leases) as around:
            around.leasing.want(job())
            answer = await around.answer()

        assert isinstance(answer, Deferred)
        assert answer.reason == "other is measuring it"
        assert answer.seconds == pytest.approx(7.0, abs=0.1)

    async def test_leases_are_renewed_until_they_end(self) -> None:
        """Every third of the term; one that ended or was lost is not."""
        leases = Scripted()
        leases.lost = {"lost"}
        async with running(leases, term=0.06) as around:
            jobs = [job(name) for name in ("kept", "lost", "over")]
            for one in jobs:
                around.leasing.want(one)
            for _ in jobs:
                await around.answer()
            around.leasing.settle(acknowledged(jobs[2]))
            before = leases.renewed.count("over")
            await leases.until(lambda: leases.renewed.count("kept") >= before + 4)
            around.leasing.settle(acknowledged(jobs[1]))
            around.leasing.settle(acknowledged(jobs[0]))
            await leases.until(lambda: len(leases.ended) == 2)

        assert leases.renewed.count("lost") == 1
        assert leases.renewed.count("over") == before
        assert {one.lease.key.model_id for one in leases.ended} == {"kept", "over"}

    async def test_it_is_told_when_another_has_measured_a_model(self) -> None:
        """Two hours and more ago, if it is fresh for less than one of three."""
        leases = Scripted()
        fresh = Withheld(key=LeaseKey("groq", "m"), reason="fresh", runner="other", seconds=3000.0)
        leases.taken["m"] = fresh
        async with running(leases) as around:
            around.leasing.want(job())
            answer = await around.answer()

        assert isinstance(answer, Deferred)
        assert answer.measured is not None
        ago = SystemClock().now() - answer.measured
        assert ago.total_seconds() == pytest.approx(FRESH.total_seconds() - 3000.0, abs=10.0)

    async def test_a_damaged_lease_holds_up_nobody_else(self) -> None:
        """The others are granted; the one is left alone for a while, with the store's words."""
        leases = Scripted()
        leases.damaged.add("bad")
        async with running(leases) as around:
            for name in ("bad", "good"):
                around.leasing.want(job(name))
            bad, good = await around.answer(), await around.answer()

        assert isinstance(good, LeaseGranted)
        assert isinstance(bad, Deferred)
        assert (bad.reason, bad.seconds) == ("no number", 30.0)

    async def test_while_the_store_is_away_nothing_is_answered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is said once; when the store is back, what was asked is answered."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)
        leases = Scripted()
        leases.away = StoreError("the store is away")
        async with running(leases) as around:
            with around.bus.subscribe() as told:
                around.leasing.want(job())
                await leases.until(lambda: len(leases.asked) >= 3)
                assert around.inbox.statistics().current_buffer_used == 0
                leases.away = None
                assert isinstance(await around.answer(), LeaseGranted)
                await anyio.wait_all_tasks_blocked()
                around.bus.close()
                states = [event async for event in told if isinstance(event, LaneState)]

        assert [(state.lane, state.status) for state in states] == [("leases", "blocked"), ("leases", "ok")]
        assert states[0].reason == "the store is away"

    async def test_after_a_term_without_the_store_its_own_models_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that it had last, at once and without a lease; another's wait. The store is told of them later."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)
        leases = Scripted()
        leases.take("theirs", 60.0)
        async with running(leases, term=0.05) as around:
            own, theirs = job("own"), job("theirs")
            for one, answer in ((own, LeaseGranted), (theirs, Deferred)):
                around.leasing.want(one)
                assert isinstance(await around.answer(), answer)
            leases.away = StoreError("the store is away")
            around.leasing.settle(acknowledged(own))

            runs = [job("own"), job("own"), job("own")]
            waiting = [job("theirs"), job("new")]
            for one in (*waiting, *runs):
                around.leasing.want(one)
            assert await around.grants(3) == [one.outcome_id for one in runs]
            around.leasing.settle(acknowledged(runs[0]))
            around.leasing.settle(acknowledged(runs[1], "timeout"))
            around.leasing.give_back(granted_to(runs[2]))
            assert around.inbox.statistics().current_buffer_used == 0
            leases.away = None
            answers = [await around.answer() for _ in waiting]

        assert [type(answer) for answer in answers] == [Deferred, LeaseGranted]
        assert [one.key.model_id for one in leases.noted] == ["own"]
        assert 0 <= leases.noted[0].ago < LIMIT
        assert [(one.lease.key.model_id, one.result) for one in leases.ended] == [("own", "succeeded")]

    async def test_what_went_on_alone_is_told_once_it_is_stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though the store has been back for long then, and nothing else is to be asked of it."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)
        leases = Scripted()
        leases.away = StoreError("the store is away")
        async with running(leases, term=0.05) as around:
            alone = job()
            around.leasing.want(alone)
            assert isinstance(await around.answer(), LeaseGranted)
            with around.bus.subscribe() as told:
                leases.away = None
                async for event in told:
                    if isinstance(event, LaneState) and event.status == "ok":
                        break
            await anyio.wait_all_tasks_blocked()

            around.leasing.settle(acknowledged(alone))
            await leases.until(lambda: bool(leases.noted))

        assert [one.key.model_id for one in leases.noted] == ["m"]

    async def test_a_runner_that_has_met_no_other_goes_on_with_everything(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That a model was measured by itself is no sign of another."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)
        leases = Scripted()
        leases.taken["m"] = Withheld(key=LeaseKey("groq", "m"), reason="fresh", runner=leases.runner, seconds=60.0)
        async with running(leases, term=0.02) as around:
            around.leasing.want(job())
            deferred = await around.answer()
            assert isinstance(deferred, Deferred)
            assert deferred.reason == "this runner has measured it"
            leases.away = StoreError("the store is away")
            run = job("new")
            around.leasing.want(run)
            assert await around.grants(1) == [run.outcome_id]

    async def test_a_command_that_ends_by_itself_gives_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its patience is limited: the lane is closed, and the job goes back."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)
        leases = Scripted()
        leases.away = StoreError("the store is away")
        async with running(leases, patience=0.03) as around:
            around.leasing.want(job())
            blocked, back = await around.answer(), await around.answer()

        assert isinstance(blocked, LaneBlocked)
        assert blocked.lasting
        assert blocked.reason.endswith("the store is away")
        assert isinstance(back, Deferred)
        assert back.seconds is None

    async def test_what_can_not_be_given_back_is_tried_at_intervals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command that has given up does not besiege a server that refuses at once."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.05)
        monkeypatch.setattr(module, "_RETRY_LONGEST", 0.05)
        leases = Scripted()
        async with running(leases, patience=0.0) as around:
            around.leasing.want(one := job())
            await around.answer()
            leases.away = StoreError("the store is away")
            around.leasing.settle(acknowledged(one))
            await anyio.sleep(0.2)
            leases.away = None
            await leases.until(lambda: bool(leases.ended))

        assert 1 < leases.refused < 12

    async def test_patience_begins_anew_when_the_store_is_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A renewal that failed and was made good later is no reason to give up at the next trouble with a claim."""
        monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)
        leases = Scripted()
        async with running(leases, term=0.03, patience=0.1) as around:
            with around.bus.subscribe() as told:
                around.leasing.want(job("a"))
                await around.answer()
                leases.away = StoreError("the store is away")
                await leases.until(lambda: leases.refused > 0)
                leases.away = None
                renewed = len(leases.renewed)
                await leases.until(lambda: len(leases.renewed) > renewed + 1)
                await anyio.sleep(0.1)
                leases.away = StoreError("the store is away")
                around.leasing.want(job("b"))
                await leases.until(lambda: len(leases.asked) == 2)
                leases.away = None
                assert isinstance(await around.answer(), LeaseGranted)
                around.bus.close()
                states = [event async for event in told if isinstance(event, LaneState)]

        assert [state.status for state in states][:2] == ["blocked", "ok"]

    @pytest.mark.parametrize("kind", ["auth", "billing", "local", "internal"])
    async def test_what_is_this_runners_own_trouble_keeps_no_other_from_trying(self, kind: str) -> None:
        """Its key was refused, or it was stopped: that says nothing of the model."""
        leases = Scripted()
        async with running(leases) as around:
            around.leasing.want(one := job())
            await around.answer()
            around.leasing.settle(acknowledged(one, kind))
            await leases.until(lambda: bool(leases.ended))

        assert [ended.result for ended in leases.ended] == ["unused"]

    async def test_a_question_that_was_taken_back_costs_nothing(self) -> None:
        """The lane was restarted meanwhile: the lease that comes too late goes back unused."""
        leases = Scripted()
        async with running(leases) as around:
            late = job()
            around.leasing.want(late)
            answer = await around.answer()
            assert isinstance(answer, LeaseGranted)
            around.leasing.give_back(answer)
            await leases.until(lambda: bool(leases.ended))

        assert [one.result for one in leases.ended] == ["unused"]


class Ahead(SystemClock):
    """A clock that is ten minutes fast."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=10)


@asynccontextmanager
async def stores_of_two(mongod: Mongod) -> AsyncIterator[tuple[MongoStore, MongoStore]]:
    """Open a database of their own for two programs."""
    place = Address(uri=Secret(mongod.uri), database=f"llm-bench-{new_outcome_id()}")
    one, other = MongoStore(place), MongoStore(place)
    await one.open()
    await other.open()
    yield one, other
    await other.close()
    await one.close()
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(place.database)


@pytest.mark.usefixtures("sdks")
class TestTheEngine:
    """Real runs, under leases."""

    async def test_every_run_is_claimed_and_given_back(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """One claim a run, its success told, and at the end nothing is held."""
        leases, models = Scripted(), [unique() for _ in range(4)]
        batch = Batch(runs("groq", *models), "scheduled")
        sharing = Sharing(leases=leases, fresh=FRESH, term=TERM)
        engine = await Engine([lane(settings(simulator))], batch, store, sharing=sharing).finish()

        assert len(engine.stored) == 4
        assert sorted(key.model_id for key in leases.asked) == sorted(models)
        assert sorted(one.lease.key.model_id for one in leases.ended) == sorted(models)
        assert {one.result for one in leases.ended} == {"succeeded"}
        assert leases.all_released

    async def test_a_round_leaves_to_others_what_they_have(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """It is not asked of the provider, counts as left to them, and holds nothing up."""
        leases, models = Scripted(), [unique() for _ in range(3)]
        leases.take(models[0], 60.0)
        batch = Batch(runs("groq", *models), "scheduled")
        sharing = Sharing(leases=leases, fresh=FRESH, term=TERM)
        engine = await Engine([lane(settings(simulator))], batch, store, sharing=sharing).finish()

        assert {outcome.model_name for outcome in engine.stored} == set(models[1:])
        assert (batch.done, batch.elsewhere, batch.given_up) == (2, 1, {})
        assert await seen(simulator, models[0]) == []

    async def test_the_engine_asks_again_when_the_lease_would_run_out(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Another runner had it and died: it is measured here then, and the other models did not wait for it."""
        leases, models = Scripted(), [unique() for _ in range(2)]
        leases.take(models[0], 0.2)
        plan = Rotation(runs("groq", *models), {}, FRESH)
        sharing = Sharing(leases=leases, fresh=FRESH, term=TERM)
        engine = Engine([lane(settings(simulator))], plan, store, sharing=sharing)
        async with engine.running():
            await engine.until(lambda: len(engine.stored) == 1)
            assert engine.stored[0].model_name == models[1]
            leases.taken.clear()
            await engine.until(lambda: len(engine.stored) == 2)

        assert engine.stored[1].model_name == models[0]

    async def test_nothing_starts_under_a_lease_that_ran_out(
        self, simulator: SpawnedSimulator, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A runner that was frozen between the grant and the start gives the job back."""
        leases, name = Scripted(), unique()
        monkeypatch.setattr(module, "monotonic", lambda: monotonic() - 2 * TERM)  # the claim was made so long ago
        plan = Rotation(runs("groq", name), {}, FRESH)
        sharing = Sharing(leases=leases, fresh=FRESH, term=TERM)
        engine = Engine([lane(settings(simulator, requests_per_minute=6000.0))], plan, store, sharing=sharing)
        async with engine.running():
            await leases.until(lambda: len(leases.ended) >= 2)

        assert {one.result for one in leases.ended} == {"unused"}
        assert await seen(simulator, name) == []

    async def test_short_rounds_of_a_region_get_to_every_model(
        self, simulator: SpawnedSimulator, mongod: Mongod, tmp_path: Path
    ) -> None:
        """Each ``--once --limit 2`` goes on where the one before it ended, and asks for nothing that is fresh."""
        models = [unique() for _ in range(5)]
        async with stores_of_two(mongod) as (store, _), opened_spool(tmp_path / "spool") as spool:
            asked = []
            for _ in range(3):
                sharing = Sharing(leases=store.leases("cron", TERM), fresh=FRESH, term=TERM, region="east")
                options = argparse.Namespace(once=True, limit=2)
                past = await Past(store, spool, sharing).read(reached=True)
                plan = headless._plan(load(None, {}), runs("groq", *models), past, options)
                engine = await Engine([lane(settings(simulator))], plan, store, sharing=sharing).finish()
                asked.append(len(engine.stored))

        assert asked == [2, 2, 1]
        assert [len(await seen(simulator, name)) for name in models] == [1] * len(models)

    async def test_a_runner_whose_clock_is_wrong_measures_nothing_twice(
        self, simulator: SpawnedSimulator, mongod: Mongod
    ) -> None:
        """By its clock all that the other has measured is long stale; the server's clock says that it is not."""
        models, fresh = [unique() for _ in range(8)], timedelta(minutes=5)
        clocks = [SystemClock(), Ahead()]
        plans = [Rotation(runs("groq", *models), {}, fresh) for _ in clocks]
        async with stores_of_two(mongod) as stores:
            engines = [
                Engine(
                    [lane(settings(simulator))],
                    plan,
                    store,
                    clock=clock,
                    sharing=Sharing(leases=store.leases("same", TERM), fresh=fresh, term=TERM),
                )
                for plan, store, clock in zip(plans, stores, clocks, strict=True)
            ]
            async with engines[0].running(), engines[1].running():
                while any(  # noqa: ASYNC110  what is left to another is told to the plan alone, which has no event
                    plan.due_count(clock.now()) for plan, clock in zip(plans, clocks, strict=True)
                ):
                    await anyio.sleep(0.01)
            # Rows of that runner are dated in the future, and count in no answer before their time has come.
            stored = (await stores[0].page("samples", size=len(models) + 1)).items

        assert sorted(item.outcome.model_name for item in stored) == sorted(models)
        assert [len(await seen(simulator, name)) for name in models] == [1] * len(models)

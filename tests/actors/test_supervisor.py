"""The whole engine: what lanes, scheduler and sink promise together, over real sockets and into a real file."""

from __future__ import annotations

import gc
from datetime import timedelta
from functools import partial

import pytest

from llmbench.actors import provider as provider_module
from llmbench.actors.attempt import Attempt
from llmbench.actors.plans import Batch, Rotation
from llmbench.actors.supervision import RestartBudget
from llmbench.config import ResolvedProvider
from llmbench.messages import Failure, Job, Outcome, Profile, RunFinished, RunProgress, Sample
from llmbench.providers.base import Provider, Unusable
from llmbench.providers.openai_family import OpenAIFamily
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import (
    KEY,
    Engine,
    Faulty,
    failures,
    ids,
    in_store,
    lane,
    runs,
    samples,
    seen,
    settings,
    unique,
)

pytestmark = pytest.mark.usefixtures("sdks")


async def test_every_job_has_exactly_one_outcome(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Good runs and bad, of three lanes, are each stored once, acknowledged once, and seen by the server once."""
    names = ["groq", "together", "anthropic"]
    good = {name: [unique() for _ in range(3)] for name in names}
    bad = {name: [unique("500"), unique("ttft2-gap1-truncate2")] for name in names}
    batch = Batch([run for name in names for run in runs(name, *good[name], *bad[name])], "scheduled")
    engine = await Engine([lane(settings(simulator, name)) for name in names], batch, store).finish()

    assert batch.done == batch.total == 15
    assert ids(engine.stored) == ids(await in_store(store))
    assert len(set(ids(engine.stored))) == 15
    assert {(s.provider, s.model_name) for s in samples(engine.stored)} == {(n, m) for n in names for m in good[n]}
    assert {(f.provider, f.model_name) for f in failures(engine.stored)} == {(n, m) for n in names for m in bad[n]}
    for model_id in [each for name in names for each in good[name] + bad[name]]:
        assert len(await seen(simulator, model_id)) == 1
    assert not engine.supervisor.anything_down
    assert gc.isenabled()


async def test_what_is_told_live_agrees_with_what_is_stored(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """A run is told as started and finished, and its text ten times a second at most; its outcome is the row."""
    model_id = unique("ttft2-gap20-tok32")
    profile = Profile(id="default", prompt="Write.", max_tokens=32)
    engine = Engine([lane(settings(simulator))], Batch(runs("groq", model_id, profile=profile), "demo"), store)
    await engine.finish()

    (stored,) = await in_store(store)
    (started,) = engine.started()
    (finished,) = engine.told(RunFinished)
    progress = engine.told(RunProgress)
    chunks = [each.visible_chunks for each in progress]
    assert isinstance(stored, Sample)
    assert (started.outcome_id, finished.outcome.id) == (stored.id, stored.id)
    assert finished.outcome == engine.stored[0]
    assert 2 <= len(progress) <= stored.generate_time / 0.1 + 1
    assert chunks == sorted(chunks)
    assert all(each.text for each in progress)
    assert engine.events.index(started) < engine.events.index(progress[0])
    assert engine.events.index(progress[-1]) < engine.events.index(finished)


class TestCrashOfALane:
    """A crash provoked in one lane: it comes back, visibly, and its neighbour notices nothing."""

    async def test_it_is_restarted_while_its_neighbour_goes_on(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Opening the provider fails twice; meanwhile the other lane measures as if nothing had happened."""
        broken, whole = settings(simulator), settings(simulator, "together", concurrency=1)
        opened: list[str] = []

        def open_with() -> Provider:
            opened.append("")
            if len(opened) <= 2:
                raise RuntimeError("provoked")
            return OpenAIFamily(broken, KEY)

        neighbours = [unique() for _ in range(10)]
        batch = Batch(runs("groq", *(unique() for _ in range(3))) + runs("together", *neighbours), "scheduled")
        slow_restarts = partial(RestartBudget, first=0.1)
        engine = Engine([lane(broken, open_with), lane(whole)], batch, store, budget=slow_restarts)
        await engine.finish()

        assert engine.statuses("groq") == ["restarting", "starting", "restarting", "starting", "ok", "stopped"]
        assert "RuntimeError: provoked" in (engine.states("groq")[0].reason or "")
        assert engine.statuses("together") == ["ok", "stopped"]
        assert len(samples(engine.of("groq"))) == 3
        assert len(samples(engine.of("together"))) == 10
        lane_was_ok = engine.events.index(engine.states("groq")[4])
        assert any(is_run_of("together", event) for event in engine.events[:lane_was_ok])

    async def test_a_bug_in_a_run_is_recorded_and_restarts_its_lane(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """The run that met it is a failure of our own with its traceback; what streamed beside it ends in peace."""
        bad, beside, later = unique(), unique("ttft100-gap10"), unique()
        faulty = settings(simulator)
        batch = Batch(runs("groq", beside, bad, later), "scheduled")
        engine = Engine([lane(faulty, partial(Faulty, faulty, KEY, bad))], batch, store)
        await engine.finish()

        outcomes = {outcome.model_name: outcome for outcome in engine.stored}
        assert len(engine.stored) == 3
        failed = outcomes[bad]
        assert isinstance(failed, Failure)
        assert (failed.error_kind, failed.exc_type) == ("internal", "RuntimeError")
        assert "provoked" in (failed.traceback or "")
        assert isinstance(outcomes[beside], Sample)
        assert isinstance(outcomes[later], Sample)
        assert engine.statuses("groq") == ["ok", "restarting", "starting", "ok", "stopped"]
        assert "met a bug" in (engine.states("groq")[1].reason or "")
        assert await seen(simulator, bad) == []

    async def test_a_job_that_a_crash_took_with_it_is_made_all_the_same(
        self, simulator: SpawnedSimulator, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lane itself breaks while it carries a job out: after the restart that job is done, each once."""
        crashed: list[Job] = []

        class Breaking(Attempt):
            async def run(self) -> Outcome:
                if not crashed:
                    crashed.append(self._job)
                    raise RuntimeError("provoked")
                return await super().run()

        monkeypatch.setattr(provider_module, "Attempt", Breaking)
        batch = Batch(runs("groq", *(unique() for _ in range(4))), "scheduled")
        engine = await Engine([lane(settings(simulator))], batch, store).finish()

        assert batch.finished
        assert crashed[0].outcome_id in ids(engine.stored)
        assert len(set(ids(engine.stored))) == len(engine.stored) == 4
        assert engine.statuses("groq")[:4] == ["ok", "restarting", "starting", "ok"]

    async def test_one_that_keeps_dying_is_down_and_its_runs_are_given_up(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """It is told as down with its reason, the batch ends without it, and the engine knows that all is not well."""

        def never() -> Provider:
            raise RuntimeError("provoked")

        batch = Batch(runs("groq", unique(), unique()) + runs("together", unique()), "scheduled")
        engine = Engine([lane(settings(simulator), never), lane(settings(simulator, "together"))], batch, store)
        async with engine.running():
            await engine.until(lambda: batch.finished)
            assert engine.supervisor.anything_down

        assert engine.statuses("groq")[-1] == "down"
        assert batch.given_up["groq"][0] == 2
        assert "RuntimeError: provoked" in batch.given_up["groq"][1]
        assert len(samples(engine.of("together"))) == 1

    async def test_one_that_cannot_work_is_down_at_once(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """Without its key a lane is down with the sentence that says what to do; the others measure."""
        problem = "environment variable 'GROQ_API_KEY' is not set: set it to the key"
        batch = Batch(runs("groq", unique()) + runs("together", unique()), "scheduled")
        lanes = [lane(settings(simulator), problem=problem), lane(settings(simulator, "together"))]
        engine = await Engine(lanes, batch, store).finish()

        (down,) = engine.states("groq")
        assert (down.status, down.reason, down.until) == ("down", problem, None)
        assert batch.given_up == {"groq": (1, problem)}
        assert engine.supervisor.anything_down
        assert len(samples(engine.stored)) == 1

    async def test_one_without_credentials_is_down_until_it_finds_some(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """It says what to set and when it looks again, runs nothing, and works once they are there."""
        groq, missing = settings(simulator), ["no credentials were found: set GROQ_PROFILE"]
        plan = Rotation(runs("groq", unique()) + runs("together", unique()), {}, timedelta(hours=1))
        lanes = [lane(groq, lambda: Unequipped(groq, KEY, missing)), lane(settings(simulator, "together"))]
        async with Engine(lanes, plan, store).running() as engine:
            await engine.until(lambda: "starting" in engine.statuses("groq"))
            assert engine.of("groq") == []
            await engine.until(lambda: bool(engine.of("groq") and engine.of("together")))

        down, *later = engine.states("groq")
        assert (down.status, down.reason) == ("down", "no credentials were found: set GROQ_PROFILE")
        assert down.until is not None
        assert [state.status for state in later] == ["starting", "ok", "stopped"]
        assert len(samples(engine.stored)) == 2


class Unequipped(OpenAIFamily):
    """A provider whose credentials are missing the first time that it is opened."""

    def __init__(self, provider: ResolvedProvider, key: str, missing: list[str]) -> None:
        super().__init__(provider, key)
        self._missing = missing

    async def check(self) -> None:
        if self._missing:
            raise Unusable(self._missing.pop())


def is_run_of(provider: str, event: object) -> bool:
    return isinstance(event, RunFinished) and event.provider == provider

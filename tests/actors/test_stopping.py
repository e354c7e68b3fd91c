"""Stopping: nothing new starts, what streams may finish, the rest is cut off and recorded as such, all is stored."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import anyio
import pytest

from llmbench.actors.plans import Batch, Rotation
from llmbench.actors.supervision import RestartBudget
from llmbench.messages import Profile, RunProgress, RunStarted
from llmbench.providers.base import Provider
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import (
    LIMIT,
    Engine,
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

ENDLESS = "ttft2-gap1-stall3"
"""A stream that never ends by itself: three tokens, then silence on an open connection."""
PATIENT = Profile(id="default", prompt="Write.", max_tokens=8, timeout_seconds=LIMIT, idle_timeout_seconds=LIMIT)


async def test_running_streams_finish_and_nothing_new_starts(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Two of five streams run when the stop is asked for: these two are stored as good samples, and no other began."""
    batch = Batch(runs("groq", *(unique("ttft100-gap10") for _ in range(5))), "scheduled")
    engine = Engine([lane(settings(simulator))], batch, store, grace_seconds=LIMIT)
    async with engine.running():
        await engine.until(lambda: len(engine.started()) == 2)

    assert len(engine.started()) == 2
    assert sorted(run.outcome_id for run in engine.started()) == ids(samples(await in_store(store)))
    assert engine.statuses("groq") == ["ok", "stopped"]
    assert not engine.supervisor.anything_down


async def test_the_grace_period_cuts_the_rest_off_with_one_outcome_each(
    simulator: SpawnedSimulator, store: SQLiteStore
) -> None:
    """Streams that don't end in time are failures of our own, ``cancelled``, with what they had measured; each once."""
    names = [unique(ENDLESS) for _ in range(4)]
    quick = unique("ttft2-gap1")
    batch = Batch(runs("groq", *names, profile=PATIENT) + runs("together", quick), "scheduled")
    lanes = [lane(settings(simulator, concurrency=4)), lane(settings(simulator, "together"))]
    engine = Engine(lanes, batch, store, grace_seconds=0.2)
    async with engine.running():
        await engine.until(lambda: len(engine.stored) == 1)
        await engine.until(lambda: {run.model_id for run in engine.told(RunProgress)} >= set(names))

    cut = failures(await in_store(store))
    assert sorted(failed.model_name for failed in cut) == sorted(names)
    assert {(failed.error_kind, failed.error_cause) for failed in cut} == {("local", "cancelled")}
    assert all(failed.partial["connect_time"] > 0 for failed in cut)
    assert ids(engine.stored) == ids(await in_store(store))
    assert len(set(ids(engine.stored))) == 5
    assert [[record.ended for record in await seen(simulator, name)] for name in names] == [["fault"]] * 4


async def test_an_idle_engine_stops_at_once(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Workers that wait for work, for a pause's end or for their lane's restart hold nothing up."""
    fresh = timedelta(minutes=180)
    plan = Rotation(runs("groq", unique("401")) + runs("together", unique()), {}, fresh)

    def never() -> Provider:
        raise RuntimeError("provoked")

    lanes = [
        lane(settings(simulator)),
        lane(settings(simulator, "together")),
        lane(settings(simulator, "anthropic"), never),
    ]
    slow_restarts = partial(RestartBudget, first=900.0, longest=900.0)
    engine = Engine(lanes, plan, store, grace_seconds=900.0, probe_seconds=900.0, budget=slow_restarts)
    async with engine.running():
        await engine.until(lambda: len(engine.stored) == 2 and "blocked" in engine.statuses("groq"))
        await engine.until(lambda: "restarting" in engine.statuses("anthropic"))
        with anyio.fail_after(5):
            engine.supervisor.stop()
            await engine.until(lambda: engine.statuses("together")[-1] == "stopped")

    assert engine.statuses("groq") == ["ok", "blocked", "stopped"]


async def test_a_stop_that_comes_first_starts_nothing(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Asked to stop before it runs, the engine ends without a single request."""
    name = unique()
    engine = Engine([lane(settings(simulator))], Batch(runs("groq", name), "scheduled"), store)
    engine.supervisor.stop()
    await engine.finish()

    assert engine.told(RunStarted) == []
    assert await seen(simulator, name) == []


async def test_cancelling_it_ends_at_once_and_leaves_the_store_whole(
    simulator: SpawnedSimulator, store: SQLiteStore
) -> None:
    """What a second signal does: no grace, no drain; the store answers and holds what had been acknowledged."""
    names = [unique(ENDLESS) for _ in range(2)]
    batch = Batch(runs("groq", *names, profile=PATIENT) + runs("together", unique()), "scheduled")
    lanes = [lane(settings(simulator)), lane(settings(simulator, "together"))]
    engine = Engine(lanes, batch, store, grace_seconds=900.0)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(engine.finish)
            await engine.until(lambda: len(engine.stored) == 1 and len(engine.started()) == 3)
            group.cancel_scope.cancel()

    assert set(ids(engine.stored)) <= set(ids(await in_store(store)))
    assert len(samples(await in_store(store))) == 1

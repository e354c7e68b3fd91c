"""Figures of lanes and engine: once a second while somebody watches, and nothing while nobody does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import anyio
import pytest

from llmbench.actors import figures as module
from llmbench.actors.bus import Subscription
from llmbench.actors.due import ModelClock
from llmbench.actors.figures import About, Figures, spool_figures
from llmbench.actors.plans import Batch, Plan, Rotation
from llmbench.messages import EngineFigures, LaneFigures, LiveEvent
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import LIMIT, PROFILE, Engine, lane, runs, settings, unique
from tests.stores.documents import model
from tests.stores.spooling import filled, opened_spool

ABOUT = About("runner-1", "SQLite file /x")
FRESH = timedelta(minutes=180)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.01)
    monkeypatch.setattr(module, "_SPOOL_SECONDS", 0.01)


def figures_of(engine: Engine, spool: Spool | None = None) -> Figures:
    supervisor = engine.supervisor
    return Figures(
        engine.bus,
        supervisor.actors.values(),
        engine.plan,
        supervisor.scheduler,
        ABOUT,
        spool,
        stamps_work=lambda: True,
    )


def an_engine(simulator: SpawnedSimulator, plan: Plan, store: SQLiteStore) -> Engine:
    return Engine([lane(settings(simulator)), lane(settings(simulator, "together"))], plan, store)


@contextmanager
def idle(simulator: SpawnedSimulator, plan: Plan, store: SQLiteStore) -> Iterator[Engine]:
    """Yield an engine that does not run."""
    engine = an_engine(simulator, plan, store)
    try:
        yield engine
    finally:
        engine.supervisor._close_channels()


@asynccontextmanager
async def making(figures: Figures) -> AsyncIterator[None]:
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(figures.run)
            yield
            group.cancel_scope.cancel()


async def until(events: Subscription, kind: type[LiveEvent], lane: str | None = None) -> LiveEvent:
    async for event in events:
        if isinstance(event, kind) and lane in (None, getattr(event, "lane", None)):
            return event
    raise AssertionError("the bus was closed")


async def test_what_is_told_of_lanes(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """How many models, how many of them due, when the next one is, and what the lane allows."""
    last = datetime.now(UTC) - timedelta(minutes=170)
    clocks = {("together", "c"): ModelClock(last_success=last), ("together", "d"): ModelClock(last_success=last)}
    plan = Rotation(runs("groq", "a", "b") + runs("together", "c", "d"), clocks, FRESH)
    with idle(simulator, plan, store) as engine, engine.bus.watch() as events:
        async with making(figures_of(engine)):
            groq = await until(events, LaneFigures, "groq")
            together = await until(events, LaneFigures, "together")
    assert isinstance(groq, LaneFigures)
    assert (groq.models, groq.due, groq.next_due, groq.in_flight) == (2, 2, None, 0)
    assert (groq.concurrency, groq.requests_per_minute, groq.slowdown) == (2, 60_000.0, 1.0)
    assert (groq.breaker, groq.paused_since) == ("closed", None)
    assert isinstance(together, LaneFigures)
    assert (together.models, together.due, together.next_due) == (2, 0, last + FRESH)


async def test_what_is_told_of_the_engine(simulator: SpawnedSimulator, store: SQLiteStore, tmp_path: Path) -> None:
    """Who it is, since when, its lanes, its clock, its spool, and how long its loop was away."""
    async with opened_spool(tmp_path / "spool") as spool:
        await filled(spool, 3)
        with idle(simulator, Rotation([], {}, FRESH), store) as engine, engine.bus.watch() as events:
            async with making(figures_of(engine, spool)):
                told = await until(events, EngineFigures)
        counts = await spool.counts()
    assert isinstance(told, EngineFigures)
    assert (told.runner_id, told.store, told.lanes) == ("runner-1", "SQLite file /x", ("groq", "together"))
    assert (told.clock, told.hold) == ("kernel", None)
    assert told.started_at <= told.at
    assert 0 < told.loop_lag < LIMIT
    assert told.spool is not None
    assert (told.spool.waiting, told.spool.level, told.spool.oldest) == (3, "ok", counts.oldest)
    assert (told.spool.bytes, told.spool.cap_bytes) == (counts.used_bytes, counts.cap_bytes)


async def test_a_loop_that_was_away_is_told_of(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """A lag is told of once, as that of the time since the figures before."""
    with idle(simulator, Rotation([], {}, FRESH), store) as engine, engine.bus.watch() as events:
        async with making(figures_of(engine)):
            await until(events, EngineFigures)
            began = perf_counter()
            while perf_counter() - began < 0.2:
                pass
            late = await until(events, EngineFigures)
            lags = [await until(events, EngineFigures) for _ in range(5)]
    assert isinstance(late, EngineFigures)
    assert late.loop_lag >= 0.19
    assert min(one.loop_lag for one in lags if isinstance(one, EngineFigures)) < 0.15


async def test_nothing_is_made_while_nobody_watches(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Who counts outcomes alone has none made; the next one who watches gets them at once."""
    asked = 0

    def stamps_work() -> bool:
        nonlocal asked
        asked += 1
        return False

    with idle(simulator, Rotation([], {}, FRESH), store) as engine:
        bus = engine.bus
        async with making(Figures(bus, [], engine.plan, engine.supervisor.scheduler, ABOUT, stamps_work=stamps_work)):
            with bus.subscribe(progress=False):
                await anyio.wait_all_tasks_blocked()
            assert asked == 0
            for _ in range(2):
                with bus.watch() as events:
                    told = await until(events, EngineFigures)
                    assert isinstance(told, EngineFigures)
                    assert (told.clock, told.spool) == ("user", None)
    assert asked == 1


async def test_a_spool_that_can_not_tell(tmp_path: Path) -> None:
    async with opened_spool(tmp_path) as spool:
        await spool.close()
        assert await spool_figures(spool) is None
        await spool.open()


async def test_a_lane_at_work(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """What is in flight is not due; a lane whose key was refused says that its breaker is open."""
    slow, refused = unique("ttft5-gap5-stall3"), unique("401")
    engine = an_engine(simulator, Batch(runs("groq", slow) + runs("together", refused, unique("401")), "bench"), store)
    async with engine.running(), making(figures_of(engine)):
        await engine.until(lambda: bool(engine.started(slow)) and "blocked" in engine.statuses("together"))
        with engine.bus.watch() as events:
            busy = closed = None
            async for event in events:
                if isinstance(event, LaneFigures) and event.lane == "groq" and event.in_flight:
                    busy = event
                if isinstance(event, LaneFigures) and event.breaker != "closed":
                    closed = event
                if busy is not None and closed is not None:
                    break
        assert busy is not None
        assert (busy.models, busy.due) == (1, 0)
        assert closed is not None
        assert (closed.lane, closed.models) == ("together", 2)
        engine.supervisor.abort()


def test_a_thousand_models_cost_little() -> None:
    """What is asked on the loop that measures, for one lane of a thousand models, takes well under a millisecond."""
    now = datetime.now(UTC)
    models = [(model(f"m{number}", provider="groq"), PROFILE) for number in range(1000)]
    clocks = {
        ("groq", f"m{number}"): ModelClock(
            last_success=now - timedelta(minutes=number % 170), last_failure=now, failures_in_a_row=number % 5
        )
        for number in range(1000)
    }
    plan = Rotation(models, clocks, FRESH)
    plan.load("groq", now)
    times = []
    for _ in range(20):
        began = perf_counter()
        load = plan.load("groq", now)
        times.append(perf_counter() - began)
    assert load.models == 1000
    assert min(times) < 0.001

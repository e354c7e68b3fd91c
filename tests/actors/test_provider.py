"""A lane against a real server: its pace, its breaker, and never a model twice at a time."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from functools import partial

import anyio
import pytest

from llmbench.actors import breaker as breaker_module
from llmbench.actors.plans import Batch, Rotation
from llmbench.config import ResolvedProvider
from llmbench.messages import LaneState, Model, Profile, RunFinished, RunStarted, Sample
from llmbench.providers.base import Prepared
from llmbench.providers.openai_family import OpenAIFamily
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import (
    FAST,
    KEY,
    Engine,
    becomes,
    failures,
    lane,
    overlaps,
    runs,
    samples,
    seen,
    settings,
    unique,
)

pytestmark = pytest.mark.usefixtures("sdks")

ALWAYS = timedelta(0)
"""A freshness that makes every model due again as soon as its result is stored."""
FRESH = timedelta(minutes=180)


def starts(engine: Engine) -> list[datetime]:
    return [run.at for run in engine.started()]


def gaps(times: list[datetime]) -> list[float]:
    """Return the seconds between each time and the next."""
    return [(then - first).total_seconds() for first, then in itertools.pairwise(times)]


class TestPace:
    async def test_a_model_is_never_in_flight_twice(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """Always due and with free workers: the server sees each model's next request after the answer to its last."""
        names = [unique("ttft10-gap1"), unique("ttft3-gap1")]
        engine = Engine([lane(settings(simulator, concurrency=4))], Rotation(runs("groq", *names), {}, ALWAYS), store)
        async with engine.running():
            await engine.until(lambda: len(engine.stored) >= 30)

        for name in names:
            records = await seen(simulator, name)
            assert len(records) > 5
            assert overlaps(records) == []
        assert len(samples(engine.stored)) == len(engine.stored)

    async def test_different_models_of_a_lane_overlap_up_to_its_concurrency(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Two at a time are two at a time, no fewer and no more."""
        batch = Batch(runs("groq", *(unique("ttft40-gap2") for _ in range(6))), "scheduled")
        engine = await Engine([lane(settings(simulator, concurrency=2))], batch, store).finish()

        running, most = 0, 0
        for event in engine.events:
            running += isinstance(event, RunStarted) - isinstance(event, RunFinished)
            most = max(most, running)
        assert most == 2

    async def test_starts_are_an_interval_apart(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """600 requests per minute are one every tenth of a second, not a handful at once and then a pause."""
        batch = Batch(runs("groq", *(unique() for _ in range(6))), "scheduled")
        busy = settings(simulator, requests_per_minute=600.0, concurrency=6)
        engine = await Engine([lane(busy)], batch, store).finish()

        assert len(starts(engine)) == 6
        assert min(gaps(starts(engine))) >= 0.05

    async def test_a_lane_that_was_idle_saves_up_no_starts(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Six workers wait for work for six intervals; six models that are due then start one by one all the same."""
        plan = Rotation([], {}, FRESH)
        idle = settings(simulator, requests_per_minute=1200.0, concurrency=6)
        models = runs("groq", *(unique() for _ in range(6)))

        async def refresh() -> None:
            plan.replace_models(models)

        engine = Engine([lane(idle)], plan, store, refresh=refresh)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("llmbench.actors.scheduler._LOOK_AGAIN_SECONDS", 6 * 0.05 + 0.05)
            async with engine.running():
                await engine.until(lambda: len(engine.stored) == 6)

        assert min(gaps(starts(engine))) >= 0.025


class TestRefusedKey:
    async def test_one_run_closes_the_lane_and_one_probe_opens_it(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Of three models one finds out that the key is refused; the other lane goes on; once it is well, all run."""
        names, neighbours = [unique("401") for _ in range(3)], [unique() for _ in range(5)]
        plan = Rotation(runs("groq", *names) + runs("together", *neighbours), {}, FRESH)
        lanes = [lane(settings(simulator, concurrency=1)), lane(settings(simulator, "together"))]
        engine = Engine(lanes, plan, store, probe_seconds=0.5)
        async with engine.running():
            await engine.until(lambda: "blocked" in engine.statuses("groq"))
            for name in names:
                await becomes(simulator, name, FAST)
            await engine.until(lambda: len(samples(engine.of("groq"))) == 2)
            await engine.until(lambda: len(samples(engine.of("together"))) == 5)

        (refused,) = failures(engine.stored)
        assert (refused.provider, refused.error_kind) == ("groq", "auth")
        assert engine.statuses("groq") == ["ok", "blocked", "ok", "stopped"]
        assert engine.statuses("together") == ["ok", "stopped"]
        blocked = engine.states("groq")[1]
        assert blocked.until == blocked.at + timedelta(seconds=0.5)
        assert "providers.groq.api_key_env" in (blocked.reason or "")
        assert KEY not in (blocked.reason or "")
        probe = engine.started()[[run.provider for run in engine.started()].index("groq") + 0]
        assert probe.provider == "groq"
        first, second, *_ = [run for run in engine.started() if run.provider == "groq"]
        assert second.at - first.at >= timedelta(seconds=0.5)

    async def test_nothing_starts_beside_the_probe(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """Four workers and a dozen models: while the probe is out, however long, it is alone."""
        first = unique("401")
        others = [unique("ttft100-gap1") for _ in range(12)]
        plan = Rotation(runs("groq", first), {}, FRESH)
        engine = Engine([lane(settings(simulator, concurrency=4))], plan, store, probe_seconds=0.1)
        async with engine.running():
            await engine.until(lambda: "blocked" in engine.statuses("groq"))
            plan.replace_models(runs("groq", first, *others))
            engine.supervisor._inbox_in.send_nowait(provider_ready())
            await engine.until(lambda: len(engine.stored) == 13)

        told = [event for event in engine.events if isinstance(event, RunStarted | RunFinished | LaneState)]
        probe = next(index for index, event in enumerate(told) if isinstance(event, RunStarted) and index > 2)
        assert isinstance(told[probe + 1], LaneState | RunFinished)

    async def test_a_probe_that_meets_a_bug_of_ours_is_followed_by_another(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """The lane is restarted and still closed: its crash reopened nothing, and it waits for nobody's answer."""

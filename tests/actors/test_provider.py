"""A lane against a real server: its pace, its breaker, and never a model twice at a time."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from llmbench.actors import provider as provider_module
from llmbench.actors.attempt import Attempt
from llmbench.actors.plans import Batch, Rotation
from llmbench.actors.supervisor import Buffer
from llmbench.config import ResolvedProvider
from llmbench.messages import Envelope, LaneState, Outcome, RunFinished, RunStarted
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import (
    FAST,
    KEY,
    Engine,
    Faulty,
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
from tests.stores.spooling import crashed

pytestmark = pytest.mark.usefixtures("sdks")

ALWAYS = timedelta(0)
"""A freshness that makes every model due again as soon as its result is stored."""
FRESH = timedelta(minutes=180)


def gaps(started: Sequence[RunStarted]) -> list[float]:
    """Return the seconds between each start and the next."""
    return [(then.at - first.at).total_seconds() for first, then in itertools.pairwise(started)]


def several(count: int, words: str = FAST) -> list[str]:
    """Return ids that are handed out in this order, as never measured models are taken by name."""
    return [unique(words, f"{letter}-") for letter in "abcdefghijkl"[:count]]


def in_order(engine: Engine) -> list[str]:
    return [run.model_id for run in engine.started()]


def crash_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the second attempt from now on crash."""
    crashes = iter([False, True])

    class Breaking(Attempt):
        async def run(self) -> Outcome:
            if next(crashes, False):
                raise RuntimeError("provoked")
            return await super().run()

    monkeypatch.setattr(provider_module, "Attempt", Breaking)


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

    async def test_models_of_a_lane_overlap_up_to_its_concurrency(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Two at a time are two at a time, no fewer and no more."""
        batch = Batch(runs("groq", *several(6, "ttft40-gap2")), "scheduled")
        engine = await Engine([lane(settings(simulator, concurrency=2))], batch, store).finish()

        steps = (isinstance(event, RunStarted) - isinstance(event, RunFinished) for event in engine.events)
        assert max(itertools.accumulate(steps)) == 2

    async def test_starts_are_an_interval_apart(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """600 requests per minute are one every tenth of a second, not a handful at once and then a pause."""
        busy = settings(simulator, requests_per_minute=600.0, concurrency=6)
        engine = await Engine([lane(busy)], Batch(runs("groq", *several(6)), "scheduled"), store).finish()

        assert len(engine.started()) == 6
        assert min(gaps(engine.started())) >= 0.05

    async def test_a_lane_that_was_idle_saves_up_no_starts(
        self, simulator: SpawnedSimulator, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Six workers wait for work for seven intervals; six models that come then start one by one all the same."""
        monkeypatch.setattr("llmbench.actors.refreshing._EVERY_SECONDS", 0.35)
        plan = Rotation([], {}, FRESH)
        models = runs("groq", *several(6))

        async def refresh() -> None:
            plan.replace_models(models)

        idle = settings(simulator, requests_per_minute=1200.0, concurrency=6)
        engine = Engine([lane(idle)], plan, store, refresh=refresh)
        async with engine.running():
            await engine.until(lambda: len(engine.stored) == 6)

        assert min(gaps(engine.started())) >= 0.025


class TestRefusedKey:
    async def test_one_run_closes_the_lane_and_one_probe_opens_it(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Of three models one finds out that the key is refused; the other lane goes on; once it is well, all run."""
        names = several(3, "401")
        plan = Rotation(runs("groq", *names) + runs("together", *several(5)), {}, FRESH)
        lanes = [lane(settings(simulator, concurrency=1)), lane(settings(simulator, "together"))]
        engine = Engine(lanes, plan, store, probe_seconds=0.5)
        async with engine.running():
            await engine.until(lambda: "blocked" in engine.statuses("groq"))
            for name in names:
                await becomes(simulator, name, FAST)
            await engine.until(lambda: len(engine.stored) == 8)

        (refused,) = failures(engine.stored)
        first, probe, _third = (run for run in engine.started() if run.provider == "groq")
        _ok, blocked, *_rest = engine.states("groq")
        assert (refused.id, refused.error_kind) == (first.outcome_id, "auth")
        assert probe.at - first.at >= timedelta(seconds=0.5)
        assert engine.statuses("groq") == ["ok", "blocked", "ok", "stopped"]
        assert blocked.until == blocked.at + timedelta(seconds=0.5)
        assert "providers.groq.api_key_env" in (blocked.reason or "")
        assert KEY not in (blocked.reason or "")
        assert engine.statuses("together") == ["ok", "stopped"]
        assert len(samples(engine.of("together"))) == 5

    async def test_the_probe_is_alone(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """Four workers and a dozen models: while a slow probe is out, nothing starts beside it."""
        names = several(12, "401")
        engine = Engine(
            [lane(settings(simulator, concurrency=4))],
            Rotation(runs("groq", *names), {}, FRESH),
            store,
            probe_seconds=0.5,
        )
        async with engine.running():
            await engine.until(lambda: "blocked" in engine.statuses("groq"))
            await engine.until(lambda: len(engine.started()) == len(engine.told(RunFinished)))
            for name in names:
                await becomes(simulator, name, "ttft100-gap1")
            await engine.until(lambda: len(engine.stored) == 12)

        told = [event for event in engine.events if isinstance(event, RunStarted | LaneState)]
        closed = max(i for i, event in enumerate(told) if isinstance(event, LaneState) and event.status == "blocked")
        opened = max(i for i, event in enumerate(told) if isinstance(event, LaneState) and event.status == "ok")
        assert opened - closed == 2
        assert isinstance(told[closed + 1], RunStarted)
        assert len(samples(engine.stored)) >= 8

    async def test_a_batch_does_not_wait_for_it(self, simulator: SpawnedSimulator, store: SQLiteStore) -> None:
        """One run is refused, the server sees one request, and the others are given up with the reason."""
        names = several(4, "401")
        batch = Batch(runs("groq", *names), "scheduled")
        await Engine([lane(settings(simulator, concurrency=1))], batch, store, probe_seconds=900.0).finish()

        assert [len(await seen(simulator, name)) for name in names] == [1, 0, 0, 0]
        ((count, reason),) = batch.given_up.values()
        assert count == 3
        assert reason.startswith("auth: ")

    async def test_a_probe_that_meets_a_bug_of_ours_opens_nothing(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """The lane is restarted, still says that it is closed, and the next run is a probe again."""
        first, bad, good = several(3)
        await becomes(simulator, first, "401")
        faulty = settings(simulator, concurrency=1)
        plan = Rotation(runs("groq", first, bad, good), {}, FRESH)
        engine = Engine([lane(faulty, partial(Faulty, faulty, KEY, bad))], plan, store)
        async with engine.running():
            await engine.until(lambda: len(samples(engine.stored)) == 1)

        assert in_order(engine) == [first, bad, good]
        assert engine.statuses("groq") == ["ok", "blocked", "restarting", "starting", "blocked", "ok", "stopped"]
        assert "auth: " in (engine.states("groq")[4].reason or "")

    async def test_a_probe_that_a_crash_took_with_it_is_made_again(
        self, simulator: SpawnedSimulator, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody waits for the answer of a probe that is lost."""
        crash_the_second(monkeypatch)
        first, good = several(2)
        await becomes(simulator, first, "401")
        plan = Rotation(runs("groq", first, good), {}, FRESH)
        engine = Engine([lane(settings(simulator, concurrency=1))], plan, store)
        async with engine.running():
            await engine.until(lambda: len(samples(engine.stored)) == 1)

        assert in_order(engine) == [first, good, good]


class Noted(Spool):
    """A spool that keeps in mind which attempts were noted, and which of them were withdrawn."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun: list[str] = []
        self.gone: list[str] = []

    def opened(self, envelope: Envelope) -> None:
        self.begun.append(envelope.outcome.id)
        super().opened(envelope)

    def withdrawn(self, *ids: str) -> None:
        self.gone.extend(ids)
        super().withdrawn(*ids)


class TestAttempts:
    """What the spool is told of each run, should the program be killed."""

    async def test_a_lane_that_crashes_withdraws_its_attempt(
        self, simulator: SpawnedSimulator, store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The run is made again under its id and has one outcome; none is left open to be told as interrupted."""
        crash_the_second(monkeypatch)
        batch = Batch(runs("groq", *several(3)), "scheduled")
        spool = Noted(tmp_path / "spool")
        await spool.open()
        lanes = [lane(settings(simulator, concurrency=1))]
        engine = await Engine(lanes, batch, store, buffer=Buffer(spool=spool)).finish()

        crashed = spool.begun[1]
        assert spool.gone == [crashed]
        assert spool.begun.count(crashed) == 2
        assert len(spool.begun) == 4
        assert sorted(run.id for run in samples(engine.stored)) == sorted(set(spool.begun))
        assert (await spool.counts()).in_flight == 0
        await spool.close()
        assert await spool.open() == []
        await spool.close()

    async def test_an_attempt_that_was_withdrawn_is_not_told_as_interrupted(
        self, simulator: SpawnedSimulator, store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed while the crashed lane rests, the next start finds no attempt: nothing is known to have been sent."""

        class Breaking(Attempt):
            async def run(self) -> Outcome:
                raise RuntimeError("provoked")

        monkeypatch.setattr(provider_module, "Attempt", Breaking)
        spool = Noted(tmp_path / "spool")
        await spool.open()
        plan = Rotation(runs("groq", unique()), {}, FRESH)
        engine = Engine([lane(settings(simulator))], plan, store, buffer=Buffer(spool=spool))
        async with engine.running():
            await engine.until(lambda: "down" in engine.statuses("groq"))
            assert len(spool.begun) > 1
            assert spool.gone == spool.begun
            await spool.counts()  # which is answered once all that was told before is written
            with crashed(tmp_path / "spool", tmp_path / "left") as folder:
                after = Spool(folder)
                assert await after.open() == []
                await after.close()
        await spool.close()


class TestPauses:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llmbench.actors.breaker._PAUSE_FIRST", 0.2)

    async def test_a_rate_limit_is_obeyed_and_slows_the_lane(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """It waits as long as the provider asks, then goes on at half the rate; its neighbour goes on at its own."""
        limited, *others = several(4)
        await becomes(simulator, limited, "429-retry1")
        batch = Batch(runs("groq", limited, *others) + runs("together", *several(5)), "scheduled")
        slow = settings(simulator, concurrency=3, requests_per_minute=600.0)
        engine = await Engine([lane(slow), lane(settings(simulator, "together"))], batch, store).finish()

        (refused,) = failures(engine.stored)
        blocked = engine.states("groq")[1]
        after = [run for run in engine.started() if run.provider == "groq" and run.at > blocked.at]
        assert (refused.error_kind, refused.retry_after) == ("rate_limit", 1.0)
        assert (blocked.status, blocked.until) == ("blocked", blocked.at + timedelta(seconds=1))
        assert after[0].at >= blocked.at + timedelta(seconds=1)
        assert min(gaps(after)) >= 0.15
        assert len(samples(engine.stored)) == 8
        assert engine.events.index(after[0]) > max(
            index
            for index, event in enumerate(engine.events)
            if isinstance(event, RunFinished) and event.provider == "together"
        )

    async def test_a_provider_that_is_not_there_is_asked_ever_more_slowly(
        self, simulator: SpawnedSimulator, store: SQLiteStore
    ) -> None:
        """Each run is an outcome of its own; from the third refused connection on the lane pauses, longer each time."""
        names = several(5)
        absent = unreachable(settings(simulator, concurrency=1))
        engine = await Engine([lane(absent)], Batch(runs("groq", *names), "scheduled"), store).finish()

        assert [failed.error_cause for failed in failures(engine.stored)] == ["connect_refused"] * 5
        assert engine.statuses("groq") == ["ok", "blocked", "blocked", "blocked", "stopped"]
        assert gaps(engine.started())[2] >= 0.2
        assert gaps(engine.started())[3] >= 0.4


def unreachable(provider: ResolvedProvider) -> ResolvedProvider:
    """Return the same provider at a port where nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return msgspec.structs.replace(provider, base_url=f"http://127.0.0.1:{port}/v1")

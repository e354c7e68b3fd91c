"""What whoever comes later learns first: how things are, and then everything that happens, once."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
from hypothesis import given
from hypothesis import strategies as st

from llmbench.actors import latest as module
from llmbench.actors.bus import Bus, Subscription
from llmbench.actors.latest import Latest
from llmbench.messages import (
    EngineFigures,
    LaneFigures,
    LaneState,
    LaneStatus,
    LiveEvent,
    RunFinished,
    RunProgress,
    RunStarted,
    StoreState,
)
from tests.stores.documents import NOON, moment, sample

LIMIT = 5.0


def started(number: int, lane: str = "groq") -> RunStarted:
    return RunStarted(outcome_id=str(number), provider=lane, model_id=f"m{number}", at=NOON)


def finished(number: int, lane: str = "groq") -> RunFinished:
    return RunFinished(provider=lane, model_id=f"m{number}", outcome=sample(id=str(number)))


def progress(number: int = 1) -> RunProgress:
    return RunProgress(outcome_id=str(number), provider="groq", model_id="m", visible_chunks=1, text="a", elapsed=0.1)


def state(lane: str = "groq", status: LaneStatus = "ok", minutes: float = 0) -> LaneState:
    return LaneState(lane=lane, status=status, at=moment(minutes))


def store(waiting: int = 0) -> StoreState:
    return StoreState(status="ok", at=NOON, waiting=waiting)


def lane_figures(lane: str = "groq", due: int = 0) -> LaneFigures:
    return LaneFigures(lane=lane, at=NOON, models=3, in_flight=1, due=due, concurrency=2, requests_per_minute=60.0)


def engine_figures(lag: float = 0.001) -> EngineFigures:
    return EngineFigures(
        at=NOON,
        started_at=NOON,
        version="1",
        runner_id="r",
        store="s",
        lanes=("groq",),
        clock="kernel",
        loop_lag=lag,
    )


def after(*events: LiveEvent) -> Latest:
    latest = Latest()
    for event in events:
        latest.note(event)
    return latest


async def rest(subscription: Subscription) -> list[LiveEvent]:
    with anyio.fail_after(LIMIT):
        return [each async for each in subscription]


class TestLatest:
    def test_the_last_of_each_thing_is_told(self) -> None:
        """The engine first, then the store, the actors, the lanes' figures, the runs that ended, those in flight."""
        latest = after(
            started(1),
            state(status="starting"),
            state("openai"),
            store(9),
            lane_figures(due=7),
            engine_figures(),
            started(2),
            started(3),
            progress(2),
            finished(2),
            state(status="blocked"),
            store(1),
            lane_figures(due=2),
            engine_figures(0.5),
        )
        told = (engine_figures(0.5), store(1), state(status="blocked"), state("openai"), lane_figures(due=2))
        assert latest.events() == (*told, finished(2), started(1), started(3))

    def test_the_last_runs_of_each_lane_are_told_in_their_order(self) -> None:
        """Or a lane that failed an hour ago, and rests, would look to a viewer as if it had done nothing."""
        most = module._ENDED_RUNS
        mine = [finished(number) for number in range(most + 5)]
        latest = after(finished(900, "openai"), *mine, finished(901, "openai"))
        assert latest.events() == (finished(900, "openai"), *mine[5:], finished(901, "openai"))

    def test_figures_that_nobody_had_made_lately_are_not_told(self) -> None:
        latest = after(store(), lane_figures(), engine_figures(), started(1))
        assert latest.events(figures=False) == (store(), started(1))

    def test_a_lane_that_crashed_streams_nothing(self) -> None:
        """Its runs end without a word of them; those of others go on."""
        for status in ("restarting", "down", "stopped"):
            latest = after(started(1), started(2, "openai"), state(status=status))
            assert latest.events() == (state(status=status), started(2, "openai"))
        assert after(started(1), state(status="blocked")).events()[-1] == started(1)

    def test_it_does_not_grow_without_bound(self) -> None:
        """Should ends of runs never come, the oldest are forgotten."""
        most = module._MOST_RUNS
        assert after(*map(started, range(most + 10))).events() == tuple(map(started, range(10, most + 10)))


class TestWatching:
    async def test_nothing_is_lost_or_doubled_in_between(self) -> None:
        """What was before comes as it is now, what comes after comes as it comes."""
        bus = Bus()
        for event in (state(), started(1), finished(1), started(2)):
            bus.publish(event)
        with bus.watch() as watching:
            bus.publish(finished(2))
            bus.publish(started(3))
            bus.close()
            assert await rest(watching) == [state(), finished(1), started(2), finished(2), started(3)]

    async def test_how_things_are_is_never_dropped(self) -> None:
        """A ring that is too small for what comes loses of that alone."""
        bus = Bus()
        for number in range(10):
            bus.publish(started(number))
        with bus.watch(capacity=2) as watching:
            for number in range(10):
                bus.publish(finished(number))
            bus.close()
            assert (watching.waiting, watching.dropped) == (12, 8)
            assert await rest(watching) == [*map(started, range(10)), finished(8), finished(9)]

    async def test_figures_are_for_those_who_want_them(self) -> None:
        """A watcher wants them, with progress or without; who counts for itself gets none, and asks for none."""
        bus = Bus()
        with bus.subscribe(progress=False) as counting:
            wanted = [bus.attended]
            with bus.watch(progress=False) as watching:
                wanted += [bus.attended, bus.watched]
                for event in (lane_figures(), progress(), engine_figures()):
                    bus.publish(event)
                with bus.watch() as late:
                    bus.close()
                    assert await rest(late) == [engine_figures(), lane_figures()]
                assert await rest(watching) == [lane_figures(), engine_figures()]
            assert await rest(counting) == []
        with bus.watch() as alone:
            assert await rest(alone) == []
        assert wanted == [False, True, False]

    async def test_who_waits_for_somebody_is_told(self) -> None:
        """At once, if somebody is there already."""
        bus = Bus()
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(bus.until_attended)
                with bus.subscribe(progress=False):
                    await anyio.wait_all_tasks_blocked()
                    assert group.cancel_scope.cancel_called is False
                    assert not bus.attended
                with bus.watch():
                    await bus.until_attended()
                    await anyio.wait_all_tasks_blocked()

    @given(st.lists(st.sampled_from(["start", "finish", "state", "store", "crash"]), max_size=30), st.integers(0, 30))
    def test_a_viewer_ends_up_knowing_the_same_whenever_it_came(self, steps: list[str], came: int) -> None:
        """Who starts from how things are, and takes what comes, knows what one from the beginning does."""
        events = _events(steps)
        late = after(*after(*events[:came]).events(), *events[came:])
        assert sorted(map(repr, late.events())) == sorted(map(repr, after(*events).events()))


def _events(steps: list[str]) -> list[LiveEvent]:
    made: list[LiveEvent] = []
    for number, step in enumerate(steps):
        at = datetime.fromtimestamp(1_700_000_000 + number, UTC)
        match step:
            case "start":
                made.append(started(number))
            case "finish":
                made.append(finished(number // 2))
            case "state":
                made.append(LaneState(lane=f"l{number % 3}", status="ok", at=at))
            case "crash":
                made.append(LaneState(lane="groq", status="restarting", at=at))
            case _:
                made.append(store(number))
    return made

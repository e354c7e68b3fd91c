"""One actor under supervision: it is restarted, its crashes are counted, and every change of state is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.actors.bus import Bus, Subscription
from llmbench.actors.supervision import ActorDown, RestartBudget, Supervised, describe
from llmbench.clock import SystemClock
from llmbench.messages import LaneState

LIMIT = 5.0


def exact(low: float, high: float) -> float:
    """Stand in for the jitter: the middle."""
    return (low + high) / 2


def budget(**limits: Any) -> RestartBudget:
    return RestartBudget(**limits, jitter=exact)


class TestRestartBudget:
    def test_each_crash_waits_twice_as_long(self) -> None:
        """From the first delay on, doubling, up to the longest."""
        limits = budget(first=1.0, longest=10.0, burst=100)

        assert [limits.crashed(now) for now in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]

    def test_too_many_in_the_window_need_a_rest(self) -> None:
        """One more than the burst, and it waits for long instead of trying again and again."""
        limits = budget(burst=2, rest=900.0)

        assert [limits.crashed(0.0) for _ in range(4)] == [1.0, 2.0, 900.0, 900.0]
        assert limits.exhausted

    def test_old_crashes_are_forgotten(self) -> None:
        """What lies before the window neither counts nor delays."""
        limits = budget(burst=2, window=300.0)
        for now in (0.0, 1.0, 2.0):
            limits.crashed(now)

        assert limits.crashed(302.5) == 1.0
        assert (limits.recent, limits.exhausted) == (1, False)

    @given(st.lists(st.floats(0, 400), max_size=50))
    def test_a_delay_is_bounded_and_spread(self, gaps: list[float]) -> None:
        """Whenever crashes come, the next start is three quarters of a second to a rest away."""
        limits, now = RestartBudget(), 0.0
        for gap in gaps:
            now += gap
            delay = limits.crashed(now)
            assert delay == 900.0 if limits.exhausted else 0.75 <= delay <= 1.25 * 60.0


class Fragile:
    """An actor that crashes so often, and then works until it is told to end."""

    def __init__(self, crashes: int, error: Callable[[], Exception] = lambda: RuntimeError("provoked")) -> None:
        self.starts = 0
        self.works = anyio.Event()
        self.end = anyio.Event()
        self._crashes = crashes
        self._error = error

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self._crashes:
            raise self._error()
        self.works.set()
        await self.end.wait()


def supervise(
    actor: Fragile, bus: Bus, limits: RestartBudget, on_down: Callable[[str], None] | None = None
) -> Supervised:
    return Supervised("groq", actor.run, bus, SystemClock(), limits, on_down)


async def states(bus: Bus, subscription: Subscription) -> list[LaneState]:
    """Return all that was told, in order."""
    bus.close()
    told = [each async for each in subscription]
    assert all(isinstance(each, LaneState) for each in told)
    return [each for each in told if isinstance(each, LaneState)]


async def told_until_it_works(supervised: Supervised, actor: Fragile, bus: Bus) -> list[LaneState]:
    """Run an actor until it works, and then to its end; return all that was told."""
    with bus.subscribe() as subscription, anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(supervised.run)
            await actor.works.wait()
            assert supervised.down is None
            actor.end.set()
        return await states(bus, subscription)


class TestSupervised:
    async def test_one_that_does_not_say_how_it_is_counts_as_well_again(self) -> None:
        """Or one crash, long ago, would leave it "starting" for ever, for the dashboard and for `/health`."""
        bus, actor = Bus(), Fragile(crashes=1)
        supervised = Supervised("sink", actor.run, bus, SystemClock(), budget(first=0.01), announces=False)
        told = await told_until_it_works(supervised, actor, bus)

        assert [state.status for state in told] == ["restarting", "starting", "ok", "stopped"]

    async def test_a_crash_is_followed_by_a_restart_that_everybody_sees(self, caplog: pytest.LogCaptureFixture) -> None:
        """Each crash is told with its reason and the time of the next start, then the start itself."""
        bus, actor = Bus(), Fragile(crashes=2)
        supervised = supervise(actor, bus, budget(first=0.01))
        told = await told_until_it_works(supervised, actor, bus)

        assert [state.status for state in told] == ["restarting", "starting", "restarting", "starting", "stopped"]
        assert [state.restarts for state in told] == [1, 1, 2, 2, 2]
        first, _, second, *_ = told
        assert first.lane == "groq"
        assert first.reason == "crashed: RuntimeError: provoked; restart 1 in 0.0 s"
        assert second.until is not None
        assert second.until - second.at == timedelta(seconds=0.02)
        tracebacks = [record for record in caplog.records if record.exc_info]
        assert [record.levelno for record in tracebacks] == [logging.ERROR] * 2

    async def test_one_that_returns_by_itself_is_not_restarted(self) -> None:
        """It has stopped, and says so."""
        bus, actor = Bus(), Fragile(crashes=0)
        actor.end.set()
        supervised = supervise(actor, bus, budget())
        with bus.subscribe() as subscription, anyio.fail_after(LIMIT):
            await supervised.run()

            assert [state.status for state in await states(bus, subscription)] == ["stopped"]
        assert (actor.starts, supervised.restarts, supervised.down) == (1, 0, None)

    async def test_what_a_restart_cannot_cure_is_down_at_once(self) -> None:
        """A key that is not set burns no budget: the lane is down with the sentence that says what to do."""
        bus, reasons = Bus(), list[str]()
        actor = Fragile(1, lambda: ActorDown("environment variable 'GROQ_API_KEY' is not set: set it to the key"))
        supervised = supervise(actor, bus, budget(), reasons.append)
        with bus.subscribe() as subscription, anyio.fail_after(LIMIT):
            await supervised.run()
            (state,) = await states(bus, subscription)

        assert (state.status, state.until) == ("down", None)
        assert reasons == [state.reason] == [supervised.down]
        assert actor.starts == 1

    async def test_what_time_may_cure_is_looked_at_again(self) -> None:
        """A lane without credentials is down, says until when, burns no budget, and starts once they are there."""
        bus = Bus()
        actor = Fragile(2, lambda: ActorDown("no AWS credentials were found: set AWS_PROFILE", rest=0.01))
        supervised = supervise(actor, bus, budget(burst=0))
        told = await told_until_it_works(supervised, actor, bus)

        assert [state.status for state in told] == ["down", "starting", "down", "starting", "stopped"]
        assert told[0].until is not None
        assert supervised.restarts == 0

    async def test_one_that_keeps_dying_is_down_but_tried_again_after_a_rest(self) -> None:
        """More crashes than the burst are told as down, with a time, and that time comes."""
        bus, reasons = Bus(), list[str]()
        actor = Fragile(crashes=3)
        supervised = supervise(actor, bus, budget(first=0.001, burst=2, rest=0.05), reasons.append)
        told = await told_until_it_works(supervised, actor, bus)

        (down,) = [state for state in told if state.status == "down"]
        assert reasons == [down.reason] == ["crashed: RuntimeError: provoked; restart 3 in 0.1 s"]
        assert down.until is not None
        assert [state.status for state in told[-2:]] == ["starting", "stopped"]

    async def test_stopping_ends_the_wait_for_a_restart(self) -> None:
        """Nobody waits a quarter of an hour for a lane that would not be started again anyhow."""
        bus, actor = Bus(), Fragile(crashes=10)
        supervised = supervise(actor, bus, budget(first=1000.0, longest=1000.0))
        with bus.subscribe() as subscription, anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(supervised.run)
                state = await anext(subscription)
                assert isinstance(state, LaneState)
                assert state.status == "restarting"
                supervised.stop()

        assert actor.starts == 1

    async def test_one_that_was_stopped_before_it_ran_does_not_start(self) -> None:
        """A stop that comes first is not overtaken."""
        actor = Fragile(crashes=0)
        supervised = supervise(actor, Bus(), budget())
        supervised.stop()
        with anyio.fail_after(LIMIT):
            await supervised.run()

        assert actor.starts == 0

    async def test_cancellation_is_no_crash(self) -> None:
        """It passes through: nothing is restarted and nothing is counted."""
        bus, actor = Bus(), Fragile(crashes=0)
        supervised = supervise(actor, bus, budget())
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(supervised.run)
                await actor.works.wait()
                group.cancel_scope.cancel()

        assert (actor.starts, supervised.restarts) == (1, 0)


def test_an_error_is_described_in_a_line() -> None:
    """Of a group, however deep, the first leaf is what people want to read."""
    leaf = ValueError("no such thing")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [leaf, KeyError("other")])])

    assert describe(leaf) == describe(group) == "ValueError: no such thing"

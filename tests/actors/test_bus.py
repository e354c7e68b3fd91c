"""The bus: everybody hears everything, nobody is waited for."""

from __future__ import annotations

import itertools

import anyio
import pytest
from anyio.lowlevel import checkpoint

from llmbench.actors.bus import Bus, Subscription
from llmbench.messages import LiveEvent, RunProgress, RunStarted
from tests.stores.documents import NOON

LIMIT = 5.0


def event(number: int) -> RunStarted:
    return RunStarted(outcome_id=str(number), provider="openai", model_id="gpt", at=NOON)


async def rest(subscription: Subscription) -> list[LiveEvent]:
    """Return all that is still to come, once the bus is closed."""
    with anyio.fail_after(LIMIT):
        return [each async for each in subscription]


async def test_every_subscriber_hears_everything_in_order() -> None:
    """Two subscribers each get each event, and nothing from before they came."""
    bus = Bus()
    bus.publish(event(0))
    with bus.subscribe() as first, bus.subscribe() as second:
        for number in (1, 2, 3):
            bus.publish(event(number))
        bus.close()

        assert await rest(first) == await rest(second) == [event(1), event(2), event(3)]
        assert (first.dropped, second.dropped) == (0, 0)


async def test_a_slow_subscriber_loses_the_oldest_and_knows_how_many() -> None:
    """Its ring holds the newest events; what was pushed out is counted, and nobody else loses anything."""
    bus = Bus()
    with bus.subscribe(capacity=3) as slow, bus.subscribe() as quick:
        for number in range(10):
            bus.publish(event(number))
        bus.close()

        assert await rest(slow) == [event(7), event(8), event(9)]
        assert slow.dropped == 7
        assert len(await rest(quick)) == 10
        assert quick.dropped == 0


async def test_a_reader_that_waits_is_woken_by_the_next_event() -> None:
    """One that was there first gets events as they are published, and ends with the bus."""
    bus = Bus()
    heard: list[LiveEvent] = []
    with bus.subscribe() as subscription:

        async def listen() -> None:
            heard.extend([each async for each in subscription])

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                for number in (1, 2):
                    await anyio.wait_all_tasks_blocked()
                    bus.publish(event(number))
                await anyio.wait_all_tasks_blocked()
                bus.close()
    assert heard == [event(1), event(2)]


async def test_publishing_never_gives_way() -> None:
    """Not even with a full ring does it wait, or let another task run in the middle of a measurement."""
    bus, turns = Bus(), itertools.count()
    running = anyio.Event()

    async def count_turns() -> None:
        while True:
            next(turns)
            running.set()
            await checkpoint()

    with bus.subscribe(capacity=1) as subscription:
        async with anyio.create_task_group() as group:
            group.start_soon(count_turns)
            await running.wait()
            before = next(turns)
            for number in range(5000):
                bus.publish(event(number))
            assert next(turns) == before + 1
            group.cancel_scope.cancel()
        assert subscription.dropped == 4999


async def test_it_knows_whether_anybody_listens() -> None:
    """Events that cost something are made only for somebody, and a subscriber that left, however, is nobody."""
    bus = Bus()
    watched = [bus.watched]
    with bus.subscribe():
        watched.append(bus.watched)
    watched.append(bus.watched)
    with pytest.raises(RuntimeError), bus.subscribe():
        raise RuntimeError("the viewer broke")
    watched.append(bus.watched)

    assert watched == [False, True, False, False]


async def test_who_wants_no_progress_gets_none_and_makes_nobody_tell_of_it() -> None:
    """Figures need the ends of runs alone; how streams fill is told only if somebody looks at it."""
    bus = Bus()
    progress = RunProgress(outcome_id="1", provider="openai", model_id="gpt", visible_chunks=1, text="a", elapsed=0.1)
    with bus.subscribe(progress=False) as figures:
        watched = [bus.watched]
        with bus.subscribe() as screen:
            watched.append(bus.watched)
            for told in (event(1), progress):
                bus.publish(told)
            bus.close()

            assert (await rest(screen), await rest(figures)) == ([event(1), progress], [event(1)])
    assert watched == [False, True]


async def test_who_comes_after_the_end_is_not_kept_waiting() -> None:
    """A viewer that attaches while the engine stops ends at once, too."""
    bus = Bus()
    bus.close()
    with bus.subscribe() as subscription:
        assert await rest(subscription) == []

"""The sink: stored first, acknowledged then; nothing is lost on the way and nothing is told too early."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.actors import sink as module
from llmbench.actors.bus import Bus, Subscription
from llmbench.actors.sink import Sink
from llmbench.clock import SystemClock
from llmbench.messages import Acknowledged, Envelope, NotStored, Outcome, SchedulerMessage, StoreState
from llmbench.stores.base import StoreError, Verdict
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import LIMIT, ids, in_store
from tests.stores.documents import envelope, envelopes, failure, moment, sample


class Wayward(SQLiteStore):
    """A real store that can be told to fail so many times, or to refuse an outcome; it notes the batches it got."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fails = 0
        self.refuses: set[str] = set()
        self.batches: list[list[str]] = []

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        self.batches.append([item.outcome.id for item in items])
        if self.fails:
            self.fails -= 1
            raise StoreError("the disk is slow today")
        good = [item for item in items if item.outcome.id not in self.refuses]
        verdicts = {verdict.id: verdict for verdict in await super().put(good)}
        refused = Verdict("", "rejected", "it holds an odd number of beans")
        return [verdicts.get(item.outcome.id, refused) for item in items]


@pytest.fixture
async def wayward(tmp_path: Path) -> AsyncIterator[Wayward]:
    store = Wayward(tmp_path / "wayward.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_FIRST", 0.01)


class Around(NamedTuple):
    """A sink's surroundings: what goes in, what is told the scheduler, what the bus hears."""

    sink: Sink
    outcomes: MemoryObjectSendStream[Envelope]
    told: MemoryObjectReceiveStream[SchedulerMessage]
    heard: Subscription

    async def drain(self) -> list[SchedulerMessage]:
        """Close the way in, run the sink to its end, and return all that it told."""
        self.outcomes.close()
        with anyio.fail_after(LIMIT):
            await self.sink.run()
        return self.so_far()

    def so_far(self) -> list[SchedulerMessage]:
        return [self.told.receive_nowait() for _ in range(self.told.statistics().current_buffer_used)]

    def store_states(self) -> list[StoreState]:
        return [event for event in self.heard._ring if isinstance(event, StoreState)]


def ignore(_outcome: Outcome) -> None:
    """Stand in for the log."""


@asynccontextmanager
async def sink_on(store: SQLiteStore, on_stored: Callable[[Outcome], None] = ignore) -> AsyncIterator[Around]:
    bus = Bus()
    way_in, outcomes = anyio.create_memory_object_stream[Envelope](1000)
    inbox, told = anyio.create_memory_object_stream[SchedulerMessage](1000)
    with way_in, outcomes, inbox, told, bus.subscribe() as heard:
        yield Around(Sink(store, outcomes, inbox, bus, SystemClock(), on_stored), way_in, told, heard)


def acknowledged(messages: Sequence[SchedulerMessage]) -> list[str]:
    return sorted(message.outcome_id for message in messages if isinstance(message, Acknowledged))


async def test_what_is_stored_is_acknowledged_with_what_scheduling_needs(store: SQLiteStore) -> None:
    """The run's time, whether it was good, and of a failure its kind and the delay that was asked for."""
    good = sample(run_ts=moment(3))
    bad = failure(run_ts=moment(4), error_kind="rate_limit", retry_after=7.5)
    async with sink_on(store) as around:
        for each in envelopes(good, bad):
            around.outcomes.send_nowait(each)

        assert await around.drain() == [
            Acknowledged(outcome_id=good.id, provider=good.provider, model_id=good.model_name, ok=True, at=moment(3)),
            Acknowledged(
                outcome_id=bad.id,
                provider=bad.provider,
                model_id=bad.model_name,
                ok=False,
                at=moment(4),
                error_kind="rate_limit",
                retry_after=7.5,
            ),
        ]
    assert ids(await in_store(store)) == ids([good, bad])


async def test_what_comes_together_is_stored_together(wayward: Wayward) -> None:
    """Batches of up to 64, in order; one commit serves many outcomes."""
    outcomes = [sample() for _ in range(150)]
    async with sink_on(wayward) as around:
        for each in outcomes:
            around.outcomes.send_nowait(envelope(each))
        told = await around.drain()

    assert [len(batch) for batch in wayward.batches] == [64, 64, 22]
    assert [message.outcome_id for message in told if isinstance(message, Acknowledged)] == [o.id for o in outcomes]


async def test_nothing_is_acknowledged_while_the_store_fails_and_nothing_is_lost(wayward: Wayward) -> None:
    """It tries the same batch again until the store has spoken; the trouble and its end are told on the bus."""
    wayward.fails = 3
    stored: list[Outcome] = []
    async with sink_on(wayward, stored.append) as around:
        outcomes = [sample() for _ in range(5)]
        for each in outcomes:
            around.outcomes.send_nowait(envelope(each))
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(around.sink.run)
                while wayward.fails:
                    await anext(around.heard)
                    assert not around.so_far()
                    assert not stored
                    assert around.sink.waiting == 5
                around.outcomes.close()

        assert acknowledged(around.so_far()) == ids(outcomes) == ids(stored) == ids(await in_store(wayward))
        assert wayward.batches == [[outcome.id for outcome in outcomes]] * 4
        assert (around.sink.recorded, around.sink.waiting) == (5, 0)


async def test_the_state_of_the_store_is_told(wayward: Wayward) -> None:
    """Failing with the reason and how much waits, each time; ok once, when it works again; nothing if it always did."""
    wayward.fails = 2
    async with sink_on(wayward) as around:
        around.outcomes.send_nowait(envelope(sample()))
        await around.drain()
        states = around.store_states()

    assert [(state.status, state.reason, state.waiting) for state in states] == [
        ("failing", "the disk is slow today", 1),
        ("failing", "the disk is slow today", 1),
        ("ok", None, 1),
    ]


async def test_a_refused_outcome_is_told_and_holds_nothing_up(
    wayward: Wayward, caplog: pytest.LogCaptureFixture
) -> None:
    """The scheduler and the log learn the store's reason; the others of its batch are stored and acknowledged."""
    good, bad, other = sample(), failure(), sample()
    wayward.refuses.add(bad.id)
    async with sink_on(wayward) as around:
        for each in envelopes(good, bad, other):
            around.outcomes.send_nowait(each)
        told = await around.drain()

    assert acknowledged(told) == ids([good, other]) == ids(await in_store(wayward))
    assert [message for message in told if isinstance(message, NotStored)] == [
        NotStored(
            outcome_id=bad.id,
            provider=bad.provider,
            model_id=bad.model_name,
            reason="it holds an odd number of beans",
        )
    ]
    assert (around.sink.recorded, around.sink.refused) == (2, 1)
    assert bad.id in caplog.text
    assert "odd number of beans" in caplog.text


async def test_a_conflict_is_refused_and_changes_nothing(store: SQLiteStore) -> None:
    """The same id with other content: the row that was there first stays, and it is no acknowledgement."""
    first = sample(output_tokens=64)
    await store.put([envelope(first)])
    async with sink_on(store) as around:
        around.outcomes.send_nowait(envelope(sample(id=first.id, output_tokens=1)))
        (told,) = await around.drain()

    assert isinstance(told, NotStored)
    assert await in_store(store) == [first]


async def test_a_second_copy_is_acknowledged_like_the_first(store: SQLiteStore) -> None:
    """What was stored already, for a batch was repeated, is durable all the same."""
    twice = sample()
    async with sink_on(store) as around:
        for _ in range(2):
            around.outcomes.send_nowait(envelope(twice))
        told = await around.drain()

    assert acknowledged(told) == [twice.id] * 2
    assert ids(await in_store(store)) == [twice.id]


async def test_a_crash_in_the_middle_of_a_batch_costs_no_acknowledgement(store: SQLiteStore) -> None:
    """Whoever is told of stored outcomes breaks at the second of four: run again, the sink settles the others."""
    outcomes = [sample() for _ in range(4)]
    shown: list[str] = []

    def show(outcome: Outcome) -> None:
        shown.append(outcome.id)
        if outcome.id == outcomes[1].id:
            raise BrokenPipeError("nobody reads")

    async with sink_on(store, show) as around:
        for each in outcomes:
            around.outcomes.send_nowait(envelope(each))
        with pytest.raises(BrokenPipeError):
            await around.drain()
        assert around.sink.waiting == 2
        told = around.so_far() + await around.drain()

    assert acknowledged(told) == ids(outcomes) == ids(await in_store(store))
    assert shown == [outcome.id for outcome in outcomes]


async def test_a_crash_of_the_store_itself_loses_no_batch(wayward: Wayward, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no store should raise ends the run; the batch is the first thing that the next one stores."""
    outcomes = [sample() for _ in range(3)]
    async with sink_on(wayward) as around:
        for each in outcomes:
            around.outcomes.send_nowait(envelope(each))
        with monkeypatch.context() as broken:
            broken.setattr(wayward, "put", _raise)
            with pytest.raises(ZeroDivisionError):
                await around.drain()
        assert around.so_far() == []

        assert acknowledged(await around.drain()) == ids(outcomes)


async def _raise(_items: Sequence[Envelope]) -> list[Verdict]:
    raise ZeroDivisionError

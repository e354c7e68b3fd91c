"""The delivery by itself, between a real spool and a store that does odd things: nothing is lost, blamed or stopped."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from llmbench.actors import delivery as module
from llmbench.actors.bus import Bus
from llmbench.actors.delivery import Delivery
from llmbench.actors.spool_level import SpoolLevel
from llmbench.actors.supervision import ActorDown
from llmbench.clock import SystemClock
from llmbench.messages import Envelope, Hold, SchedulerMessage
from llmbench.stores.base import Store, Verdict
from llmbench.stores.spool import Limits, Spool, SpoolFailed, SpoolFull
from tests.actors.engine import LIMIT
from tests.stores.documents import envelope, failure
from tests.stores.spooling import exported, filled

Answer = Callable[[Sequence[Envelope]], list[Verdict]]


class Odd:
    """A store that answers as it is told to, and keeps what it was asked."""

    description = "odd store"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[list[str]] = []

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        self.asked.append([item.outcome.id for item in items])
        return self._answer(items)


class Bench:
    """A delivery, and what it tells the scheduler."""

    def __init__(self, spool: Spool, answer: Answer) -> None:
        clock, bus = SystemClock(), Bus()
        self._outbox, self.inbox = anyio.create_memory_object_stream[SchedulerMessage](math.inf)
        self.level = SpoolLevel(spool, self._outbox, bus, clock)
        self.store = Odd(answer)
        self.delivery = Delivery(spool, cast("Store", self.store), self.level, bus, clock)

    async def finish(self) -> None:
        """Deliver what is due, then end."""
        self.delivery.drain(patience=LIMIT)
        with anyio.fail_after(LIMIT):
            await self.delivery.run()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._outbox.close()
        self.inbox.close()

    def holds(self) -> list[bool]:
        """Return whether nothing new was to be started, as the scheduler was told so far."""
        told = []
        while self.inbox.statistics().current_buffer_used:
            message = self.inbox.receive_nowait()
            assert isinstance(message, Hold)
            told.append(message.reason is not None)
        return told


@asynccontextmanager
async def live_spool(folder: Path, **limits: Any) -> AsyncIterator[Spool]:
    spool = Spool(folder, limits=Limits(group_seconds=0.0, **limits))
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with live_spool(tmp_path / "spool") as spool:
        yield spool


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_WHILE_DRAINING", 0.01)


def stored(items: Sequence[Envelope]) -> list[Verdict]:
    return [Verdict(item.outcome.id, "stored") for item in items]


async def test_verdicts_count_for_their_own_ids(spool: Spool) -> None:
    """In whatever order they come; an outcome that is not named, or twice, is tried again, and so is none of others."""
    first, second, third, fourth = (item.outcome.id for item in await filled(spool, 4))

    def answer(items: Sequence[Envelope]) -> list[Verdict]:
        if len(items) < 4:
            return stored(items)
        return [
            Verdict(third, "rejected"),
            Verdict(first, "stored"),
            Verdict(fourth, "stored"),
            Verdict(fourth, "rejected"),
            Verdict("of-nobody", "stored"),
        ]

    with Bench(spool, answer) as bench:
        await bench.finish()
    assert [kept.id for kept in await exported(spool, "quarantined")] == [third]
    assert bench.store.asked == [[first, second, third, fourth], [second, fourth]]
    assert {kept.id for kept in await exported(spool, "delivered")} == {first, second, fourth}


async def test_the_end_does_not_leave_what_was_put_off(spool: Spool) -> None:
    """An outcome of which nothing was known a moment ago is tried once more before a round ends."""
    items = await filled(spool, 3)
    odd = items[0].outcome.id

    def answer(items: Sequence[Envelope]) -> list[Verdict]:
        return [
            Verdict(item.outcome.id, "unknown" if item.outcome.id == odd and len(items) > 1 else "stored")
            for item in items
        ]

    with Bench(spool, answer) as bench:
        await bench.finish()
    assert bench.store.asked[1:] == [[odd]]
    assert (await spool.counts()).waiting == 0


async def test_a_store_that_says_nothing_costs_one_commit(spool: Spool) -> None:
    """Outcomes are put off together: a commit for each would hold up what is being recorded."""
    await filled(spool, 50)
    before = spool.commits
    with Bench(spool, lambda _: []) as bench:
        bench.delivery.drain(patience=LIMIT)
        await bench.delivery._round()
    assert spool.commits == before + 1
    assert bench.delivery.status == "failing"


async def test_no_room_to_note_what_was_delivered(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the delivery rests and tries again, as with a store that is away; it does not crash."""
    await filled(spool, 2)
    really = spool.delivered
    tries = 0

    async def full(ids: Sequence[str]) -> int:
        nonlocal tries
        tries += 1
        if tries < 8:
            raise SpoolFull("the disk is full")
        return await really(ids)

    monkeypatch.setattr(spool, "delivered", full)
    with Bench(spool, stored) as bench:
        await bench.finish()
    assert (tries, bench.delivery.status, (await spool.counts()).delivered) == (9, "ok", 2)


async def test_a_spool_that_fails_while_there_is_nothing_to_do(tmp_path: Path) -> None:
    """It is noticed at once, for what it is."""
    folder = tmp_path / "failing"
    async with live_spool(folder) as spool, anyio.create_task_group() as group:
        with Bench(spool, stored) as bench:
            group.start_soon(_break, spool, folder)
            with anyio.fail_after(LIMIT), pytest.raises(ActorDown, match="start llmbench again"):
                await bench.delivery.run()
            assert bench.delivery.spool_failed


async def _break(spool: Spool, folder: Path) -> None:
    await anyio.wait_all_tasks_blocked()
    await anyio.Path(folder / "spool.db").rename(folder / "elsewhere.db")
    with pytest.raises(SpoolFailed):
        await spool.put([envelope(failure())])


async def test_a_full_spool_is_used_again_once_all_is_delivered(tmp_path: Path) -> None:
    """Nothing is recorded while it is full, so the delivery alone has to make room, and to say that there is some."""
    async with live_spool(tmp_path / "small", cap_bytes=2**20) as spool:
        while spool.level != "paused":
            await filled(spool, 20)
        with Bench(spool, stored) as bench:
            bench.level.look()
            await bench.finish()
            assert bench.holds() == [True, False]
        assert await spool.peek(2, datetime.now(UTC)) == []

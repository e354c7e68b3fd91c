"""The delivery: out of the spool only by a positive word for each id, whatever the store says or does not say."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest

from llmbench.actors import delivery as module
from llmbench.actors.bus import Bus
from llmbench.actors.delivery import Delivery
from llmbench.actors.spool_level import SpoolLevel
from llmbench.actors.supervision import ActorDown
from llmbench.messages import Envelope, Hold, LaneState, SchedulerMessage, StoreState
from llmbench.stores.base import StoreError, StoreUnusable, Verdict
from llmbench.stores.spool import Limits, Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import LIMIT, ids, in_store
from tests.stores.documents import envelope, sample
from tests.stores.spooling import QUICK, SetClock, exported, filled

REST = Delivery._rest


class Moody(SQLiteStore):
    """A real store that does what a test says: ``fails`` with errors, one a call, or gives ids other ``verdicts``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fails: list[StoreError] = []
        self.verdicts: dict[str, Verdict] = {}
        self.gate = anyio.Event()
        self.gate.set()
        self.committed = anyio.Event()
        self.opens = 0
        self.batches: list[list[str]] = []

    async def open(self) -> None:
        self.opens += 1
        if self.fails:
            raise self.fails.pop(0)
        await super().open()

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        self.batches.append([item.outcome.id for item in items])
        if self.fails:
            raise self.fails.pop(0)
        found = await super().put([item for item in items if item.outcome.id not in self.verdicts])
        self.committed.set()
        await self.gate.wait()
        known = self.verdicts | {verdict.id: verdict for verdict in found}
        return [known[item.outcome.id] for item in items]


class Bench:
    """A delivery over a real spool and a store, what it told, and how long it rested."""

    def __init__(self, spool: Spool, store: Moody, *, opened: bool) -> None:
        self.spool = spool
        self.store = store
        self.clock = SetClock()
        self.bus = Bus()
        inbox, self.inbox = anyio.create_memory_object_stream[SchedulerMessage](math.inf)
        self.told: list[StoreState | LaneState] = []
        self._inbox_in = inbox
        level = SpoolLevel(spool, inbox, self.bus, self.clock)
        self.delivery = Delivery(spool, store, level, self.bus, self.clock, opened=opened)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it until the block ends, then drain it."""
        with anyio.fail_after(LIMIT), self.bus.subscribe() as events:
            async with anyio.create_task_group() as listeners:

                async def listen() -> None:
                    async for event in events:
                        assert isinstance(event, StoreState | LaneState)
                        self.told.append(event)

                listeners.start_soon(listen)
                async with anyio.create_task_group() as group:
                    group.start_soon(self.delivery.run)
                    yield
                    self.delivery.drain(0.0)
                self.bus.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  a store and a spool tell nobody that they have changed
            await anyio.sleep(0.005)

    def close(self) -> None:
        self._inbox_in.close()
        self.inbox.close()
        self.bus.close()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = Spool(tmp_path / "spool", limits=QUICK, clock=SetClock())
    await spool.open()
    yield spool
    await spool.close()


@pytest.fixture
async def moody(tmp_path: Path) -> AsyncIterator[Moody]:
    store = Moody(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bench(spool: Spool, moody: Moody) -> AsyncIterator[Bench]:
    bench = Bench(spool, moody, opened=True)
    yield bench
    bench.close()


@pytest.fixture(autouse=True)
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have every rest noted and be short."""
    rests: list[float] = []

    async def rest(self: Delivery, seconds: float) -> None:
        rests.append(seconds)
        await anyio.sleep(0.001)

    monkeypatch.setattr(Delivery, "_rest", rest)
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.01)
    return rests


async def states(spool: Spool) -> tuple[set[str], set[str], set[str]]:
    """Return the ids that wait, were delivered, and are in quarantine."""
    waiting, delivered, kept = [
        {one.id for one in await exported(spool, state)} for state in ("waiting", "delivered", "quarantined")
    ]
    return waiting, delivered, kept


class TestVerdicts:
    """What becomes of each outcome."""

    async def test_stored_and_duplicate_leave(self, bench: Bench) -> None:
        """A positive word for an id takes it out of the spool, also if the store had it before."""
        items = await filled(bench.spool, 5)
        await bench.store.put(items[:2])
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 5)

        assert await states(bench.spool) == (set(), {item.outcome.id for item in items}, set())
        assert ids(await in_store(bench.store)) == sorted(item.outcome.id for item in items)

    @pytest.mark.parametrize("status", ["conflict", "rejected"])
    async def test_refused_for_good(
        self, bench: Bench, caplog: pytest.LogCaptureFixture, status: Literal["conflict", "rejected"]
    ) -> None:
        """It goes into quarantine with the reason, and is told; the others are stored."""
        first, bad, last = (item.outcome.id for item in await filled(bench.spool, 3))
        bench.store.verdicts = {bad: Verdict(bad, status, "too odd")}
        async with bench.running():
            await bench.until(lambda: bench.delivery.quarantined == 1)

        assert await states(bench.spool) == (set(), {first, last}, {bad})
        (kept,) = await exported(bench.spool, "quarantined")
        assert (kept.reason, kept.error) == (status, "too odd")
        assert f"outcome {bad} of " in caplog.text
        assert "is kept in quarantine: too odd" in caplog.text
        assert bench.delivery.status == "ok"

    async def test_not_said(self, bench: Bench) -> None:
        """What the store says nothing of stays, is put off with the reason, and goes out again later."""
        good, unclear = (item.outcome.id for item in await filled(bench.spool, 2))
        bench.store.verdicts = {unclear: Verdict(unclear, "unknown", "who knows")}
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 1)
            assert await states(bench.spool) == ({unclear}, {good}, set())
            assert [one.error for one in await bench.spool.peek(2, bench.clock.time.replace(year=2100))] == [
                "who knows"
            ]
            bench.store.verdicts = {}
            await anyio.sleep(0.03)
            assert bench.delivery.stored == 1, "it is not due yet"
            bench.clock.advance(seconds=61)
            await bench.until(lambda: bench.delivery.stored == 2)


class TestAway:
    """A store that takes nothing."""

    async def test_pauses_grow(self, bench: Bench, rests: list[float], caplog: pytest.LogCaptureFixture) -> None:
        """Every failure is followed by a rest with full jitter, which grows to a minute; recovery is told, once."""
        caplog.set_level(logging.INFO)
        bench.store.fails = [StoreError("gone fishing") for _ in range(12)]
        (item,) = await filled(bench.spool, 1)
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 1)

        assert len(rests) == 12
        for tries, seconds in enumerate(rests):
            assert 0.1 <= seconds <= min(60.0, 0.5 * 2.0**tries)
        assert max(rests) > 2
        assert caplog.text.count("what is measured is kept in the spool: gone fishing") == 1
        assert caplog.text.count("the store takes outcomes again") == 1
        assert [state.status for state in bench.told] == [*["failing"] * 12, "ok"]
        assert (await states(bench.spool))[1] == {item.outcome.id}

    @pytest.mark.parametrize(("asked", "rested"), [(200.0, 200.0), (5000.0, 900.0)])
    async def test_asked_to_wait(self, bench: Bench, rests: list[float], asked: float, rested: float) -> None:
        """The store is left alone for as long as it asks, up to a quarter of an hour."""
        bench.store.fails = [StoreError("busy", retry_after=asked)]
        await filled(bench.spool, 1)
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 1)
        assert rests == [rested]

    async def test_blocked(self, bench: Bench, rests: list[float]) -> None:
        """It refuses us: it is asked once a minute, with one outcome; nothing is put in quarantine."""
        bench.store.fails = [StoreUnusable("wrong password") for _ in range(4)]
        items = await filled(bench.spool, 9)
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 9)

        assert rests == [60.0] * 4
        assert [len(batch) for batch in bench.store.batches] == [9, 1, 1, 1, 1, 2, 4, 2]
        assert {state.status for state in bench.told[:-1]} == {"blocked"}
        assert await states(bench.spool) == (set(), {item.outcome.id for item in items}, set())

    async def test_not_a_word(self, bench: Bench, rests: list[float]) -> None:
        """An answer that says nothing of any outcome is no answer: the store is away."""
        (item,) = await filled(bench.spool, 1)
        one = item.outcome.id
        bench.store.verdicts = {one: Verdict(one, "unknown", "nobody home")}
        async with bench.running():
            await bench.until(lambda: bench.delivery.status == "failing")
            assert bench.delivery.reason == "nobody home"
            bench.store.verdicts = {}
            bench.clock.advance(seconds=61)
            await bench.until(lambda: bench.delivery.stored == 1)
        assert len(rests) == 1

    async def test_not_open_yet(self, spool: Spool, tmp_path: Path) -> None:
        """A store that could not be opened at the start is opened by the delivery, once it answers."""
        store = Moody(tmp_path / "later.db")
        store.fails = [StoreError("not yet"), StoreError("not yet")]
        bench = Bench(spool, store, opened=False)
        await filled(spool, 3)
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 3)
        assert store.opens == 3
        await store.close()
        bench.close()


class TestEnd:
    """Draining, and being cut off."""

    async def test_patience(self, bench: Bench) -> None:
        """What ends by itself gives a store up that takes nothing for so long; the outcomes stay in the spool."""
        bench.store.fails = [StoreError("gone") for _ in range(10_000)]
        await filled(bench.spool, 2)
        bench.delivery.drain(0.05)
        with anyio.fail_after(LIMIT):
            await bench.delivery.run()
        assert len((await states(bench.spool))[0]) == 2

    async def test_wakes(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drain does not wait for the end of a long rest: the store is tried at once."""
        monkeypatch.setattr(Delivery, "_rest", REST)
        bench.store.fails = [StoreError("busy", retry_after=900.0)]
        await filled(bench.spool, 1)
        async with bench.running():
            await bench.until(lambda: bench.delivery.status == "failing")
            bench.delivery.drain()
            await bench.until(lambda: bench.delivery.stored == 1)

    async def test_all_of_it(self, bench: Bench) -> None:
        """A drain ends once nothing is due, however many batches that takes."""
        await bench.spool.put([envelope(sample()) for _ in range(1100)])
        bench.delivery.drain()
        with anyio.fail_after(LIMIT):
            await bench.delivery.run()
        assert [len(batch) for batch in bench.store.batches] == [200] * 5 + [100]

    async def test_cancelled_while_storing(self, bench: Bench) -> None:
        """Cut off between the store's commit and its word: it stays in the spool, goes out again, and is there once."""
        (item,) = await filled(bench.spool, 1)
        bench.store.gate = anyio.Event()
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                group.start_soon(bench.delivery.run)
                await bench.store.committed.wait()
                group.cancel_scope.cancel()
        assert (await states(bench.spool))[0] == {item.outcome.id}

        bench.store.gate.set()
        async with bench.running():
            await bench.until(lambda: bench.delivery.stored == 1)
        assert ids(await in_store(bench.store)) == [item.outcome.id]

    async def test_spool_failed(self, bench: Bench, tmp_path: Path) -> None:
        """Without a spool that can be trusted there is no delivery."""
        (tmp_path / "spool" / "spool.db").unlink()
        with pytest.raises(Exception, match="was deleted"):
            await bench.spool.put([envelope(sample())])
        with anyio.fail_after(LIMIT), pytest.raises(ActorDown, match="was deleted"):
            await bench.delivery.run()
        assert bench.delivery.spool_failed


async def test_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A spool that fills is told at 80 %, and at 95 % nothing new is started, until all is delivered."""
    limits = Limits(group_seconds=0.0, cap_bytes=200 * 4096)
    caplog.set_level(logging.INFO)
    async with small_spool(tmp_path, limits) as spool:
        store = Moody(tmp_path / "llmbench.db")
        await store.open()
        bench = Bench(spool, store, opened=True)
        level = SpoolLevel(spool, bench._inbox_in, bench.bus, bench.clock)
        bench.delivery._level = level
        while not bench.inbox.statistics().current_buffer_used:
            await filled(spool, 1)
            level.look()
        hold = bench.inbox.receive_nowait()
        assert isinstance(hold, Hold)
        assert str(hold.reason).startswith("spool_full: ")
        assert "the spool is 80 % full of outcomes" in caplog.text

        async with bench.running():
            await bench.until(lambda: bool(bench.inbox.statistics().current_buffer_used))
        assert bench.inbox.receive_nowait() == Hold(reason=None)
        assert [(state.lane, state.status) for state in bench.told if isinstance(state, LaneState)] == [("spool", "ok")]
        assert "the spool has room again" in caplog.text
        await store.close()
        bench.close()


@asynccontextmanager
async def small_spool(tmp_path: Path, limits: Limits) -> AsyncIterator[Spool]:
    spool = Spool(tmp_path / "small", limits=limits, clock=SetClock())
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()

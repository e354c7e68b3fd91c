"""Faults of the bridge's workers, real ones on a real store: what was acknowledged is there, and there once."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import msgspec
import pytest

from llmbench.bridge.process import Patience
from llmbench.cli.taking import taker_for
from llmbench.config import Config, load
from llmbench.ingestion import batch_of, wire_form
from llmbench.messages import Sample
from llmbench.stores.base import OutcomeQuery
from llmbench.stores.sqlite import SQLiteStore
from tests.bridge.serving import Running, running
from tests.cli.test_taking import children
from tests.stores.documents import envelope, sample

PATIENCE = Patience(answer=1.0, start=60.0, first_pause=0.02, longest_pause=0.1, end=1.0)
BATCHES = 40
EACH = 25


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(None, {"XDG_DATA_HOME": str(tmp_path)})


@asynccontextmanager
async def bridge_on(config: Config, folder: Path) -> AsyncIterator[tuple[Running, SQLiteStore]]:
    """Run the bridge with workers of its own on the configured store."""
    store = SQLiteStore(config.database)
    await store.open()
    try:
        taker = taker_for(config, measuring=False, patience=PATIENCE)
        async with running(store, folder, taker=taker) as bridge:
            yield bridge, store
    finally:
        await store.close()


class Senders:
    """Runners that send a batch until the bridge has acknowledged each of it, as llmbench's own do."""

    def __init__(self, bridge: Running) -> None:
        self._bridge = bridge
        self.acknowledged: list[str] = []
        self.put_off: Counter[int] = Counter()
        self.done = 0

    async def send(self, runs: list[Sample]) -> None:
        body = batch_of([wire_form(envelope(run)) for run in runs])
        await until(partial(self._sent, body))
        self.done += 1

    async def _sent(self, body: bytes) -> bool:
        return self._took(await self._bridge.post("/ingest/batch", body))

    async def until_done(self, batches: int) -> None:
        async def enough() -> bool:
            return self.done >= batches

        await until(enough)

    def _took(self, answer: httpx.Response) -> bool:
        if answer.status_code != 200:
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
            self.put_off[answer.status_code] += 1
            return False
        results = msgspec.json.decode(answer.content)["results"]
        assert {one["status"] for one in results} <= {"stored", "duplicate"}
        self.acknowledged += [one["id"] for one in results]
        return True


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so: what is in other processes can only be asked."""
    for _ in range(10_000):
        if await found():
            return
        await anyio.sleep(0.005)
    raise AssertionError("this took too long")


async def until_ready(bridge: Running) -> None:
    async def ready() -> bool:
        return (await bridge.get("/readyz")).is_success

    await until(ready)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["K24-killed", "K25-frozen"])
async def test_K24_K25_workers_that_are_killed_or_freeze(config: Config, tmp_path: Path, number: int) -> None:
    """Whoever was in their hands is put off and comes again; nothing is lost, and nothing stored twice."""
    batches = [[sample() for _ in range(EACH)] for _ in range(BATCHES)]
    others = children(os.getpid())
    async with bridge_on(config, tmp_path) as (bridge, store):
        senders = Senders(bridge)

        async def meddle() -> None:
            for round_ in range(4):
                await senders.until_done((round_ + 1) * 5)
                for pid in sorted(children(os.getpid()) - others)[: 1 + round_ % 2]:
                    os.kill(pid, number)

        with anyio.fail_after(50):
            async with anyio.create_task_group() as group:
                group.start_soon(meddle)
                for lane in range(8):
                    group.start_soon(_send_all, senders, batches[lane::8])
            await until_ready(bridge)
        stored = Counter(one.id for one in await store.outcomes(OutcomeQuery()))

    wanted = Counter(run.id for batch in batches for run in batch)
    assert stored == wanted
    assert Counter(senders.acknowledged) == wanted
    assert children(os.getpid()) - others == set()


async def _send_all(senders: Senders, batches: list[list[Sample]]) -> None:
    for batch in batches:
        await senders.send(batch)


async def test_K25_frozen_workers_make_503_and_not_silence(config: Config, tmp_path: Path) -> None:
    """With both frozen, a sender is answered after the limit, and soon taken by new ones; the bridge lives on."""
    others = children(os.getpid())
    run = sample()
    async with bridge_on(config, tmp_path) as (bridge, store):
        for pid in (frozen := children(os.getpid()) - others):
            os.kill(pid, signal.SIGSTOP)
        late = [await bridge.post("/ingest", wire_form(envelope(run))) for _ in frozen]
        assert [answer.status_code for answer in late] == [503, 503]
        assert (await bridge.get("/healthz")).is_success
        await until_ready(bridge)
        again = await bridge.post("/ingest", wire_form(envelope(run)))
        assert again.json() == {"id": run.id, "status": "stored"}
        assert len(await store.outcomes(OutcomeQuery())) == 1
    assert not frozen & children(os.getpid())


async def test_what_can_not_be_taken_is_told(tmp_path: Path) -> None:
    """Workers that can't use the store: not ready, a reason for whoever may read it, and 503 for what is sent."""
    config = load(None, {"XDG_DATA_HOME": str(tmp_path / "good")})
    broken = load(None, {"XDG_DATA_HOME": str(tmp_path / "bad")})
    broken.database.mkdir(parents=True)
    store = SQLiteStore(config.database)
    await store.open()
    try:
        async with running(store, tmp_path, taker=taker_for(broken, measuring=False, patience=PATIENCE)) as bridge:
            assert (await bridge.get("/readyz")).status_code == 503
            assert (await bridge.get("/health")).json() == {"status": "failing"}
            told = (await bridge.get("/health", "read")).json()
            assert told["status"] == "failing"
            assert told["intake"].startswith("the process that takes outcomes can't do its work: ")
            assert (await bridge.post("/ingest", wire_form(envelope(sample())))).status_code == 503
    finally:
        await store.close()

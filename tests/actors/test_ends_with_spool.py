"""How an engine with a spool ends when a part of it does not work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from llmbench.actors.plans import Batch
from llmbench.actors.supervisor import Buffer
from llmbench.messages import Envelope
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.base import Verdict
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import Engine, ids, lane, runs, settings, unique
from tests.stores.spooling import exported

pytestmark = pytest.mark.usefixtures("sdks")


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = Spool(tmp_path / "spool")
    await spool.open()
    yield spool
    await spool.close()


class Buggy(SQLiteStore):
    """A store with a bug."""

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        raise RuntimeError("provoked")


async def test_a_round_ends_though_the_delivery_crashes_each_time(
    simulator: SpawnedSimulator, spool: Spool, tmp_path: Path
) -> None:
    """It is restarted a few times; then the round ends, says that it is down, and the spool keeps everything."""
    batch = Batch(runs("groq", *(unique() for _ in range(3))), "scheduled")
    store = Buggy(tmp_path / "buggy.db")
    await store.open()
    engine = Engine([lane(settings(simulator))], batch, store, buffer=Buffer(spool=spool, patience=0.1))
    await engine.finish()
    await store.close()

    assert engine.supervisor.anything_down
    last = engine.states("delivery")[-1]
    assert (last.status, "provoked" in str(last.reason)) == ("down", True)
    assert sorted(kept.id for kept in await exported(spool, "waiting")) == ids(engine.stored)
    assert len(engine.stored) == batch.done == 3

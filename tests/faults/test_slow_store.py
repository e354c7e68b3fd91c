"""S4 and K8: a real server that is seconds late, or gives no answer at all; the engine measures as if nothing were."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest
from anyio.from_thread import start_blocking_portal
from pymongo import MongoClient

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import KEYS, Place, turns
from tests.faults.conftest import Tell
from tests.faults.logs import Log
from tests.faults.memory import resident
from tests.stores.bridge import KEY, FakeBridge, fake_bridge
from tests.stores.mongod import running
from tests.stores.slow_link import slow_link

FAST = 100e6
EVERY = 6.0
"""Seconds from one run of a model to its next."""
FROZEN_MODELS, FROZEN_SECONDS = 300, 600.0


class Engine:
    """The program in one folder, which measures every model every six seconds."""

    def __init__(self, folder: Path, simulator: SpawnedSimulator) -> None:
        self._place = Place(folder, simulator)
        self._log = Log(folder / "log")

    @contextmanager
    def measuring(self, models: int, store: Mapping[str, str], more: str = "") -> Iterator[subprocess.Popen[str]]:
        """Start it with these variables, and have it measure each of so many models once."""
        schedule = f"fresh_minutes = {EVERY / 60}\nlease_seconds = 1"
        self._place.configure(schedule, groq=[unique("ttft5-gap1") for _ in range(models)])
        with (self._place.folder / "config.toml").open("a") as file:
            file.write(f'concurrency = 8\n\n[spool]\nfolder = "spool"\n\n{more}')
        with (
            self._log.path.open("w") as log,
            self._place.started("--headless", env={**KEYS, **store}, stdout=log) as process,
        ):
            self.until_told(models)
            yield process

    def told(self) -> list[str]:
        """Return the ids of what the log tells as recorded."""
        return [line["id"] for line in self._log.lines() if line.get("event") == "run"]

    def until_told(self, outcomes: int) -> None:
        next(None for _ in turns(50.0) if len(self.told()) >= outcomes)

    def end(self, process: subprocess.Popen[str], stored: Callable[[], list[str]]) -> None:
        """Let it deliver, and end it; nothing was lost, and nothing is stored twice."""
        before = len(self.told())  # it goes on measuring meanwhile
        next(None for _ in turns(50.0) if len(stored()) >= before)
        process.send_signal(signal.SIGTERM)
        assert process.wait(50.0) == 0
        told = self.told()
        ended = f"ended: {len(told)} outcomes recorded, {len(told)} stored, 0 wait in the spool, 0 lost"
        assert self._log.lines()[-1]["message"] == ended
        assert Counter(stored()) == Counter(told)


@pytest.fixture
def engine(tmp_path: Path, simulator: SpawnedSimulator) -> Engine:
    return Engine(tmp_path, simulator)


def test_S4_a_store_behind_a_slow_link(engine: Engine, tell: Tell) -> None:
    """Two seconds late and 10 kB/s: models are measured as often as before, and what waits goes in larger batches."""
    models, rounds = 60, 2
    with start_blocking_portal() as portal, fake_bridge() as bridge:
        port = urlsplit(bridge.url).port or 0
        with portal.wrap_async_context_manager(slow_link(port, FAST)) as link:
            store = {"INGEST_API_URL": f"http://127.0.0.1:{link.port}", "INGEST_API_KEY": KEY}
            with engine.measuring(models, store) as process:
                link.late, link.rate = 2.0, 10_000.0
                told, before, began = len(engine.told()), len(bridge.requests), monotonic()
                engine.until_told(told + rounds * models)
                took = monotonic() - began
                batches = next(sent for _ in turns(50.0) if max(sent := _batches(bridge, before), default=0) >= 10)
                link.late, link.rate = 0.0, FAST
                engine.end(process, lambda: list(bridge.documents))
    tell(f"slow link: {rounds} rounds of {models} models in {took:.1f} s, sent in batches of {batches}")
    assert took < 1.5 * rounds * EVERY


def _batches(bridge: FakeBridge, before: int) -> list[int]:
    """Return how large the batches were that came whole since there were so many requests."""
    return [len(one.ids) for one in bridge.requests[before:] if one.path == "/ingest/batch"]


@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory is asked of Linux")
def test_K8_a_store_that_takes_nothing_for_long(engine: Engine, tmp_path: Path, long: bool, tell: Tell) -> None:
    """While the server is frozen every run is recorded, at the usual pace, and the memory stays what it was.

    But for the beginning: other runners may have the leases, until the server was away for longer than those last.
    """
    if not long:
        pytest.skip("the server is frozen for ten minutes: only with --long; S3 freezes it for seconds")
    models, rounds = FROZEN_MODELS, int(FROZEN_SECONDS / EVERY)
    (tmp_path / "server").mkdir()
    with running(tmp_path / "server") as mongod, MongoClient[dict[str, Any]](mongod.uri) as client:
        rows = client["test"].metrics_cloud_v2
        with engine.measuring(models, {"MONGODB_URI": mongod.uri}, '[store.mongo]\ndatabase = "test"\n') as process:
            with mongod.frozen():
                engine.until_told(len(engine.told()) + models)
                began, told, memory = monotonic(), len(engine.told()), [resident(process.pid)]
                for turn in range(1, rounds + 1):
                    engine.until_told(told + turn * models)
                    memory.append(resident(process.pid))
                took, recorded, thawed = monotonic() - began, len(engine.told()), monotonic()
            next(None for _ in turns(240.0) if rows.estimated_document_count() >= recorded)
            caught_up = monotonic() - thawed
            engine.end(process, lambda: [str(row["_id"]) for row in rows.find({}, {"_id": 1})])
    grown = (max(memory) - memory[0]) / 2**20
    tell(f"frozen store: {rounds * models} outcomes recorded in {took:.1f} s; memory {grown:+.1f} MiB")
    tell(f"all {recorded} were stored {caught_up:.0f} s after it answered again")
    assert took < 1.5 * rounds * EVERY
    assert grown < 16

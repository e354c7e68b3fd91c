"""A machine with the database, one without: real processes, a bridge between them, and kills on both sides."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.clouds import AWS_KEYS, AWS_REGION
from tests.e2e.machines import RUNNER, Base, Machine, Remains
from tests.e2e.program import KEY, SECONDS, Place, turns
from tests.stores.mongod import Mongod

AWS = {"AWS_REGION": AWS_REGION, "AWS_EC2_METADATA_DISABLED": "true", **AWS_KEYS}


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def base(
    tmp_path: Path, simulator: SpawnedSimulator, mongod: Mongod, database: Database[dict[str, Any]], programs: ExitStack
) -> Base:
    folder = tmp_path / "base"
    folder.mkdir()
    variables = {"MONGODB_URI": mongod.uri, "MONGODB_DB": database.name, "GROQ_API_KEY": KEY}
    return Base(Place(folder, simulator), variables, programs)


def runner_a(base: Base, key: str, simulator: SpawnedSimulator, programs: ExitStack, *, enabled: bool) -> Machine:
    """Return a machine that knows the bridge and no database; its configuration names no model."""
    folder = base.place.folder.parent / "a"
    folder.mkdir()
    bridge = {
        "INGEST_API_URL": base.url,
        "INGEST_API_KEY": key,
        "RUNNER_CONFIG_URL": base.url,
        "RUNNER_CONFIG_TOKEN": key,
    }
    machine = Machine(Place(folder, simulator), bridge | AWS, programs)
    machine.configure(RUNNER, simulator, "bedrock", enabled=enabled)
    return machine


def stored(database: Database[dict[str, Any]]) -> list[str]:
    """Return the ids of all outcomes in MongoDB."""
    return [str(row["_id"]) for name in ("metrics_cloud_v2", "errors_cloud") for row in database[name].find({}, {})]


def until_stored(database: Database[dict[str, Any]], ids: Sequence[str]) -> None:
    next(None for _ in turns(SECONDS) if set(ids) <= set(stored(database)))


def test_a_runner_and_its_bridge_are_killed_and_nothing_is_lost(
    base: Base, database: Database[dict[str, Any]], simulator: SpawnedSimulator, programs: ExitStack, tmp_path: Path
) -> None:
    """Each recorded outcome is in MongoDB once, those that the kill interrupted, too; each failure is counted once.

    1. Runner A measures what the bridge's catalogue lists, and the bridge stores it.
    2. The bridge is killed: A goes on, into its spool.
    3. A is killed in the middle of runs, and started again: it measures what it remembers.
    4. The bridge is back: all of it is delivered.
    """
    quick = [unique("ttft5-gap1", "us.amazon.nova-q") for _ in range(100)]
    failing = [unique(words, "us.amazon.nova-f") for words in ("404", "404", "ttft5-gap400-hangup5")]
    never = [unique("ttft5-gap5-stall3", "us.amazon.nova-n") for _ in range(2)]
    base.configure("base", simulator)
    base.add_models(bedrock=quick + failing + never)
    key, watcher = base.make_keys()
    base.serve()
    a = runner_a(base, key, simulator, programs, enabled=False)

    a.start("--headless", "--providers", "bedrock")
    a.until_recorded(12)
    until_stored(database, a.recorded())
    assert base.health() == (200, {"status": "ok"})
    status, told = base.health(watcher)
    assert (status, told["status"], told["store"]["status"]) == (200, "ok", "ok")
    assert base.health(key)[1] == {"status": "ok"}, "a runner's key is for other things"
    assert base.health(key[:-1])[0] == 401

    base.end(signal.SIGKILL)
    with pytest.raises(httpx.ConnectError):
        base.health()
    a.until_logged("the store takes nothing now")
    a.until_recorded(12)
    a.end(signal.SIGKILL)
    left = Remains(a.spool, tmp_path / "copy")
    assert len(left["waiting"]) >= 12

    a.start("--headless", "--providers", "bedrock")
    a.until_logged(f"{len(left['attempts'])} runs were interrupted")
    a.until_logged("the catalogue can't be read, the models are those that it had at")
    a.until_recorded(12)
    base.serve()
    a.until_logged("the store takes outcomes again")
    until_stored(database, [*a.recorded(), *left["waiting"], *left["attempts"]])
    assert base.health(watcher)[1]["store"]["status"] == "ok"
    assert (a.end(signal.SIGTERM), base.end(signal.SIGTERM)) == (0, 0)

    ids = stored(database)
    recorded = a.recorded()
    spooled = Remains(a.spool, tmp_path / "spool")
    assert (len(set(ids)), len(set(recorded))) == (len(ids), len(recorded))
    assert set(spooled) == {"delivered", "attempts"}
    assert spooled["attempts"] == []
    assert set(ids) == set(spooled["delivered"]) == set(recorded) | set(left["waiting"]) | set(left["attempts"])
    _failures_are_counted(database, interrupted=left["attempts"], failed=failing)
    assert {row["runner_id"] for row in database.metrics_cloud_v2.find()} == {RUNNER}


def _failures_are_counted(
    database: Database[dict[str, Any]], *, interrupted: Sequence[str], failed: Sequence[str]
) -> None:
    """Assert that each failure is there once, in what it was, and each in its rollup's count once."""
    failures = list(database.errors_cloud.find())
    cut_off = {str(row["_id"]) for row in failures if row["error_cause"] == "interrupted"}
    counted = {row["fingerprint"]: row["count"] for row in database.error_rollups.find()}
    assert cut_off == set(interrupted)
    assert len(cut_off) >= 2
    assert set(failed) <= {row["model_name"] for row in failures}
    assert counted == Counter(row["fingerprint"] for row in failures)


def test_an_engine_with_a_database_serves_a_runner_without(
    base: Base, database: Database[dict[str, Any]], simulator: SpawnedSimulator, programs: ExitStack
) -> None:
    """One process measures its own lane and is the bridge of another; both end well, and all they recorded is there."""
    own = [unique("ttft5-gap1") for _ in range(100)]
    others = [unique("ttft5-gap1", "us.amazon.nova-") for _ in range(100)]
    with socket.create_server(("127.0.0.1", 0)) as free:
        base.port = free.getsockname()[1]
    base.configure("base", simulator, "groq", more=f'[server]\nlisten = "127.0.0.1:{base.port}"')
    base.add_models(groq=own, bedrock=others)
    key, watcher = base.make_keys()
    a = runner_a(base, key, simulator, programs, enabled=True)

    base.start("--headless", "--providers", "groq")
    base.until_recorded(1)
    base.until_logged(rf"the HTTP side listens on http://127\.0\.0\.1:{base.port}\b")
    assert "models to be measured: 100; asked for: bedrock" in a.ok("doctor")
    a.start("--headless")
    a.until_recorded(16)
    base.until_recorded(16)
    until_stored(database, a.recorded() + base.recorded())
    assert base.health() == (200, {"status": "ok"})
    told = base.health(watcher)[1]
    lanes = {lane["lane"]: lane["status"] for lane in told["lanes"]}
    assert (told["status"], told["store"]["status"], lanes["groq"], "bedrock" in lanes) == ("ok", "ok", "ok", False)
    assert told["spool"]["quarantined"] == {}
    assert (a.end(signal.SIGTERM), base.end(signal.SIGTERM)) == (0, 0)

    rows = {runner: set[str]() for runner in (RUNNER, "base")}
    for row in database.metrics_cloud_v2.find():
        rows[row["runner_id"]].add(str(row["_id"]))
    assert rows == {RUNNER: set(a.recorded()), "base": set(base.recorded())}
    assert database.metrics_cloud_v2.distinct("provider", {"runner_id": RUNNER}) == ["bedrock"]
    assert database.metrics_cloud_v2.distinct("provider", {"runner_id": "base"}) == ["groq"]

"""Several engines on one MongoDB: real processes that share the models, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from bson.objectid import ObjectId
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.fleet_driver import Start, Wait
from tests.e2e.program import KEY, KEYS, SECONDS, SOURCES, turns
from tests.runs import base_url
from tests.stores.mongod import Mongod

LEASE_SECONDS = 1.0
LANES = ("groq", "together", "deepinfra")


class Scale(NamedTuple):
    """How much is measured: models in all, rounds, and the seconds that a round takes."""

    models: int
    rounds: int
    round_seconds: float


SCALES = {False: Scale(12, 2, 3.0), True: Scale(60, 5, 12.0)}


class Driver:
    """The other side of the fork server's pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def obey(self, order: Start | Wait) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    python_path = os.pathsep.join([SOURCES, os.environ.get("PYTHONPATH", "")])
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": python_path}
    command = [sys.executable, "-m", "tests.e2e.fleet_driver"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Driver(process)


class Fleet:
    """Engines that share a database, each with a folder and a log of its own."""

    def __init__(self, folder: Path, simulator: SpawnedSimulator, driver: Driver, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._simulator = simulator
        self._driver = driver
        self._variables = variables
        self._processes: dict[str, int] = {}

    def start(self, runner: str, models: Sequence[str], round_seconds: float, *, region: str | None = None) -> None:
        """Start an engine; in ``region`` mode if it has one."""
        folder = self._folder / runner
        folder.mkdir()
        (folder / "config.toml").write_text(self._configuration(runner, models, region))
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **self._variables}
        order = Start(str(folder), str(folder / "log"), environment, round_seconds)
        self._processes[runner] = self._driver.obey(order)

    def _configuration(self, runner: str, models: Sequence[str], region: str | None) -> str:
        mine = f'region = "{region}"' if region else ""
        parts = [
            f'[runner]\nid = "{runner}"\n{mine}',
            f"[schedule]\nlease_seconds = {LEASE_SECONDS}",
            'claim = "region"' if region else "",
            "[profiles.default]\nmax_tokens = 8",
        ]
        for number, lane in enumerate(LANES):
            url = base_url(self._simulator.url, lane)
            parts.append(f'[providers.{lane}]\nbase_url = "{url}"\nrequests_per_minute = 6000\nconcurrency = 2')
            parts.append(f"models = {json.dumps(models[number :: len(LANES)])}")
        return "\n".join(parts) + "\n"

    def signal(self, runner: str, number: signal.Signals) -> None:
        os.kill(self._processes[runner], number)

    def until_asked(self, model: str) -> None:
        """Wait until the provider has seen a request."""
        next(None for _ in turns(SECONDS) if self._simulator.requests(model=model))

    def until_up(self) -> None:
        """Wait until all are at work, and stop gracefully if they are told to."""
        next(None for _ in turns(SECONDS) if all("shares the models" in self.log(runner) for runner in self._processes))

    def kill(self, runner: str) -> None:
        """SIGKILL: it says nothing to anybody."""
        self.signal(runner, signal.SIGKILL)
        assert self._ended(runner) == -signal.SIGKILL

    def stop(self) -> dict[str, int]:
        """Stop all gracefully and return their exit codes."""
        for runner in self._processes:
            self.signal(runner, signal.SIGTERM)
        return {runner: self._ended(runner) for runner in tuple(self._processes)}

    def end(self) -> None:
        """Kill what is left, whatever became of it."""
        for runner in tuple(self._processes):
            self.signal(runner, signal.SIGKILL)
            self._ended(runner)

    def _ended(self, runner: str) -> int:
        return self._driver.obey(Wait(self._processes.pop(runner)))

    def log(self, runner: str) -> str:
        log = self._folder / runner / "log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def fleet(
    tmp_path: Path, simulator: SpawnedSimulator, driver: Driver, mongod: Mongod, database: Database[dict[str, Any]]
) -> Iterator[Fleet]:
    server = {"MONGODB_URI": mongod.uri, "MONGODB_DB": database.name}
    fleet = Fleet(tmp_path, simulator, driver, KEYS | {"DEEPINFRA_API_KEY": KEY} | server)
    try:
        yield fleet
    finally:
        fleet.end()


def times_measured(database: Database[dict[str, Any]]) -> dict[str, list[datetime]]:
    """Return when each model was measured, in order."""
    times: dict[str, list[datetime]] = {}
    for row in database.metrics_cloud_v2.find({}, {"model_name": 1, "run_ts": 1}).sort("run_ts", 1):
        times.setdefault(row["model_name"], []).append(row["run_ts"])
    return times


def until_measured(database: Database[dict[str, Any]], count: int, seconds: float = SECONDS) -> None:
    """Wait for so many rows."""
    next(None for _ in turns(seconds) if database.metrics_cloud_v2.count_documents({}) >= count)


def somebody_at_work(database: Database[dict[str, Any]]) -> dict[str, Any]:
    """Wait until a runner is in the middle of a run, and return its lease."""
    return next(lease for _ in turns(SECONDS) for lease in database.leases.find({"holder": {"$exists": True}}))


def stopped_at_work(fleet: Fleet, database: Database[dict[str, Any]]) -> str:
    """Stop a runner with SIGSTOP when it has a lease and no outcome for it yet, and return which one it is."""
    for _ in turns(SECONDS):
        lease = somebody_at_work(database)
        fleet.signal(lease["runner"], signal.SIGSTOP)
        held = {"_id": lease["_id"], "holder": lease["holder"], "outcome": lease["outcome"]}
        done = database.metrics_cloud_v2.find_one({"_id": ObjectId(lease["outcome"])})
        if done is None and database.leases.find_one(held) is not None:
            return str(lease["runner"])
        fleet.signal(lease["runner"], signal.SIGCONT)
    raise AssertionError("unreachable: turns end with an error")


@pytest.mark.timeout(180)
def test_three_runners_share_the_rounds_and_survive_a_kill(
    fleet: Fleet, database: Database[dict[str, Any]], long: bool
) -> None:
    """Each model is measured once a round, by whomever; the killed runner's work is taken over within the term."""
    count, rounds, seconds = SCALES[long]
    models = [unique("ttft150-gap20", "m-") for _ in range(count)]
    for runner in ("one", "two", "three"):
        fleet.start(runner, models, seconds)
    fleet.until_up()
    until_measured(database, count * (rounds // 2) + count // 4)
    killed = stopped_at_work(fleet, database)
    fleet.kill(killed)
    patience = SECONDS + rounds * seconds
    next(None for _ in turns(patience) if min(map(len, times_measured(database).values())) >= rounds)
    codes = fleet.stop()
    times = times_measured(database)
    gaps = [(later - earlier).total_seconds() for each in times.values() for earlier, later in pairwise(each)]

    assert list(codes.values()) == [0, 0]
    assert set(times) == set(models)
    assert min(gaps) > seconds - 1, "a model was measured twice in a round"
    assert max(gaps) < 2 * seconds, "a round left a model out"
    assert any(f"is taken over from {killed}" in fleet.log(runner) for runner in codes)
    assert len({row["runner_id"] for row in database.metrics_cloud_v2.find()}) >= 2
    assert database.leases.count_documents({"holder": {"$exists": True}}) == 0


def test_each_region_measures_every_model(fleet: Fleet, database: Database[dict[str, Any]]) -> None:
    """Two runners of one region share the models, a third in another region measures them all."""
    models = [unique(name="m-") for _ in range(6)]
    for runner, region in (("e1", "east"), ("e2", "east"), ("w1", "west")):
        fleet.start(runner, models, 3600.0, region=region)
    fleet.until_up()
    until_measured(database, 12)
    codes = fleet.stop()
    rows = [(row["region"], row["model_name"]) for row in database.metrics_cloud_v2.find()]

    assert set(codes.values()) == {0}
    assert sorted(rows) == sorted((region, model) for region in ("east", "west") for model in models)


def test_a_frozen_runner_loses_its_lease_and_starts_nothing_under_it(
    fleet: Fleet, database: Database[dict[str, Any]]
) -> None:
    """Another takes over within the term. The one that wakes stores what it had begun, under an id of its own."""
    [name] = models = [unique("ttft400-gap20", "m-")]
    fleet.start("frozen", models, 3600.0)
    lease = somebody_at_work(database)
    fleet.until_asked(name)  # or the lease would be over before the run begins, which is then left to the other one
    fleet.signal("frozen", signal.SIGSTOP)
    fleet.start("other", models, 3600.0)
    fleet.until_up()
    until_measured(database, 1)
    fleet.signal("frozen", signal.SIGCONT)
    # It says that its lease was lost, unless its run is over before the renewal tells it.
    begun = {"_id": ObjectId(lease["outcome"])}
    stored = (database.metrics_cloud_v2, database.errors_cloud)
    next(None for _ in turns(SECONDS) if any(rows.count_documents(begun) for rows in stored))
    codes = fleet.stop()
    rows = list(database.metrics_cloud_v2.find({"model_name": name}))
    failed = list(database.errors_cloud.find({"model_name": name}))

    assert set(codes.values()) == {0}
    assert [row["runner_id"] for row in rows if str(row["_id"]) != lease["outcome"]] == ["other"]
    assert [str(row["_id"]) for row in [*rows, *failed] if row["runner_id"] == "frozen"] == [lease["outcome"]]

"""Several engines on one MongoDB: real processes that share the models, one of which is killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import COMMAND, KEYS, SECONDS, SOURCES
from tests.runs import base_url
from tests.stores.mongod import Mongod

LEASE_SECONDS = 1.5
LANES = ("groq", "together", "deepinfra")


class Scale(NamedTuple):
    """How much is measured: models in all, rounds, and the seconds that a round takes."""

    models: int
    rounds: int
    round_seconds: float


SCALES = {False: Scale(12, 2, 6.0), True: Scale(60, 5, 12.0)}


class Fleet:
    """Engines that share a database, each with a folder and a log of its own."""

    def __init__(self, folder: Path, simulator: SpawnedSimulator, mongod: Mongod, database: str) -> None:
        self._folder = folder
        self._simulator = simulator
        self._mongod = mongod
        self._name = database
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, runner: str, models: Sequence[str], round_seconds: float, *, region: str | None = None) -> None:
        """Start an engine; in ``region`` mode if it has one."""
        folder = self._folder / runner
        folder.mkdir()
        (folder / "config.toml").write_text(self._configuration(runner, models, round_seconds, region))
        variables = KEYS | {"DEEPINFRA_API_KEY": KEYS["GROQ_API_KEY"], "MONGODB_URI": self._mongod.uri}
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **variables}
        python_path = os.pathsep.join([SOURCES, os.environ.get("PYTHONPATH", "")])
        with (folder / "log").open("wb") as log:
            self.processes[runner] = subprocess.Popen(
                [*COMMAND, "--headless"],
                cwd=folder,
                env=environment | {"PYTHONPATH": python_path, "MONGODB_DB": self._name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _configuration(self, runner: str, models: Sequence[str], round_seconds: float, region: str | None) -> str:
        mine = f'region = "{region}"' if region else ""
        parts = [
            f'[runner]\nid = "{runner}"\n{mine}',
            f"[schedule]\nfresh_minutes = {round_seconds / 60!r}\nlease_seconds = {LEASE_SECONDS}",
            'claim = "region"' if region else "",
            "[profiles.default]\nmax_tokens = 8",
        ]
        for number, lane in enumerate(LANES):
            url = base_url(self._simulator.url, lane)
            parts.append(f'[providers.{lane}]\nbase_url = "{url}"\nrequests_per_minute = 6000\nconcurrency = 2')
            parts.append(f"models = {json.dumps(models[number :: len(LANES)])}")
        return "\n".join(parts) + "\n"

    def kill(self, runner: str) -> None:
        """SIGKILL: it says nothing to anybody."""
        process = self.processes.pop(runner)
        process.kill()
        process.wait()

    def stop(self) -> dict[str, int]:
        """Stop all gracefully and return their exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return {runner: process.wait(SECONDS) for runner, process in self.processes.items()}

    def log(self, runner: str) -> str:
        return (self._folder / runner / "log").read_text()


@pytest.fixture
def database(mongod: Mongod) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as client:
        name = f"llm-bench-{ObjectId()}"
        yield client[name]
        client.drop_database(name)


@pytest.fixture
def fleet(
    tmp_path: Path, simulator: SpawnedSimulator, mongod: Mongod, database: Database[dict[str, Any]]
) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, simulator, mongod, database.name)
    yield fleet
    for process in fleet.processes.values():
        process.kill()
        process.wait()


@contextlib.contextmanager
def patiently(seconds: float) -> Iterator[Iterator[None]]:
    """Yield an iterator that turns slowly until the time is up, and then fails: the database can only be asked."""

    def turns() -> Iterator[None]:
        end = monotonic() + seconds
        while monotonic() < end:
            yield
            sleep(0.03)
        raise AssertionError(f"this took more than {seconds:g} s")

    yield turns()


def rounds_of(database: Database[dict[str, Any]]) -> Counter[str]:
    """Return how often each model has been measured."""
    return Counter(row["model_name"] for row in database.metrics_cloud_v2.find({}, {"model_name": 1}))


def until_measured(database: Database[dict[str, Any]], count: int, seconds: float) -> None:
    with patiently(seconds) as turns:
        for _ in turns:
            if database.metrics_cloud_v2.count_documents({}) >= count:
                return


def spans_between(database: Database[dict[str, Any]]) -> list[float]:
    """Return the seconds between successive runs of each model, the shortest first."""
    times: dict[str, list[Any]] = {}
    for row in database.metrics_cloud_v2.find({}, {"model_name": 1, "run_ts": 1}).sort("run_ts", 1):
        times.setdefault(row["model_name"], []).append(row["run_ts"])
    pairs = [pair for each in times.values() for pair in itertools.pairwise(each)]
    return sorted((later - earlier).total_seconds() for earlier, later in pairs)


@pytest.mark.timeout(180)
def test_three_runners_share_the_rounds_and_survive_a_kill(
    fleet: Fleet, database: Database[dict[str, Any]], long: bool
) -> None:
    """Each model is measured once a round; the killed runner's work is taken over; nothing is measured twice."""
    scale = SCALES[long]
    models = [unique("ttft150-gap20", "m-") for _ in range(scale.models)]
    runners = ["one", "two", "three"]
    for runner in runners:
        fleet.start(runner, models, scale.round_seconds)
    killed_in = (scale.rounds + 1) // 2
    until_measured(database, scale.models * (killed_in - 1) + scale.models // 4, SECONDS)
    with patiently(SECONDS) as turns:  # until a runner is in the middle of a run
        held = next(row for _ in turns for row in database.leases.find({"holder": {"$exists": True}}))
    fleet.kill(held["runner"])
    until_measured(database, scale.models * scale.rounds, SECONDS + scale.rounds * scale.round_seconds)
    codes = fleet.stop()
    counts = rounds_of(database)

    assert set(codes.values()) == {0}
    assert set(counts) == set(models)
    assert min(counts.values()) >= scale.rounds - 1
    assert spans_between(database)[0] >= scale.round_seconds - 0.1, "no model was measured twice in a round"
    assert {row["runner_id"] for row in database.metrics_cloud_v2.find()} == set(runners)
    assert database.leases.count_documents({"holder": {"$exists": True}}) == 0
    assert any(f"is taken over from {held['runner']}" in fleet.log(runner) for runner in codes)


def test_each_region_measures_every_model(fleet: Fleet, database: Database[dict[str, Any]]) -> None:
    """Two runners of one region share the models, a third in another region measures them all."""
    models = [unique(name="m-") for _ in range(6)]
    for runner, region in (("e1", "east"), ("e2", "east"), ("w1", "west")):
        fleet.start(runner, models, 3600.0, region=region)
    until_measured(database, 12, SECONDS)
    codes = fleet.stop()
    rows = [(row["region"], row["model_name"]) for row in database.metrics_cloud_v2.find()]

    assert set(codes.values()) == {0}
    assert sorted(rows) == sorted((region, model) for region in ("east", "west") for model in models)

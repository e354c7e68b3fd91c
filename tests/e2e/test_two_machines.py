"""A machine with the database, one without: real processes, a bridge between them, and kills on both sides."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.clouds import AWS_KEYS, AWS_REGION
from tests.e2e.program import KEY, SECONDS, Place, turns
from tests.runs import base_url
from tests.stores.mongod import Mongod

AWS = {"AWS_REGION": AWS_REGION, "AWS_EC2_METADATA_DISABLED": "true", **AWS_KEYS}
RUNNER = "runner-a"


class Machine:
    """A machine: a home of its own, its variables, and its engine or bridge, whose log is in a file."""

    def __init__(self, place: Place, variables: Mapping[str, str], programs: ExitStack) -> None:
        self.place = place
        self.variables = dict(variables)
        self.spool = place.folder / ".local/share/llmbench/spool"
        self._programs = programs
        self._process: subprocess.Popen[str] | None = None
        self._log = place.folder / "log"
        self._log.touch()
        self._begun = 0

    def configure(
        self, runner: str, simulator: SpawnedSimulator, *providers: str, enabled: bool = True, more: str = ""
    ) -> None:
        parts = [f'[runner]\nid = "{runner}"', more]
        parts += ["[schedule]\nfresh_minutes = 0.1\ngrace_seconds = 0.2", "[profiles.default]\nmax_tokens = 8"]
        for name in providers:
            parts.append(f'[providers.{name}]\nbase_url = "{base_url(simulator.url, name)}"')
            parts.append(f"requests_per_minute = 900\nconcurrency = 4\nenabled = {str(enabled).lower()}")
        (self.place.folder / "config.toml").write_text("\n".join(parts) + "\n", encoding="utf-8")

    def ok(self, *arguments: str) -> str:
        """Run a command that succeeds; return what it prints."""
        done = self.place.run(*arguments, env=self.variables)
        assert done.code == 0, done.err
        return done.out

    def add_models(self, **models: Sequence[str]) -> None:
        """Add models of these providers to the catalogue."""
        file = self.place.folder / "models.jsonl"
        rows = [{"provider": name, "model_id": model} for name, listed in models.items() for model in listed]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.ok("models", "import", str(file))

    def start(self, *arguments: str) -> None:
        """Start the program; what it logs comes behind what is in the log already."""
        self._begun = self._log.stat().st_size
        log = self._programs.enter_context(self._log.open("a"))
        started = self.place.started(*arguments, env=self.variables, stdout=log, stderr=subprocess.STDOUT)
        self._process = self._programs.enter_context(started)

    def end(self, number: signal.Signals) -> int:
        """Send the program a signal; return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(SECONDS)

    def log(self) -> str:
        """Return what the program has logged since it was started last."""
        return self._log.read_bytes()[self._begun :].decode()

    def until_logged(self, pattern: str) -> re.Match[str]:
        """Wait until the program logs something."""
        return next(found for _ in self._turns() if (found := re.search(pattern, self.log())))

    def until_recorded(self, count: int) -> None:
        """Wait until the log has the lines of so many more runs."""
        until = len(self.recorded()) + count
        next(None for _ in self._turns() if len(self.recorded()) >= until)

    def _turns(self) -> Iterator[None]:
        """Turn as long as the program runs, but not for ever."""
        assert self._process is not None
        for _ in turns(SECONDS):
            ended = self._process.poll() is not None
            yield
            assert not ended, self.log()

    def recorded(self) -> list[str]:
        """Return the ids of all runs that any of its programs has told as recorded; a kill may cut a line."""
        lines = [line for line in self._log.read_text().split("\n")[:-1] if '"event":"run"' in line]
        return [json.loads(line[line.index("{") :])["id"] for line in lines]


class Remains(dict[str, list[str]]):
    """What is in a spool whose engine is gone: ids by state, and of the attempts under ``attempts``."""

    def __init__(self, spool: Path, copy: Path) -> None:
        super().__init__()
        copy.mkdir()
        for file in spool.glob("spool.db*"):  # a copy is read, since looking at a file in WAL mode changes it
            shutil.copy(file, copy)
        with closing(sqlite3.connect(copy / "spool.db")) as connection:
            for state, key in connection.execute("SELECT state, id FROM outcomes"):
                self.setdefault(state, []).append(key)
            self["attempts"] = [key for (key,) in connection.execute("SELECT id FROM attempts")]


class Base(Machine):
    """The machine with the database."""

    port = 0

    def make_keys(self) -> tuple[str, str]:
        """Return a key for the runner and one for a person who watches."""
        return self.ok("keys", "new", RUNNER).strip(), self.ok("keys", "new", "watcher", "--scope", "read").strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Start the bridge, where it was before if it was anywhere, and wait until it listens."""
        self.start("ingest", "--listen", f"127.0.0.1:{self.port}")
        self.port = int(self.until_logged(r"http://127\.0\.0\.1:(\d+) into MongoDB")[1])

    def health(self, key: str | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"X-API-Key": key} if key is not None else {}
        answer = httpx.get(f"{self.url}/health", headers=headers, trust_env=False, timeout=20)
        return answer.status_code, answer.json()


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

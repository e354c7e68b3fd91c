"""Store faults, one test a row of the fault matrix: a real server is killed, frozen, late, refuses us or a document."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import KEYS, SECONDS, Place, output
from tests.faults.logs import Log
from tests.stores.mongod import Mongod, running

DRIVER = (sys.executable, "-m", "tests.faults.mongo_driver")
PASSWORD = "s3cr3t-pass"
ROLES = ["readWriteAnyDatabase"]
OUTAGES = {False: (1, 0.0), True: (5, 3.0)}
"""How often the store goes away, and for how many seconds longer than it takes to notice, by ``--long``."""
KEPT = "(takes nothing now|is blocked), what is measured is kept in the spool"
OFTEN = "fresh_minutes = 0.1"


class Server:
    """A server that asks for passwords, and its administrator. Each way in which it can be away ends with its block."""

    def __init__(self, mongod: Mongod, admin: MongoClient[dict[str, Any]]) -> None:
        self.mongod = mongod
        self.admin = admin
        self.uri = mongod.uri.replace("//", f"//engine:{PASSWORD}@")

    @contextmanager
    def killed(self) -> Iterator[None]:
        self.mongod.kill()
        try:
            yield
        finally:
            self.mongod.start()

    def frozen(self) -> AbstractContextManager[None]:
        return self.mongod.frozen()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        self.admin.admin.command("revokeRolesFromUser", "engine", roles=ROLES)
        try:
            yield
        finally:
            self.admin.admin.command("grantRolesToUser", "engine", roles=ROLES)

    @contextmanager
    def failing(self, **how: object) -> Iterator[None]:
        """Have every write of the engine's fail in a way that the server knows (its fail point ``failCommand``)."""
        data = {"failCommands": ["insert", "update"], "appName": "llmbench"} | how
        self.admin.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        try:
            yield
        finally:
            self.admin.admin.command("configureFailPoint", "failCommand", mode="off")

    def not_primary(self) -> AbstractContextManager[None]:
        return self.failing(errorCode=10107)

    def unsure(self) -> AbstractContextManager[None]:
        """Writes are carried out, and then it can't be said whether they will last."""
        concern = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
        return self.failing(writeConcernError=concern)

    def hanging_up(self) -> AbstractContextManager[None]:
        return self.failing(closeConnection=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own; each test leaves it running."""
    with running(tmp_path_factory.mktemp("server"), "--auth", "--setParameter", "enableTestCommands=1") as mongod:
        with MongoClient[dict[str, Any]](mongod.uri) as first:
            # From the same machine, a server without users lets the first one be made.
            first.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"], writeConcern={"w": 1, "j": True})
        with MongoClient[dict[str, Any]](mongod.uri.replace("//", f"//root:{PASSWORD}@")) as admin:
            admin.admin.command("createUser", "engine", pwd=PASSWORD, roles=ROLES, writeConcern={"w": 1, "j": True})
            yield Server(mongod, admin)


@pytest.fixture(scope="module")
def driver(server: Server, tmp_path_factory: pytest.TempPathFactory, simulator: SpawnedSimulator) -> Iterator[Driver]:
    """The fork server, whose engines all have the server's address and credentials."""
    place = Place(tmp_path_factory.mktemp("driver"), simulator)
    errors = place.folder / "errors"
    env = KEYS | {"MONGODB_URI": server.uri}
    with (
        errors.open("w") as stderr,
        place.started(command=DRIVER, env=env, stdin=subprocess.PIPE, stderr=stderr) as process,
    ):
        yield Driver(process, errors)


class Driver:
    """The fork server's two pipes, and what its engines write to standard error."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors

    def tell(self, line: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> int:
        return int(output(self._process).readline())

    def errors(self) -> str:
        return self._errors.read_text()


class Engine:
    """The program over one folder and one database; what it asks for, logs and stores. One runs at a time."""

    def __init__(self, driver: Driver, server: Server, simulator: SpawnedSimulator, folder: Path) -> None:
        self._driver = driver
        self._simulator = simulator
        self._place = Place(folder, simulator)
        self._log = Log(folder / "log")
        self._since = simulator.counts().requests
        self._models: list[str] = []
        self.database: Database[dict[str, Any]] = server.admin[f"test-{folder.name}"]
        self._process = 0
        self._runs = False

    def configure(self, *models: str, schedule: str = "") -> None:
        """Have it measure these models, four at a time."""
        self._models = list(models)
        # A runner goes on alone once the server has been away for as long as a lease lasts.
        self._place.configure(f"lease_seconds = 1\n{schedule}", groq=models)
        config = self._place.folder / "config.toml"
        with config.open("a") as file:
            file.write(f'concurrency = 4\n\n[store.mongo]\ndatabase = "{self.database.name}"\n\n')
            file.write('[spool]\nfolder = "spool"\n')

    def start(self) -> None:
        self._process = self._driver.tell(str(self._log.path))
        self._runs = True

    def end(self, *signals: signal.Signals) -> int:
        """Send signals, each once the one before was noticed in the log; return the exit code."""
        for index, number in enumerate(signals, 1):
            os.kill(self._process, number)
            if index < len(signals):
                self.until_logged(number.name)
        code = self._driver.hear()
        self._runs = False
        return code

    def kill(self) -> None:
        """End it if a test that failed left it running; the driver starts no other one before."""
        if self._runs:
            os.kill(self._process, signal.SIGKILL)
            self.end()

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines so far."""
        return self._log.lines()

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines() if "message" in line]

    def told(self) -> list[str]:
        """Return the ids that the log says are recorded."""
        return [line["id"] for line in self.lines() if line.get("event") == "run"]

    def requested(self) -> list[str | None]:
        """Return the model of each request that the provider saw."""
        records = self._simulator.requests(since=self._since)
        return [record.model for record in records if record.model in self._models]

    def stored(self) -> list[dict[str, Any]]:
        """Return the documents of all outcomes."""
        return [one for name in ("metrics_cloud_v2", "errors_cloud") for one in self.database[name].find()]

    def quarantined(self) -> list[str]:
        """Return the ids of what the spool keeps in quarantine; no engine runs."""
        with closing(sqlite3.connect(self._place.folder / "spool" / "spool.db")) as connection:
            return [one for (one,) in connection.execute("SELECT id FROM outcomes WHERE state = 'quarantined'")]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so; a log in a file tells nobody that it has grown."""
        deadline = monotonic() + SECONDS
        while not condition():
            assert monotonic() < deadline, (self.lines()[-10:], self._driver.errors()[-2000:])
            sleep(0.03)

    def until_logged(self, pattern: str, times: int = 1) -> None:
        self.until(lambda: sum(bool(re.search(pattern, message)) for message in self.messages()) >= times)

    def until_told(self, outcomes: int) -> None:
        self.until(lambda: len(self.told()) >= outcomes)


@pytest.fixture
def engine(driver: Driver, server: Server, simulator: SpawnedSimulator, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(driver, server, simulator, tmp_path)
    yield engine
    engine.kill()
    server.admin.drop_database(engine.database)


def check_accounts(engine: Engine, refused: int = 0) -> None:
    """Each request is an outcome that the log tells as recorded, and that is in the database once, or is refused."""
    stored = [str(one["_id"]) for one in engine.stored()]
    quarantined = engine.quarantined()
    assert len(quarantined) == refused
    assert sorted(engine.told()) == sorted(stored + quarantined)
    told = len(engine.told())
    assert len(engine.requested()) == told
    assert engine.messages()[-1] == ended(told, len(stored), 0)
    failed = [one for one in engine.stored() if one["outcome"] == "failed"]
    counts = Counter(one["fingerprint"] for one in failed)
    assert {one["fingerprint"]: one["count"] for one in engine.database.error_rollups.find()} == counts
    assert [one for one in failed if one.get("uncounted")] == []


def ended(recorded: int, stored: int, waiting: int) -> str:
    """Return the last sentence of an engine that lost nothing."""
    return f"ended: {recorded} outcomes recorded, {stored} stored, {waiting} wait in the spool, 0 lost"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("away", "sentence"),
    [
        pytest.param(Server.killed, r"can't be reached|failed|took too long", id="S2-killed"),
        pytest.param(Server.frozen, r"took too long|can't be reached", id="S3-frozen"),
        pytest.param(Server.refusing, r"refuses us \(.*\); check the user, its password", id="S5-refusing"),
        pytest.param(Server.not_primary, "", id="S6-not-primary"),
        pytest.param(Server.unsure, "", id="S6-write-concern"),
        pytest.param(Server.hanging_up, "", id="S6-hanging-up"),
    ],
)
def test_S2_S3_S5_S6_a_store_that_goes_away_and_comes_back_costs_nothing(
    engine: Engine, server: Server, long: bool, away: Callable[[Server], AbstractContextManager[None]], sentence: str
) -> None:
    """While it is away runs are made and recorded, and the log says what is wrong, once; then all is stored, once.

    Of the models some succeed, over and over, and some fail, once each. The accounts are those of the provider, the
    log and the database: each has the same outcomes at the end, and failures are counted as often as they are there.
    """
    outages, seconds = OUTAGES[long]
    engine.configure(*(unique(words) for _ in range(20) for words in ("ttft50-gap5", "404") * 2), schedule=OFTEN)
    engine.start()
    for outage in range(1, outages + 1):
        engine.until_told(3 * outage)
        with away(server):
            before = len(engine.requested())
            engine.until_logged(rf"^the store {KEPT}: MongoDB .*({sentence})", outage)
            engine.until(lambda: len(engine.requested()) > before + 8)  # noqa: B023  called in this turn only
            sleep(seconds)
            told = len(engine.told())
        engine.until_logged("^the store takes outcomes again$", outage)
        engine.until_told(told + 10)
        engine.until(lambda: len(engine.stored()) > told)  # noqa: B023  the same

    assert engine.end(signal.SIGTERM) == 0
    check_accounts(engine)
    complaints = [line for line in engine.lines() if line["logger"] == "llmbench.actors.delivery"]
    assert [line["level"] for line in complaints] == ["error", "info"] * outages
    assert PASSWORD not in json.dumps(engine.lines())


def test_S1_S2_engines_that_start_and_end_while_their_store_is_away(engine: Engine, server: Server) -> None:
    """They measure what config.toml lists and record it; nothing is measured twice, and all is stored in the end.

    1. The first engine never meets the server, measures every model, and is killed.
    2. The next one measures what is new only, of which one run goes on until it is killed, too.
    3. One more records that run as interrupted, has nothing to measure, is ended, and says what waits in the spool.
    4. The last one starts while the server is away, and delivers all of it once the server is there.
    """
    models = [unique("ttft20-gap5") for _ in range(16)]
    new, endless = unique(), unique("ttft5-gap5-stall3")
    with server.killed():
        engine.configure(*models)
        engine.start()
        engine.until_told(16)
        engine.until_logged(rf"^the store {KEPT}: MongoDB database .* can't be reached \(")
        assert engine.end(signal.SIGKILL) == -signal.SIGKILL

        engine.configure(*models, new, endless)
        engine.start()
        engine.until_told(17)
        engine.until(lambda: len(engine.requested()) == 18)
        assert engine.end(signal.SIGKILL) == -signal.SIGKILL

        engine.start()
        engine.until_logged(f"^1 runs were interrupted when llmbench last ended: groq/{endless}$")
        engine.until_logged(rf"^the store {KEPT}", 3)
        assert engine.end(signal.SIGTERM, signal.SIGTERM) == 128 + signal.SIGTERM
        assert engine.messages()[-1] == ended(0, 0, 18)
        engine.start()
        engine.until_logged(rf"^the store {KEPT}", 4)
    engine.until(lambda: len(engine.stored()) == 18)

    assert engine.end(signal.SIGTERM) == 0
    assert engine.messages()[-1] == ended(0, 18, 0)
    assert sorted(str(one) for one in engine.requested()) == sorted([*models, new, endless])
    stored = {one["model_name"]: one for one in engine.stored()}
    assert set(stored) == {*models, new, endless}
    assert (stored[endless]["error_kind"], stored[endless]["error_cause"]) == ("local", "interrupted")
    assert {str(one["_id"]) for one in engine.stored()} == {*engine.told(), str(stored[endless]["_id"])}


def test_S9_one_outcome_that_the_store_refuses_keeps_no_other_out(engine: Engine, server: Server) -> None:
    """They come in one batch, as the server is frozen first; the one is named in the log and kept in quarantine.

    The exit code is 1, as somebody has to look at it.
    """
    good, odd = [unique() for _ in range(40)], unique(name="z-")
    engine.database.create_collection("metrics_cloud_v2", validator={"model_name": {"$ne": odd}})
    engine.configure(*good, odd)
    engine.start()
    engine.until_told(1)
    with server.frozen():
        engine.until(lambda: len(engine.requested()) == 41)
    engine.until(lambda: len(engine.stored()) == 40)
    engine.until_logged("was not stored")

    assert engine.end(signal.SIGTERM) == 1
    assert {one["model_name"] for one in engine.stored()} == set(good)
    (refused,) = [message for message in engine.messages() if "was not stored" in message]
    why = "and is kept in quarantine: MongoDB refused the document: "
    assert re.search(rf"^outcome [0-9a-f]{{24}} of groq/{odd} was not stored, {why}", refused)
    check_accounts(engine, refused=1)


def test_S22_indexes_that_are_missing_are_made_before_anything_is_written(engine: Engine) -> None:
    """Collections of an earlier system, without a single index: fingerprints are unique from the start."""
    for name in ("models", "metrics_cloud_v2", "errors_cloud", "error_rollups"):
        engine.database.create_collection(name)
    engine.configure(unique("404"))
    engine.start()
    engine.until_told(1)

    assert engine.end(signal.SIGTERM) == 0
    found = engine.database.error_rollups.index_information().values()
    assert [index["key"] for index in found if index.get("unique")] == [[("fingerprint", 1)]]
    check_accounts(engine)


def test_S22_a_view_in_the_place_of_a_collection_is_refused(engine: Engine, driver: Driver) -> None:
    """Exit code 2 and a sentence that names it, before anything is measured."""
    engine.database.command("create", "metrics_cloud_v2", viewOn="elsewhere", pipeline=[])
    engine.configure(unique())
    engine.start()

    assert engine.end() == 2
    assert "has 'metrics_cloud_v2' as a view, not as a collection" in driver.errors()
    assert engine.requested() == []

"""K1: engines are killed at random moments, over every kind of store; nothing that was recorded is lost or doubled."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.machines import Base
from tests.e2e.program import Place
from tests.faults.conftest import Tell
from tests.faults.doomed import Doomed, configure, copied, doomed
from tests.stores.mongod import Mongod

KILLS = {False: 6, True: 67}
"""How often engines are killed over each store: in every session, and in a long one."""
BRIDGE_KILLED_EVERY = 10
"""A bridge is killed once for so many kills of the engine, or fewer."""
HEAD = (
    f"{'K1':<10}{'kills':>8}{'recorded':>10}{'redelivered':>13}{'lost':>6}{'twice':>7}{'interrupted':>13}{'seconds':>9}"
)


class Target(NamedTuple):
    """A kind of store to be killed over: what the engine needs to find it, and how it is looked into.

    ``driver`` is the fork server, ``config`` more TOML, ``env`` more variables. ``stored`` returns the id of every
    outcome that is there, once for each copy, with its cause if it is a failure; ``sound`` fails if the store is not.
    ``meddle`` does to the store what else is to happen, just before this kill, and with None ends it.
    """

    driver: str
    config: str
    env: dict[str, str]
    stored: Callable[[], list[tuple[str, str | None]]]
    sound: Callable[[], None]
    meddle: Callable[[int | None], None] = lambda _kill: None


@contextmanager
def in_sqlite(folder: Path, _mongod: Callable[[], Mongod]) -> Iterator[Target]:
    database = folder / "llmbench.db"

    def stored() -> list[tuple[str, str | None]]:
        with copied(database) as copy:
            if copy is None or not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'failures'").fetchall():
                return []
            cause = "json_extract(document, '$.error_cause')"
            sql = f"SELECT id, NULL FROM samples UNION ALL SELECT id, {cause} FROM failures"
            return copy.execute(sql).fetchall()

    def sound() -> None:
        with copied(database) as copy:
            assert copy is not None
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    yield Target("engine_driver", "", {}, stored, sound)


@contextmanager
def in_mongodb(folder: Path, mongod: Callable[[], Mongod]) -> Iterator[Target]:
    server = mongod()
    with database_of(folder, server) as database:
        config = f'[store.mongo]\ndatabase = "{database.name}"\n'
        variables = {"MONGODB_URI": server.uri}
        yield Target("mongo_driver", config, variables, partial(stored_in, database), partial(check_counts, database))


@contextmanager
def behind_bridge(folder: Path, mongod: Callable[[], Mongod]) -> Iterator[Target]:
    """The bridge is a process of its own, which is killed, too, and for two kills of the engine is not there."""
    server = mongod()
    (home := folder / "bridge").mkdir()
    with database_of(folder, server) as database, ExitStack() as programs:
        variables = {"MONGODB_URI": server.uri, "MONGODB_DB": database.name, "INGEST_API_KEY": "shared-by-all-engines"}
        bridge = Base(Place(home, None), variables, programs)
        (home / "config.toml").write_text("[server]\nrequests_per_second = 1000\n")
        bridge.serve()

        def meddle(kill: int | None) -> None:
            if kill is None:
                bridge.until_serving()
            elif kill % BRIDGE_KILLED_EVERY == 3:
                assert bridge.end(signal.SIGKILL) == -signal.SIGKILL
            elif kill % BRIDGE_KILLED_EVERY == 5:
                bridge.begin_to_serve()

        engine = {"INGEST_API_URL": bridge.url, "INGEST_API_KEY": variables["INGEST_API_KEY"]}
        looks = partial(stored_in, database), partial(check_counts, database)
        yield Target("mongo_driver", "", engine, *looks, meddle)


@contextmanager
def database_of(folder: Path, server: Mongod) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](server.uri) as client:
        database = client[f"kills-{folder.name}"[:60]]
        yield database
        client.drop_database(database)


def stored_in(database: Database[dict[str, Any]]) -> list[tuple[str, str | None]]:
    found = [one for kind in ("metrics_cloud_v2", "errors_cloud") for one in database[kind].find()]
    return [(str(one["_id"]), one.get("error_cause")) for one in found]


def check_counts(database: Database[dict[str, Any]]) -> None:
    """Failures were counted as often as they are there."""
    counts = Counter(one["fingerprint"] for one in database.errors_cloud.find())
    assert {one["fingerprint"]: one["count"] for one in database.error_rollups.find()} == counts


class Accounts:
    """What the kills came to, by what was on the disk after each of them."""

    def __init__(self, engines: Doomed, target: Target) -> None:
        self._engines = engines
        self._target = target
        self.kills = 0
        self.redelivered = 0
        self.interrupted: set[str] = set()

    def killed(self) -> None:
        """All that was told is in the spool; what waits there and is in the store will be delivered once more."""
        left = self._engines.left()
        assert set(self._engines.told()) <= left.recorded
        self.kills += 1
        self.redelivered += len(left.waiting & {one for one, _ in self._target.stored()})
        self.interrupted |= left.attempts


@pytest.fixture
def mongo(request: pytest.FixtureRequest) -> Callable[[], Mongod]:
    """Return what starts the server of all tests, if need be."""
    return lambda: request.getfixturevalue("mongod")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [in_sqlite, in_mongodb, behind_bridge], ids=["SQLite", "MongoDB", "bridge"])
def test_K1_kills_lose_nothing_that_was_recorded(
    tmp_path: Path,
    simulator: SpawnedSimulator,
    mongo: Callable[[], Mongod],
    long: bool,
    tell: Tell,
    kind: Callable[[Path, Callable[[], Mongod]], AbstractContextManager[Target]],
    request: pytest.FixtureRequest,
) -> None:
    """SIGKILL at random moments, over one spool and one store.

    1. Engines are killed: every other one as it starts or later, the others once they have recorded a run.
    2. After each kill, every id that a log told as recorded is in the spool.
    3. One more delivers what they left, and ends well when it is told to.
    4. The store is sound and has every outcome that was recorded, once, those of interrupted attempts among them.
    """
    place, kills, seed = Place(tmp_path, simulator), KILLS[long], random.SystemRandom().randrange(2**32)
    moments, began = random.Random(seed), monotonic()
    models = [unique("ttft1-gap0.5") for _ in range(200 + 8 * kills)]
    with kind(tmp_path, mongo) as target:
        configure(place, target.config, schedule="fresh_minutes = 0.1\nlease_seconds = 1")
        with doomed(place, target.driver, models, target.env) as engines:
            accounts = Accounts(engines, target)
            for kill in range(kills):
                engines.start()
                if kill % 2:
                    engines.until_runs()
                target.meddle(kill)
                sleep(moments.uniform(0, 0.2 if kill % 2 else 0.8))
                engines.kill()
                accounts.killed()
            target.meddle(None)
            engines.start()
            engines.until_runs()
            code = engines.end(signal.SIGTERM)
            told, left, last = engines.told(), engines.left(), engines.messages()[-1]
        stored = target.stored()
        target.sound()

    ids = Counter(one for one, _ in stored)
    recorded = left.recorded | set(told)
    lost, twice = recorded - set(ids), [one for one, count in ids.items() if count > 1]
    tell(f"seed of the moments of {request.node.name}: {seed}")
    tell(HEAD)
    tell(
        f"{request.node.callspec.id:<10}{kills:>8}{len(recorded):>10}{accounts.redelivered:>13}{len(lost):>6}"
        f"{len(twice):>7}{len(accounts.interrupted):>13}{monotonic() - began:>9.1f}"
    )
    assert (code, lost, twice, left.waiting, left.quarantined, left.attempts) == (0, set(), [], set(), set(), set()), (
        seed,
        last,
    )
    assert len(told) == len(set(told)) > kills // 2, "no run is told twice"
    assert set(ids) == recorded, "nothing is in the store that was not recorded"
    assert {one for one, cause in stored if cause == "interrupted"} == accounts.interrupted

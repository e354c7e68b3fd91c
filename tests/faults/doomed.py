"""Engines of one folder, one after the other, that are killed; and what is in their spool when none of them runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import NamedTuple

from tests.e2e.program import KEYS, SECONDS, Place, output
from tests.faults.logs import Log

SPOOL = "spool"
"""Where the engines' spool is, in their folder."""


class Left(NamedTuple):
    """What a spool holds: the ids of all outcomes, of those that wait or are in quarantine, and of open attempts."""

    recorded: set[str]
    waiting: set[str]
    quarantined: set[str]
    attempts: set[str]


class Doomed:
    """The engines of a folder; `logs` are theirs, in order. One runs at a time."""

    def __init__(self, driver: subprocess.Popen[str], folder: Path) -> None:
        self.folder = folder
        self.logs: list[Log] = []
        self.driver = driver
        self.running = False
        self.process = 0

    def start(self) -> None:
        log = self.folder / f"{len(self.logs)}.log"
        self.logs.append(Log(log))
        assert self.driver.stdin is not None
        self.driver.stdin.write(f"{log}\n")
        self.driver.stdin.flush()
        self.process = int(output(self.driver).readline())
        self.running = True

    def end(self, *numbers: signal.Signals) -> int:
        """Send it signals, or none; return its exit code."""
        for number in numbers:
            os.kill(self.process, number)
        code = int(output(self.driver).readline())
        self.running = False
        return code

    def kill(self) -> None:
        assert self.end(signal.SIGKILL) == -signal.SIGKILL

    def messages(self) -> list[str]:
        """Return what the newest engine said so far."""
        return [line.get("message", "") for line in self.logs[-1].lines()]

    def told(self) -> list[str]:
        """Return the ids that all logs say are recorded."""
        lines = [line for log in self.logs for line in log.lines()]
        return [line["id"] for line in lines if line.get("event") == "run"]

    def until_logged(self, text: str, times: int = 1) -> None:
        """Wait until the newest engine's log has a text so often."""
        deadline = monotonic() + SECONDS
        log = self.logs[-1]
        while log.text().count(text) < times:
            assert monotonic() < deadline, (text, log.text()[-2000:])
            sleep(0.01)

    def until_listening(self) -> None:
        """Wait until the newest engine takes signals, which is when it begins to measure."""
        deadline, status = monotonic() + SECONDS, Path(f"/proc/{self.process}/status")
        while not int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16) & 1 << (signal.SIGTERM - 1):
            assert monotonic() < deadline, self.messages()[-5:]
            sleep(0.01)

    def until_runs(self, count: int = 1) -> None:
        """Wait until the newest engine's log tells of so many recorded runs."""
        self.until_logged('"event":"run"', count)

    def left(self) -> Left:
        """Return what the spool holds. A copy is looked at: SQLite would mend what the next engine is to mend."""
        with copied(self.folder / SPOOL / "spool.db") as copy:
            if copy is None:
                return Left(set(), set(), set(), set())
            states: dict[str, set[str]] = {"waiting": set(), "delivered": set(), "quarantined": set()}
            for state, one in copy.execute("SELECT state, id FROM outcomes"):
                states[state].add(one)
            attempts = {one for (one,) in copy.execute("SELECT id FROM attempts")}
            return Left(set().union(*states.values()), states["waiting"], states["quarantined"], attempts)


@contextmanager
def copied(database: Path) -> Iterator[sqlite3.Connection | None]:
    """Open a copy of a database and its log, as they are on the disk; None if there is none."""
    if not database.exists():
        yield None
        return
    with TemporaryDirectory(dir=database.parent.parent) as folder:
        for part in ("", "-wal"):
            source = database.with_name(f"{database.name}{part}")
            if source.exists():
                shutil.copyfile(source, Path(folder) / source.name)
        with closing(sqlite3.connect(Path(folder) / database.name)) as connection:
            yield connection


def configure(
    place: Place,
    more: str = "",
    *,
    models: Sequence[str] = (),
    schedule: str = "fresh_minutes = 0.1",
    spool: Mapping[str, object] = {},
) -> None:
    """Configure an engine that measures these models, or what the environment lists, as fast as it can.

    ``more`` is more TOML, ``schedule`` and ``spool`` more of those tables.
    """
    place.configure(schedule, groq=models)
    config = place.folder / "config.toml"
    fast = config.read_text().replace("requests_per_minute = 6000", "requests_per_minute = 100000\nconcurrency = 8")
    table = "".join(f"{name} = {value}\n" for name, value in ({"folder": f'"{SPOOL}"'} | dict(spool)).items())
    config.write_text(f"{fast.replace('max_tokens = 16', 'max_tokens = 4')}\n[spool]\n{table}\n{more}")


@contextmanager
def doomed(place: Place, driver: str, models: list[str], env: Mapping[str, str] = {}) -> Iterator[Doomed]:
    """Have a fork server, a module of these tests, make engines in a place that is configured."""
    listed = {"BENCHMARK_MODELS": ",".join(f"groq/{model}" for model in models)}
    command = (sys.executable, "-m", f"tests.faults.{driver}")
    with place.started(command=command, env=KEYS | listed | dict(env), stdin=subprocess.PIPE, stderr=None) as process:
        yield Doomed(process, place.folder)

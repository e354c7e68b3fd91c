"""The real program as a process of its own, in a folder that nobody else knows, pointed at the simulator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, NamedTuple

import anyio
import msgspec

import llmbench
from llmbench.messages import Failure, Outcome, Sample
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.base import OutcomeQuery
from llmbench.stores.sqlite import SQLiteStore
from tests.runs import base_url

COMMAND = (sys.executable, "-m", "llmbench")
SOURCES = str(Path(llmbench.__file__).parents[1])
KEY = "sk-canary-0123456789abcdef"
KEYS = {"GROQ_API_KEY": KEY, "TOGETHER_API_KEY": KEY}
SECONDS = 50.0
"""No run of the program in these tests takes a tenth of this on a quiet machine."""


class Result(NamedTuple):
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines; every one has to be a JSON object."""
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in self.out.splitlines()]

    def runs(self) -> list[dict[str, Any]]:
        """Return the log's lines that tell of stored runs."""
        return [line for line in self.lines() if line.get("event") == "run"]


class Place:
    """A folder with a config.toml, a database, and an environment with nothing but what a test gives it."""

    def __init__(self, folder: Path, simulator: SpawnedSimulator | None) -> None:
        self.folder = folder
        self.database = folder / "llmbench.db"
        self._url = simulator.url if simulator is not None else ""

    def configure(self, schedule: str = "", **models: Sequence[str]) -> None:
        """Write a configuration of these providers with these models; ``schedule`` is more of that table."""
        parts = [
            f'[store.sqlite]\npath = "llmbench.db"\n\n[schedule]\n{schedule}\n\n[profiles.default]\nmax_tokens = 16'
        ]
        for name, listed in models.items():
            parts.append(
                f'[providers.{name}]\nbase_url = "{base_url(self._url, name)}"\nrequests_per_minute = 6000\n'
                f"models = {msgspec.json.encode(list(listed)).decode()}"
            )
        (self.folder / "config.toml").write_text("\n\n".join(parts) + "\n", encoding="utf-8")

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        home = str(self.folder)
        return {"PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", "PYTHONPATH": SOURCES, **variables}

    def run(self, *arguments: str, env: Mapping[str, str] = KEYS) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(
        self, *arguments: str, command: Sequence[str] = COMMAND, env: Mapping[str, str] = KEYS, **options: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command that goes on until it is ended; it is killed if a test leaves it running."""
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=self.environment(env),
            encoding="utf-8",
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def outcomes(self) -> list[Outcome]:
        """Return what is stored, newest first."""
        return anyio.run(self._outcomes)

    async def _outcomes(self) -> list[Outcome]:
        store = SQLiteStore(self.database)
        await store.open()
        try:
            return await store.outcomes(OutcomeQuery())
        finally:
            await store.close()

    def samples(self) -> list[Sample]:
        return [outcome for outcome in self.outcomes() if isinstance(outcome, Sample)]

    def failures(self) -> list[Failure]:
        return [outcome for outcome in self.outcomes() if isinstance(outcome, Failure)]


def output(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def until_logged(process: subprocess.Popen[str], model: str) -> str:
    """Read the log of a running engine until it tells that a run of this model is stored; return what was read."""
    read = ""
    for line in output(process):
        read += line
        if f'"model":"{model}"' in line:
            return read
    raise AssertionError(f"the log ended without a run of {model}: {read}")


def ended(process: subprocess.Popen[str], *signals: signal.Signals, before: str = "") -> Result:
    """Send signals, each once the one before was noticed in the log, and wait for the end."""
    read = before
    for index, number in enumerate(signals, 1):
        process.send_signal(number)
        if index < len(signals):
            read += next(line for line in output(process) if number.name in line)
    out, err = process.communicate(timeout=SECONDS)
    return Result(process.returncode, read + out, err)


def turns(seconds: float) -> Iterator[None]:
    """Turn slowly until the time is up, and then fail: what is elsewhere can only be asked."""
    end = monotonic() + seconds
    while monotonic() < end:
        yield
        sleep(0.03)
    raise AssertionError(f"this took more than {seconds:g} s")

"""Machines for tests: real programs with a home, variables and a log of their own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx

from llmbench.simulator import SpawnedSimulator
from tests.e2e.program import SECONDS, Place, turns
from tests.runs import base_url

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

    def command_line(self) -> str:
        """Return what everybody on the machine can see of the program."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/cmdline").read_text()

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
        self.begin_to_serve()
        self.until_serving()

    def begin_to_serve(self) -> None:
        self.start("ingest", "--listen", f"127.0.0.1:{self.port}")

    def until_serving(self) -> None:
        self.port = int(self.until_logged(r"http://127\.0\.0\.1:(\d+) into MongoDB")[1])

    def health(self, key: str | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"X-API-Key": key} if key is not None else {}
        answer = httpx.get(f"{self.url}/health", headers=headers, trust_env=False, timeout=20)
        return answer.status_code, answer.json()

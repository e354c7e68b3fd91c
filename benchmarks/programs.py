"""The machine with the database, as a process: the bridge alone, or an engine that measures and is one, too."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.posting import RUNNER
from llmbench.ids import new_outcome_id
from llmbench.simulator.spawn import SpawnedSimulator

_SECONDS = 30.0
_PAUSE = 0.02
_MODELS = 4
"""So many models for each stream, that one is always due."""


class Base:
    """A program that listens, on a database of its own."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.uri = uri
        self.database = f"llm-bench-{new_outcome_id()}"
        self._folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.key = ""

    def start(self, simulator: SpawnedSimulator | None, streams: int) -> None:
        """Start it, and wait until it answers."""
        (self._folder / "config.toml").write_text(self._configuration(simulator, streams))
        command = self._command("keys", "new", RUNNER)
        made = subprocess.run(command, env=self.environment, capture_output=True, check=True, text=True)
        self.key = made.stdout.strip()
        arguments = ["--headless"] if simulator is not None else ["ingest"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(*arguments),
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._until(self._answers)

    def _configuration(self, simulator: SpawnedSimulator | None, streams: int) -> str:
        parts = [
            f'[runner]\nid = "bench"\n[server]\nlisten = "127.0.0.1:{self.port}"\nrequests_per_second = 1000',
            "[schedule]\nfresh_minutes = 0.1\ngrace_seconds = 10\n[profiles.default]\nmax_tokens = 150",
        ]
        if simulator is not None:
            models = ", ".join(f'"m{number}-sim-ttft200-gap20"' for number in range(_MODELS * streams))
            parts.append(
                f'[providers.local]\nkind = "openai-compatible"\nbase_url = "{simulator.url}/local/v1"\n'
                f"requests_per_minute = 60000\nconcurrency = {streams}\nmodels = [{models}]"
            )
        return "\n".join(parts) + "\n"

    @property
    def environment(self) -> dict[str, str]:
        variables = {"MONGODB_URI": self.uri, "MONGODB_DB": self.database, "HOME": str(self._folder), "LANG": "C.UTF-8"}
        return variables | {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "llmbench", *arguments, "--config", str(self._folder / "config.toml")]

    @property
    def socket(self) -> Path:
        """Where its owner can watch it."""
        return next(self._folder.rglob("engine.sock"))

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False).status_code == httpx.codes.OK
        except httpx.ConnectError:
            return False

    def until_measuring(self) -> None:
        """Wait until the first runs are recorded: what a start costs is over."""
        self._until(lambda: re.search(b'"event":"run"', self._log.read_bytes()) is not None)

    def rest(self, seconds: float) -> None:
        """Let it measure, with nobody who posts."""
        time.sleep(seconds)

    def stop(self) -> None:
        """End it gracefully, if it runs; what streams is finished, and delivered."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            if process.wait(_SECONDS) != 0:
                raise SystemExit(f"llmbench ended with {process.returncode}:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _until(self, holds: Callable[[], bool]) -> None:
        assert self._process is not None
        end = time.monotonic() + _SECONDS
        while not holds():
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"llmbench does not serve:\n{self._log.read_text()[-2000:]}")
            time.sleep(_PAUSE)


@contextmanager
def running_base(uri: str, simulator: SpawnedSimulator | None = None, *, streams: int = 0) -> Iterator[Base]:
    """Run the program; it measures the simulator's models, if there is one."""
    with tempfile.TemporaryDirectory() as folder:
        base = Base(Path(folder), uri)
        try:
            base.start(simulator, streams)
            yield base
            base.stop()
        finally:
            base.kill()

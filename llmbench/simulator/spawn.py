"""The simulator as a child process, for tests, demos and calibration."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlencode

import msgspec

from llmbench.simulator.main import Announcement
from llmbench.simulator.record import Counts, RequestRecord, decode_records
from llmbench.simulator.server import SimulatorError

_STOP_SECONDS = 5.0
_ANSWER_SECONDS = 10.0


class SpawnedSimulator:
    """A running simulator process. Its methods block for a moment: from async code, call them in a thread."""

    def __init__(self, announcement: Announcement, ca_file: str | None) -> None:
        self.port = announcement.port
        self.pid = announcement.pid
        self.url = announcement.url
        """The root of all its addresses; a provider's base is a path below it."""
        self.ca_file = ca_file

    def requests(self, *, provider: str | None = None, model: str | None = None, since: int = 0) -> list[RequestRecord]:
        """Return the latest requests with a number above ``since``, those of one provider or model if wanted."""
        wanted = {"provider": provider, "model": model, "since": since}
        query = urlencode({name: value for name, value in wanted.items() if value is not None})
        return decode_records(self._call("GET", f"/_sim/requests?{query}"))

    def counts(self) -> Counts:
        """Return how many requests there were, and how their answers ended."""
        return msgspec.json.decode(self._call("GET", "/_sim/count"), type=Counts)

    def reset(self) -> None:
        """Forget the requests and the aliases."""
        self._call("POST", "/_sim/reset")

    def alias(self, model: str, becomes: str) -> None:
        """From now on, ``model`` behaves as the name ``becomes`` says."""
        self._call("POST", "/_sim/alias", msgspec.json.encode({model: becomes}))

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = self._connect()
        with contextlib.closing(connection):
            connection.request(method, path, body)
            response = connection.getresponse()
            data = response.read()
        if response.status != http.client.OK:
            raise SimulatorError(f"the simulator answered {response.status} to {method} {path}: {data[:200]!r}")
        return data

    def _connect(self) -> http.client.HTTPConnection:
        host = self.url.partition("://")[2].rpartition(":")[0].strip("[]")
        if self.url.startswith("https:"):
            context = ssl.create_default_context(cafile=self.ca_file)
            return http.client.HTTPSConnection(host, self.port, timeout=_ANSWER_SECONDS, context=context)
        return http.client.HTTPConnection(host, self.port, timeout=_ANSWER_SECONDS)


@contextlib.contextmanager
def spawn_simulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    ca_file: str | None = None,
    record: str | None = None,
    cpu: int | None = None,
) -> Iterator[SpawnedSimulator]:
    """Run a simulator as a process of its own, on one CPU if wanted, and stop it in the end.

    It ends also when this process dies, however that may be: its standard input is a pipe from here. ``ca_file`` is
    only for our own calls to it. Raises `SimulatorError` if it does not start.
    """
    options = {"host": host, "port": port, "tls-cert": tls_cert, "tls-key": tls_key, "record": record}
    command = [sys.executable, "-m", "llmbench.simulator", "--until-stdin-closes"]
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603 - our own module under our own interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            process_group=0,  # a terminal's Ctrl-C is for the program that measures: its streams are to finish
        ) as process,
    ):
        try:
            if cpu is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, {cpu})
            yield SpawnedSimulator(_announcement(process, errors), ca_file)
        finally:
            _stop(process)
            sys.stderr.write(_text(errors))


def _announcement(process: subprocess.Popen[bytes], errors: IO[bytes]) -> Announcement:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise SimulatorError(f"the simulator did not start: {_text(errors).strip()}")
    return msgspec.json.decode(line, type=Announcement)


def _text(file: IO[bytes]) -> str:
    """Take what the process wrote; it has ended, for both sides share the file's position."""
    file.seek(0)
    text = file.read().decode(errors="replace")
    file.truncate(0)
    return text


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()

"""How many outcomes a second a store takes, durably, and whether its memory stays flat meanwhile."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from benchmarks.report import Figure, heading, show
from benchmarks.storing import Result
from tests.stores.mongod import executable, running

_TIMEOUT_SECONDS = 180
_AT_LEAST = 5_000.0
_MEGABYTE = 1e6
_FLAT_MEGABYTES = 16.0
"""What the memory may grow by while outcomes of some 80 MB pass; an allocator's leftovers, no more."""

_BATCHES = (16, 100, 1000)
_BOUNDED = {"sqlite": 100, "mongo": 1000}
"""From which size of batch on the rate is bound. Small ones mostly wait: SQLite for the disk once a batch, MongoDB for
the disk and for the server's answers, eight of them where there are failures."""


def run(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Measure both stores; yield each figure once it is known."""
    outcomes = 4_000 if quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        yield from _store("SQLite", "sqlite", folder, outcomes, rounds)
    with a_mongod() as uri:
        if uri is None:
            heading("MongoDB: not measured, for lack of a mongod for this machine")
        else:
            yield from _store("MongoDB", "mongo", uri, outcomes, rounds)


@contextmanager
def a_mongod() -> Iterator[str | None]:
    """Run a server on a folder of its own; None where the wheel has none for this machine."""
    try:
        executable()
    except pytest.skip.Exception:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as mongod:
        yield mongod.uri


def _store(name: str, kind: str, place: str, outcomes: int, rounds: int) -> Iterator[Figure]:
    heading(f"{name}: outcomes of 64 tokens, one in ten a failure, stored durably")
    for size in _BATCHES:
        at_least = _AT_LEAST if size >= _BOUNDED[kind] else None
        done = [_stored(kind, place, size, outcomes) for _ in range(rounds)]
        rates = [outcomes / one.seconds for one in done]
        yield _shown(Figure(what=f"batches of {size}", rounds=rates, unit="/s", at_least=at_least))
        grown = [(one.after - one.before) / _MEGABYTE for one in done]
        what = "  memory grows between the first tenth and the end by"
        yield _shown(Figure(what=what, rounds=grown, unit="MB", at_most=_FLAT_MEGABYTES))


def _stored(kind: str, place: str, size: int, outcomes: int) -> Result:
    command = [sys.executable, "-m", "benchmarks.storing", "--store", kind, "--at", place]
    command += ["--batch", str(size), "--outcomes", str(outcomes)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"storing failed:\n{done.stderr.decode()[-2000:]}")
    return msgspec.json.decode(done.stdout, type=Result)


def _shown(figure: Figure) -> Figure:
    show(figure)
    return figure

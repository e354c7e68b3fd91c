"""How soon questions are answered on a big history, by the program itself, from its start to its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from benchmarks.big import History, fill_mongo, fill_sqlite
from benchmarks.report import Figure, heading, show
from tests.stores.mongod import executable, running

_QUESTIONS = {
    "errors --since 24h": 2.0,
    "errors --since 24h --by fingerprint": None,
    "errors --since 30d --by fingerprint": None,
    "health": 2.0,
    "health --since 30d": None,
    "results --summary --since 7d": 2.0,
    "results --summary --since 30d": None,
}
"""What is asked, and within how many seconds it has to be answered."""


def run(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Fill both stores and ask; yield each figure once it is known."""
    history = History(samples=100_000, failures=20_000) if quick else History()
    heading(f"questions: {history.samples:,} successes and {history.failures:,} failures in 30 days, 300 models")
    with tempfile.TemporaryDirectory() as folder:
        yield from _on_sqlite(Path(folder), history, rounds)
    with tempfile.TemporaryDirectory() as folder:
        yield from _on_mongo(Path(folder), history, rounds)


def _on_sqlite(folder: Path, history: History, rounds: int) -> Iterator[Figure]:
    path = folder / "big.db"
    fill_sqlite(path, history)
    (folder / "config.toml").write_text(f'[store.sqlite]\npath = "{path}"\n')
    yield from _ask("SQLite", folder, {}, rounds)


def _on_mongo(folder: Path, history: History, rounds: int) -> Iterator[Figure]:
    try:
        executable()
    except (PackageNotFoundError, pytest.skip.Exception):
        print("no mongod here: MongoDB is left out", file=sys.stderr)
        return
    (folder / "config.toml").write_text("")
    with running(folder) as server:
        fill_mongo(server.uri, "llm-bench", history)
        yield from _ask("MongoDB", folder, {"MONGODB_URI": server.uri}, rounds)


def _ask(store: str, folder: Path, variables: Mapping[str, str], rounds: int) -> Iterator[Figure]:
    for question, at_most in _QUESTIONS.items():
        seconds = [_seconds(question, folder, variables) for _ in range(rounds)]
        figure = Figure(what=f"{store}: {question}", rounds=seconds, unit="s", at_most=at_most)
        show(figure)
        yield figure


def _seconds(question: str, folder: Path, variables: Mapping[str, str]) -> float:
    command = [sys.executable, "-m", "llmbench", *question.split(), "--config", str(folder / "config.toml")]
    environment = {**os.environ, **variables}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if not done.stdout:
        raise SystemExit(f"{question} gave no answer: {done.stderr.decode()}")
    return seconds

"""The real program, each time as a process of its own, in a home and a folder that nobody else knows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

import llmbench
from llmbench.messages import Model, Outcome
from llmbench.stores.sqlite import SQLiteStore
from tests.cli.forks import Forks, can_be_forked, forking
from tests.stores.documents import envelope

COMMAND = [sys.executable, "-m", "llmbench"]
SOURCES = str(Path(llmbench.__file__).parents[1])
SECONDS = 150.0
"""No command of these tests takes longer, on a machine that is busy with other things as well."""


class Result(NamedTuple):
    """How a run of the program ended."""

    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        """Return the lines of standard output."""
        return self.out.splitlines()


def run_afresh(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command from Python's start on; return its exit code and its two outputs."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


class Program:
    """Runs the program where it finds no configuration, no data and no variables but those that a test gives it."""

    def __init__(self, home: Path, forks: Forks) -> None:
        self.home = home
        self._forks = forks
        self.database = home / "data" / "llmbench" / "llmbench.db"

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the whole environment that a run sees."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": SOURCES,
            **variables,
        }

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Result:
        """Run a command to its end. It must not show a traceback, whatever it was asked."""
        words, environment = [str(word) for word in arguments], self.environment(**(env or {}))
        run = self._forks.run if can_be_forked(words) else run_afresh
        result = Result(*run(words, self.home, environment))
        assert "Traceback" not in result.err, result.err
        return result

    def ok(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Result:
        """Run a command that has to succeed."""
        result = self.run(*arguments, env=env)
        assert result.code == 0, result.err
        return result

    def refused(self, *arguments: str | Path, env: Mapping[str, str] | None = None, code: int = 2) -> str:
        """Run a command that has to fail, in a sentence and without any output; return the sentence."""
        result = self.run(*arguments, env=env)
        assert (result.code, result.out) == (code, "")
        assert result.err.startswith("llmbench: ")
        return result.err.removeprefix("llmbench: ").removesuffix("\n")

    @contextmanager
    def started(
        self, *arguments: str | Path, command: Sequence[str] = COMMAND, **options: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command that goes on until it is ended; it is killed if a test leaves it running."""
        usual: dict[str, Any] = {"stdin": subprocess.DEVNULL, "env": self.environment()}
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **usual | options,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def configure(self, text: str) -> Path:
        """Write the config.toml that the program finds by itself."""
        path = self.home / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def store(self, outcomes: Sequence[Outcome] = (), models: Sequence[Model] = ()) -> None:
        """Put outcomes and models where the program looks for them."""
        anyio.run(self._store, outcomes, models)

    async def _store(self, outcomes: Sequence[Outcome], models: Sequence[Model]) -> None:
        store = SQLiteStore(self.database)
        await store.open()
        try:
            for verdict in await store.put([envelope(outcome) for outcome in outcomes]):
                assert verdict.status == "stored", verdict
            for model in models:
                await store.add_model(model)
        finally:
            await store.close()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """The program with all its imports done."""
    with forking(tmp_path_factory.mktemp("forks"), SOURCES) as server:
        yield server


@pytest.fixture
def program(tmp_path: Path, forks: Forks) -> Program:
    """The program in an empty home."""
    return Program(tmp_path, forks)


@pytest.fixture
def narrow() -> Callable[[Result], None]:
    """Check that no line is wider than a terminal of 80 columns, and that nothing in it is an escape sequence."""

    def check(result: Result) -> None:
        assert "\x1b" not in result.out
        assert max(map(len, result.lines())) <= 80

    return check

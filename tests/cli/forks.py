"""A fork server for commands that are over at once: each child is the real program, without its imports.

Nearly all of the time that ``llmbench models list`` takes is Python's start and imports, and there are hundreds of such
runs in these tests. This process imports all that once, opens nothing, starts no thread, and forks a child for each
line on standard input: a JSON object of the command's arguments, folder, environment, and files for its two outputs.
It answers with the child's exit code. That the program starts by itself is tested in tests/e2e.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import anyio
import msgspec
import rich.console
import rich.table  # noqa: F401  what the children would import

from llmbench import ids
from llmbench.__main__ import main
from llmbench.cli import configuration, models, results  # noqa: F401  what the children would import
from llmbench.stores import sqlite  # noqa: F401  the same

_LONG = {"--headless", "bench", "calibrate", "demo", "simulate"}


def can_be_forked(arguments: Sequence[str]) -> bool:
    """Say whether a command is over at once: nothing is measured and nothing served."""
    return _LONG.isdisjoint(arguments) or "--help" in arguments


class Order(msgspec.Struct):
    """A command to be run."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    out: str
    err: str


class Forks:
    """The other side of the pipe."""

    def __init__(self, server: subprocess.Popen[bytes], folder: Path) -> None:
        self._server = server
        self._out, self._err = folder / "out", folder / "err"

    def run(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Run a command; return its exit code and its two outputs."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        order = Order(list(arguments), str(folder), dict(environment), str(self._out), str(self._err))
        self._server.stdin.write(msgspec.json.encode(order) + b"\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return code, self._out.read_text(encoding="utf-8"), self._err.read_text(encoding="utf-8")


@contextmanager
def forking(folder: Path, sources: str) -> Iterator[Forks]:
    """Run a server, whose files are in ``folder``."""
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": sources}
    command = [sys.executable, "-m", "tests.cli.forks"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        yield Forks(server, folder)


def serve() -> None:
    """Run commands until there are no more orders."""
    anyio.run(anyio.sleep, 0)  # imports what every event loop needs
    gc.freeze()
    decoder = msgspec.json.Decoder(Order)
    while line := sys.stdin.buffer.readline():
        child = os.fork()
        if child == 0:
            be(decoder.decode(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def be(order: Order) -> NoReturn:
    """Be the program, with files for its outputs and nothing to read."""
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    for target, path in enumerate((os.devnull, order.out, order.err)):
        flags = os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags, 0o600), target)
    # Outcome ids hold bytes that are random for a process, and a fork is a process that did not draw its own.
    ids._process = os.urandom(5)
    sys.argv[1:] = order.arguments
    main()
    raise AssertionError("the program did not exit")


if __name__ == "__main__":
    serve()

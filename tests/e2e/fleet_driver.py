"""A fork server for several engines at a time: each child is the real ``llmbench --headless``, without its imports.

Starting three of them on a small machine takes seconds, nearly all of it for importing SDKs. This process imports all
that once, opens nothing and starts no event loop. Each line on standard input is a JSON object: `Start` is answered
with the child's process id, `Wait` with its exit code. That the program starts by itself is tested beside this.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec

from llmbench import ids
from llmbench.cli import headless
from llmbench.cli.main import main
from llmbench.config import Config
from llmbench.providers.registry import load_sdks
from llmbench.stores import mongo  # noqa: F401  what the children would import


class Start(msgspec.Struct, tag=True):
    """An engine is to run in this folder, with its log in a file.

    ``fresh_seconds`` is its ``fresh_minutes``, of which no configuration takes less than six seconds.
    """

    folder: str
    log: str
    environment: dict[str, str]
    fresh_seconds: float


class Wait(msgspec.Struct, tag=True):
    """Wait until a child has ended, of itself or by a signal."""

    process: int


def serve() -> None:
    """Obey until there are no more lines."""
    load_sdks(["openai-compatible"])
    gc.freeze()
    decoder = msgspec.json.Decoder(Start | Wait)
    while line := sys.stdin.buffer.readline():
        order = decoder.decode(line)
        answer = _start(order) if isinstance(order, Start) else _wait(order)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _start(order: Start) -> int:
    child = os.fork()
    if child == 0:
        be(order)
    return child


def _wait(order: Wait) -> int:
    _, status = os.waitpid(order.process, 0)
    return os.waitstatus_to_exitcode(status)


def configuration(load: Callable[[Path | None], Config], fresh_seconds: float, path: Path | None) -> Config:
    """Return what is configured, but for the freshness."""
    config = load(path)
    schedule = msgspec.structs.replace(config.schedule, fresh_minutes=fresh_seconds / 60)
    return msgspec.structs.replace(config, schedule=schedule)


def be(order: Start) -> NoReturn:
    """Be the program, with a file for its outputs and nothing to read."""
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Outcome ids hold bytes that are random for a process, and a fork is a process that did not draw its own.
    ids._process = os.urandom(5)
    headless.load_config = partial(configuration, headless.load_config, order.fresh_seconds)  # type: ignore[attr-defined]
    os._exit(main(["--headless"]))


if __name__ == "__main__":
    serve()

"""A fork server for engines that are to be killed: each child is the real ``llmbench --headless``, without its imports.

Starting the program costs a second or two, nearly all of it for importing SDKs. This process imports all of that
once, opens nothing and starts no event loop, and forks a child for each line on standard input, which names the file
for the child's log; the child works in that file's folder. It answers with the child's process id at once, and with
its exit status once it has ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from llmbench import ids
from llmbench.cli import headless  # noqa: F401  what the child would import
from llmbench.cli.main import main
from llmbench.providers.registry import load_sdks
from llmbench.stores import sqlite  # noqa: F401  the same


def serve(run: Callable[[str], NoReturn]) -> None:
    """Fork a child for each line, which does ``run`` with the line."""
    load_sdks(["openai-compatible"])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(line.rstrip("\n"))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run_as_engine(log: str) -> NoReturn:
    """Be the program in a log's folder, with the log for standard output."""
    os.chdir(Path(log).parent)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Outcome ids hold bytes that are random for a process, and a fork is a process that did not draw its own.
    ids._process = os.urandom(5)
    os._exit(main(["--headless"]))


if __name__ == "__main__":
    serve(run_as_engine)

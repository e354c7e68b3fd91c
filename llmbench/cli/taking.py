"""The bridge's worker: started by a program that serves, never by a person. It opens the store, and takes orders."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import UNIXSocketStream

from llmbench.bridge.process import Crew, ProcessTaker, frames, work
from llmbench.bridge.taking import StoreTaker
from llmbench.cli.context import make_store
from llmbench.cli.engine import environment, run_measuring
from llmbench.cli.waiting import open_patiently, reach
from llmbench.config import Config
from llmbench.logs import logging_to
from llmbench.secrets import Secrets
from llmbench.stores.apart import on_the_loop

ANSWER_SECONDS = 25.0
"""How long a sender waits for the store, which may have its outcomes all the same."""

_WORKERS = 2
"""So that a large batch of one sender does not hold up the others'."""

_BESIDE = "beside"
_NICE = 10


def taker_for(config: Config, *, measuring: bool) -> Crew:
    """Return what takes outcomes into the configured store, in processes of its own.

    They give way to a program that is ``measuring``.
    """
    command = [sys.executable, "-m", "llmbench.cli.taking", _BESIDE if measuring else "alone"]
    setup = msgspec.msgpack.encode(config, enc_hook=_as_text)
    return Crew([ProcessTaker(command, setup, answer_seconds=ANSWER_SECONDS) for _ in range(_WORKERS)])


def _as_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"a configuration has no {type(value).__name__}")


def _as_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(f"a configuration has no {kind.__name__}")


def main() -> int:
    """Be the worker, on the socket whose number the command line tells; return the exit code."""
    # The program that started it lets requests finish, and then closes the socket: that is when to end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    manner, descriptor = sys.argv[1:]
    if manner == _BESIDE:
        _give_way()
    with socket.socket(fileno=int(descriptor)) as connection:
        return run_measuring(lambda: _work(connection))


def _give_way() -> None:
    """Run only while no one else wants the processor: whoever wakes up to read a stream is never waited for."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(_NICE)


async def _work(connection: socket.socket) -> int:
    stream = await UNIXSocketStream.from_socket(connection)
    orders = frames(stream)
    try:
        setup = await anext(orders)
    except StopAsyncIteration:
        return 0
    config: Config = msgspec.msgpack.decode(setup, type=Config, dec_hook=_as_path)
    env = environment()
    redactor = Secrets(env).redactor(config.secret_variables())
    with logging_to(sys.stderr, json=not sys.stderr.isatty(), redact=redactor.redact, level=logging.WARNING):
        # Reading and encoding, on this loop: senders are all that waits for it.
        store = make_store(config, env, apart=on_the_loop)
        taker = StoreTaker(store, answer_seconds=ANSWER_SECONDS, redactor=redactor, apart=on_the_loop)
        try:
            async with anyio.create_task_group() as group:
                # That it is away is told by the program itself; whatever comes is put off until it is open.
                if not await reach(store, quiet=True):
                    group.start_soon(partial(open_patiently, store, quiet=True))
                await work(orders, stream, taker)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The bridge's worker: started by a program that serves, never by a person. It opens the store, and takes orders."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import UNIXSocketStream

import llmbench
from llmbench.bridge.frames import frames
from llmbench.bridge.process import Crew, Patience, ProcessTaker
from llmbench.bridge.taking import StoreTaker
from llmbench.bridge.worker import say_unfit, work
from llmbench.cli.context import make_store, quiet_indexes
from llmbench.cli.engine import environment, run_measuring
from llmbench.cli.exits import CommandError
from llmbench.cli.waiting import open_patiently, reach
from llmbench.config import Config
from llmbench.logs import logging_to
from llmbench.secrets import Redactor, Secrets
from llmbench.stores.apart import on_the_loop
from llmbench.stores.base import StoreUnusable

ANSWER_SECONDS = 25.0
"""How long a sender waits for the store, which may have its outcomes all the same."""

_PATIENCE = Patience(answer=ANSWER_SECONDS + 5.0)

_WORKERS = 2
"""So that a large batch of one sender does not hold up the others'."""

_BESIDE = "beside"
_ALONE = "alone"
_NICE = 10
_END_SECONDS = 20
"""Then it ends whatever it waits for: the program that would kill it may be gone."""

_BEGIN = (
    "import sys; place = sys.argv.pop(1); place in sys.path or sys.path.insert(0, place); "
    "from llmbench.cli.taking import main; sys.exit(main())"
)
"""The program's own llmbench is what is to run, and nothing that lies in the folder in which it was started."""

logger = logging.getLogger("llmbench.bridge.worker")


def taker_for(config: Config, *, measuring: bool, patience: Patience = _PATIENCE) -> Crew:
    """Return what takes outcomes into the configured store, in processes of its own.

    They give way to a program that is ``measuring``.
    """
    place = str(Path(llmbench.__file__).parents[1])
    command = [sys.executable, "-P", "-c", _BEGIN, place, _BESIDE if measuring else _ALONE]
    return Crew([ProcessTaker(command, packed(config), patience) for _ in range(_WORKERS)])


def packed(config: Config) -> bytes:
    """Return a configuration in bytes. A path in it may hold what is no UTF-8, which the plainest JSON can carry."""
    return json.dumps(msgspec.to_builtins(config, enc_hook=_as_text)).encode("ascii")


def unpacked(setup: bytes) -> Config:
    """Return the configuration that was `packed`."""
    return msgspec.convert(json.loads(setup), Config, dec_hook=_as_path)


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
        with contextlib.suppress(OSError):  # some sandboxes refuse it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.nice(_NICE)


async def _work(connection: socket.socket) -> int:
    stream = await UNIXSocketStream.from_socket(connection)
    received = frames(stream)
    try:
        config = unpacked(await anext(received))
    except StopAsyncIteration:
        return 0
    env = environment()
    redactor = Secrets(env).redactor(config.secret_variables())
    # What is wrong with indexes is the program's own store's to tell.
    with quiet_indexes(), _logging(redactor):
        try:
            await _take_orders(config, env, redactor, _last_of_all(received), stream)
        except* (CommandError, StoreUnusable) as errors:
            unfit = redactor.redact(str(_first(errors)))
        except* Exception:  # the program starts another worker, and tells only that
            logger.exception("the process that takes outcomes broke: this is a fault of the bridge")
            unfit = "it broke, which is a fault of the bridge: its log says how"
        else:
            return 0
        await say_unfit(stream, unfit)
        return 1


def _logging(redactor: Redactor) -> contextlib.AbstractContextManager[Any]:
    return logging_to(sys.stderr, json=not sys.stderr.isatty(), redact=redactor.redact, level=logging.WARNING)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _last_of_all(received: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what comes, and see to it that the end comes then."""
    async for frame in received:
        yield frame
    signal.alarm(_END_SECONDS)


async def _take_orders(
    config: Config, env: Mapping[str, str], redactor: Redactor, orders: AsyncIterator[bytes], stream: UNIXSocketStream
) -> None:
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

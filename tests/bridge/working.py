"""A worker for the tests of `llmbench.bridge.process`: a real process, which does what its orders' bodies say.

``python -m tests.bridge.working [MANNER] SOCKET``; the manners are faults of a worker that has just been started.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import anyio
from anyio.abc import TaskStatus, UNIXSocketStream

from llmbench.bridge.frames import encode, frames, send_frame
from llmbench.bridge.taking import Order, Taken
from llmbench.bridge.worker import say_unfit, work

COMMAND = (sys.executable, "-m", "tests.bridge.working")


def order(body: bytes = b"pid") -> Order:
    """Return an order for such a worker."""
    return Order(what="run", runner=None, now=datetime(2026, 3, 14, tzinfo=UTC), body=body)


class Obedient:
    """Answers with its process id (``pid``), how many orders came (``count``), or their bytes; ``never`` it does not.

    ``break`` is a bug, and ``linger`` is an order that is told to end, and does not.
    """

    problem: str | None = None

    def __init__(self) -> None:
        self._count = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def take(self, order: Order) -> Taken:
        self._count += 1
        match order.body:
            case b"never":
                await anyio.sleep_forever()
            case b"linger":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep_forever()
            case b"break":
                raise ZeroDivisionError("a bug of the taker")
            case b"pid":
                return Taken(status=200, body=b"%d" % os.getpid())
            case b"count":
                return Taken(status=200, body=b"%d" % self._count)
        return Taken(status=200, body=order.body)


async def serve(connection: socket.socket, manner: str) -> None:
    stream = await UNIXSocketStream.from_socket(connection)
    orders = frames(stream)
    assert await anext(orders) == b"the setup"
    match manner:
        case "unfit":
            await say_unfit(stream, "the store is of a newer llmbench")
        case "babble":
            await send_frame(stream, encode({"type": "Foreign"}))
            await anyio.sleep_forever()
        case _:
            await work(orders, stream, Obedient())


def main(*words: str) -> None:
    manner, descriptor = words if len(words) == 2 else ("", *words)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as connection:
        serving: Callable[[socket.socket, str], object] = serve
        anyio.run(serving, connection, manner)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])

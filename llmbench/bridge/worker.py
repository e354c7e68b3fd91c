"""The worker's side of `llmbench.bridge.process`: orders in, answers out, until the program's end is closed."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator

import anyio
import msgspec
from anyio.abc import UNIXSocketStream
from anyio.streams.memory import MemoryObjectReceiveStream

from llmbench.bridge.frames import Answer, Ask, Ready, Unfit, decode_ask, encode, send_frame
from llmbench.bridge.replies import ErrorAnswer
from llmbench.bridge.taking import Order, Taken, Taker

logger = logging.getLogger(__name__)


async def work(orders: AsyncIterator[bytes], stream: UNIXSocketStream, taker: Taker) -> None:
    """Be the worker: take what comes in frames, after the setup, until nothing more can."""
    # What waits in it is bounded by the orders that the program may have under way.
    out, answers = anyio.create_memory_object_stream[bytes](math.inf)

    async def answer(ask: Ask) -> None:
        out.send_nowait(encode(Answer(ask.number, await _taken(taker, ask.order))))

    async with out, answers, anyio.create_task_group() as group:
        await group.start(taker.run)
        group.start_soon(_send, stream, answers)
        out.send_nowait(encode(Ready()))
        async for frame in orders:
            group.start_soon(answer, decode_ask(frame))
        group.cancel_scope.cancel()


async def say_unfit(stream: UNIXSocketStream, reason: str) -> None:
    """Tell the program why its worker ends; if it is gone itself, nobody is there to be told."""
    await _send_frame(stream, encode(Unfit(reason)))


async def _send(stream: UNIXSocketStream, payloads: MemoryObjectReceiveStream[bytes]) -> None:
    async for payload in payloads:
        await _send_frame(stream, payload)


async def _send_frame(stream: UNIXSocketStream, payload: bytes) -> None:
    try:
        await send_frame(stream, payload)
    except anyio.BrokenResourceError:
        return  # the program was killed, which whoever reads finds, too


async def _taken(taker: Taker, order: Order) -> Taken:
    try:
        return await taker.take(order)
    except Exception:  # a bug: its sender is told, and the others are not affected
        logger.exception("an order (%s) could not be taken: this is a fault of the bridge", order.what)
        body = msgspec.json.encode(ErrorAnswer("this is a fault of the bridge: whoever runs it finds it in its log"))
        return Taken(status=500, body=body)

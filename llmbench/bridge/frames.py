"""What a program that serves and its workers say to each other, over a pair of connected sockets.

A frame is its length (4 bytes, big endian) and a payload: first the setup, whatever the program put in it, then msgpack
documents, an `Ask` for each order one way, `Ready`, an `Answer` for each, or `Unfit` the other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import anyio
import msgspec
from anyio.abc import UNIXSocketStream

from llmbench.bridge.taking import Order, Taken

_LENGTH = 4
_CHUNK = 256 * 1024


class Ask(msgspec.Struct, frozen=True):
    """An order for the worker; its answer has the same number."""

    number: int
    order: Order


class Answer(msgspec.Struct, frozen=True, tag=True):
    number: int
    taken: Taken


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The worker takes orders from now on."""


class Unfit(msgspec.Struct, frozen=True, tag=True):
    """The worker ends, as it can't do its work; ``reason`` is a sentence for a person, without secrets."""

    reason: str


Told: TypeAlias = Answer | Ready | Unfit

encode = msgspec.msgpack.Encoder().encode
decode_ask = msgspec.msgpack.Decoder(Ask).decode
decode_told = msgspec.msgpack.Decoder[Told](Told).decode


async def send_frame(stream: UNIXSocketStream, payload: bytes) -> None:
    """Send one frame. Raises `anyio.BrokenResourceError` if the other side is gone."""
    await stream.send(len(payload).to_bytes(_LENGTH, "big"))
    await stream.send(payload)


async def frames(stream: UNIXSocketStream) -> AsyncIterator[bytes]:
    """Yield the payload of each frame until the other side ends; one that is cut off is left out."""
    buffer = bytearray()
    try:
        while True:
            buffer += await stream.receive(_CHUNK)
            while len(buffer) >= _LENGTH and len(buffer) >= (end := _LENGTH + int.from_bytes(buffer[:_LENGTH], "big")):
                yield bytes(memoryview(buffer)[_LENGTH:end])
                del buffer[:end]
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        return

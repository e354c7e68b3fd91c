"""What the tests of the measuring path share: chosen stamps, streams made by hand, sockets, servers that obey."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from llmbench.measure.stamps import Read
from llmbench.measure.timer import StreamTimer
from llmbench.wire.openai_chat import ChatDecoder

MS = 1_000_000
DONE = b"data: [DONE]\n\n"
LOOPBACK = "127.0.0.1"

Script = Callable[[ByteStream], Awaitable[None]]


def stall(seconds: float) -> None:
    """Keep the event loop from running, as careless code does."""
    time.sleep(seconds)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go round until the condition holds; at most five seconds."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()


# streams made by hand


def read_at(ms: float, *, doubt: float = 0.0, wait: float = 0.0, kernel: bool = True) -> Read:
    """Return a read of that time; all are milliseconds."""
    return Read(round(ms * MS), round(doubt * MS), round(wait * MS), kernel)


def event(payload: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(payload)


def delta(**fields: object) -> bytes:
    """Return a chunk of a Chat Completions stream."""
    return event({"choices": [{"index": 0, "delta": fields}]})


def said(*texts: str) -> bytes:
    """Return a chunk of visible text for each of ``texts``."""
    return b"".join(delta(content=text) for text in texts)


def thought(text: str) -> bytes:
    return delta(reasoning=text)


def finished(reason: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def counted(output: int, reasoning: int | None = None, **more: Any) -> bytes:
    """Return a chunk of usage."""
    details = {} if reasoning is None else {"completion_tokens_details": {"reasoning_tokens": reasoning}}
    return event({"choices": [], "usage": {"completion_tokens": output, **details, **more}})


def timed(*pieces: tuple[Read, bytes]) -> StreamTimer:
    """Return a timer that was fed these pieces of a Chat Completions stream."""
    timer = StreamTimer(ChatDecoder())
    for read, data in pieces:
        timer.feed(read, data)
    timer.finish()
    return timer


# sockets


class Inbox:
    """A `Receiver` that keeps what it gets."""

    def __init__(self) -> None:
        self.reads: list[tuple[Read, bytes]] = []
        self.ends: list[Exception | None] = []
        self._changed = anyio.Event()

    @property
    def data(self) -> bytes:
        return b"".join(data for _read, data in self.reads)

    def received(self, read: Read, data: bytes | memoryview) -> None:
        self.reads.append((read, bytes(data)))
        self._notify()

    def ended(self, error: Exception | None) -> None:
        self.ends.append(error)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def count(self, reads: int) -> None:
        """Wait for so many reads."""
        await self.until(lambda: len(self.reads) >= reads)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something came that makes the condition true."""
        with anyio.fail_after(5):
            while not condition():
                await self._changed.wait()


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two ends of a connection on loopback: the one to be tested, and a plain blocking peer."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), timeout=5)
        ours, _address = listener.accept()
    with ours, peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, peer


def open_sockets() -> set[str]:
    """Return the sockets that this process has open."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:  # the descriptor with which the folder itself is read
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


# servers


async def read_request(stream: ByteStream) -> bytes:
    """Return one request, head and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += await stream.receive()
    return head + b"\r\n\r\n" + body


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server on loopback that gives each connection to ``script`` and then closes it; yield its address."""
    listener: Any = await anyio.create_tcp_listener(local_host=LOOPBACK)
    port = listener.extra(SocketAttribute.local_port)

    async def handle(plain: ByteStream) -> None:
        async with plain:
            try:
                await script(plain if tls is None else await TLSStream.wrap(plain, server_side=True, ssl_context=tls))
            except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError):
                return  # the client closed first, as many tests want it to

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"{'http' if tls is None else 'https'}://{LOOPBACK}:{port}"
        tasks.cancel_scope.cancel()


def answering(*pieces: bytes) -> Script:
    """Return a script that reads a request and answers with these bytes, a segment each."""

    async def script(stream: ByteStream) -> None:
        await read_request(stream)
        for piece in pieces:
            await stream.send(piece)

    return script


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
"""Of a body that the end of the connection ends."""

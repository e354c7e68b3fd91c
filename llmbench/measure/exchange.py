"""One run's connection: connect, send one request, take the response, with the time of each phase.

The timeline's marks are all the tracing that a run needs; the stamps of the body go to its sink.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from time import perf_counter_ns
from types import TracebackType
from typing import Literal, Protocol, Self

import aiohappyeyeballs
import anyio
import httpx2
import msgspec

from llmbench.measure.loopwatch import current_watch
from llmbench.measure.response import MAX_QUEUED_BYTES, ResponseReader, ResponseTooLarge
from llmbench.measure.stamps import Read, StampedStream

Phase = Literal["resolve", "connect", "tls", "send", "headers", "body"]

_DELIVERY_SECONDS = 0.1
_DELIVERY_PIECES = 16
"""Body pieces are decoded together: their stamps are taken already, and a decoder that runs for several at a time
costs half as much as one that runs for each. Nobody who watches can tell a tenth of a second."""

_MAX_ERROR_BYTES = 1024 * 1024
"""Of an error's body, this much is enough to quote."""

_HAPPY_EYEBALLS_SECONDS = 0.25  # RFC 8305's recommended connection attempt delay


class BodySink(Protocol):
    """Takes a response's body, in the event loop's callbacks: nothing slow in here."""

    def feed(self, read: Read, data: bytes) -> bool:
        """Take one piece; True says that the stream has said all that is wanted."""
        ...


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to be connected (name, TCP and TLS together), and seconds of silence once the request is sent."""

    connect: float = 10.0
    idle: float = 60.0


class Timeline(msgspec.Struct, kw_only=True):
    """When each phase of a run ended, as `perf_counter_ns`; None until it has."""

    started_ns: int
    resolved_ns: int | None = None
    connected_ns: int | None = None
    tls_ns: int | None = None
    request_written_ns: int | None = None
    first_byte_ns: int | None = None
    ended_ns: int | None = None


_current: ContextVar[Exchange | None] = ContextVar("llmbench_exchange", default=None)


def current_exchange() -> Exchange | None:
    """Return the exchange that this task made current."""
    return _current.get()


class Exchange:
    """One request and its response on a connection of its own. An async context manager, which always closes it."""

    def __init__(self, limits: Limits, *, kernel: bool = True) -> None:
        self.timeline = Timeline(started_ns=perf_counter_ns())
        self.phase: Phase = "resolve"
        self.on_request_written: Callable[[], None] | None = None
        self.handshake_turn: Callable[[], AbstractAsyncContextManager[None]] = contextlib.nullcontext
        """Entered around the TLS handshake, which costs the event loop about a millisecond."""
        self.limit_hit: Literal["connect", "idle"] | None = None
        self.lag_ns = 0
        """The event loop's worst absence while this exchange was open; set when it closes."""
        self._limits = limits
        self._kernel = kernel
        self._loop = asyncio.get_running_loop()
        self._watch = current_watch()
        self._stream: StampedStream | None = None
        self._reader = ResponseReader()
        self._sink: BodySink | None = None
        self._delivery: asyncio.TimerHandle | None = None
        self._over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._active_ns = 0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this the exchange that `StampedTransport` uses for the next request of this task."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @property
    def connected(self) -> bool:
        return self._stream is not None

    @property
    def response(self) -> ResponseReader:
        """The response as far as it has come; nothing of it may have."""
        return self._reader

    # connecting

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Resolve, connect, and do the TLS handshake if ``tls`` is given.

        Raises httpx2.ConnectTimeout or httpx2.ConnectError, the latter with the operating system's error as cause.
        """
        self.timeline.started_ns = perf_counter_ns()
        try:
            with anyio.fail_after(self._limits.connect):
                await self._connect(host, port, tls)
        except TimeoutError as error:
            self.limit_hit = "connect"
            message = f"{host}:{port} did not finish the phase {self.phase!r} within {self._limits.connect:g} s"
            raise httpx2.ConnectTimeout(message) from error
        except OSError as error:  # ssl.SSLError and socket.gaierror are OSErrors too
            raise httpx2.ConnectError(f"{self.phase} failed for {host}:{port}: {error}") from error
        self.phase = "send"

    async def _connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        addresses = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.timeline.resolved_ns = perf_counter_ns()
        self.phase = "connect"
        connected = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS, loop=self._loop
        )
        self.timeline.connected_ns = perf_counter_ns()
        try:
            self._stream = StampedStream(connected, self, kernel=self._kernel)
        except BaseException:
            connected.close()
            raise
        if tls is not None:
            self.phase = "tls"
            async with self.handshake_turn():
                await self._stream.start_tls(tls, host)
            self.timeline.tls_ns = perf_counter_ns()

    # sending

    async def send(self, head: bytes, body: bytes) -> None:
        """Write the request, in one go if the kernel takes it. Raises httpx2.WriteError.

        A server may answer and close before it has the whole request, or even any of it: that answer counts.
        """
        assert self._stream is not None, "connect first"
        try:
            if not self._over:
                self._stream.write(head + body)
                await self._stream.drained()
        except OSError as error:
            if not self._over:
                raise httpx2.WriteError(f"the request could not be written: {error}") from error
        if self._error is not None:
            message = f"the connection was lost before the request was sent: {self._error}"
            raise httpx2.WriteError(message) from self._error
        if self._over:
            return  # answered already
        self.timeline.request_written_ns = self._active_ns = self._stream.last_write_ns
        self.phase = "headers"
        self._arm_idle_timer(self._limits.idle)
        if self.on_request_written is not None:
            self.on_request_written()

    # receiving: called from the stream's reader callback

    def received(self, read: Read, data: bytes | memoryview) -> None:
        self._active_ns = read.stamp_ns
        if self._over:
            return  # bytes behind the response mean nothing to a run
        if self.timeline.first_byte_ns is None:
            self._note_first_byte(read.stamp_ns)
        try:
            complete = self._reader.feed(read, data)
        except httpx2.RemoteProtocolError as error:
            self._fail(error)
            return
        if complete:
            self._finish(read.stamp_ns)
        elif self._sink is not None:
            self._deliver_soon()
        elif self._reader.head_complete:
            self._wake()

    def _note_first_byte(self, at_ns: int) -> None:
        """An answer from before the request's stamp shows that the stamp was taken late: the send's start is nearer."""
        self.timeline.first_byte_ns = at_ns
        written = self.timeline.request_written_ns
        if self._stream is not None and written is not None and at_ns < written:
            self.timeline.request_written_ns = min(at_ns, self._stream.last_write_began_ns)

    def ended(self, error: Exception | None) -> None:
        if error is not None:
            failure = httpx2.ReadError(f"the connection was lost: {error}")
            failure.__cause__ = error
            self._fail(failure)
            return
        try:
            self._reader.feed_eof()
        except httpx2.RemoteProtocolError as truncated:
            self._fail(truncated)
        else:
            self._finish(self._active_ns)

    def _deliver_soon(self) -> None:
        if len(self._reader.queue) >= _DELIVERY_PIECES:
            self._deliver()
        elif self._delivery is None:
            self._delivery = self._loop.call_later(_DELIVERY_SECONDS, self._deliver)

    def _deliver(self) -> None:
        """Hand what is queued to the sink, and be done if it has all it wants."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        if self._sink is None:
            return
        for read, data in self._reader.take():
            try:
                satisfied = self._sink.feed(read, data)
            except Exception as error:  # noqa: BLE001  a callback has nobody to raise to: whoever waits gets it, whole
                self._end(error)
                return
            if satisfied:
                self._sink = None
                self.timeline.ended_ns = read.stamp_ns
                self._end(None)
                return

    def _finish(self, at_ns: int) -> None:
        self._deliver()
        if not self._over:
            self.timeline.ended_ns = at_ns
            self._end(None)

    def _fail(self, error: Exception) -> None:
        """Fail, unless what had arrived until then was all that is wanted."""
        self._deliver()
        if not self._over:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._over = True
        self._error = error
        self._disconnect()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # silence

    def _arm_idle_timer(self, seconds: float) -> None:
        self._idle_timer = self._loop.call_later(seconds, self._check_silence)

    def _check_silence(self) -> None:
        left = self._limits.idle - (perf_counter_ns() - self._active_ns) / 1e9
        if left > 0:
            self._arm_idle_timer(left)
            return
        self.limit_hit = "idle"
        self._fail(httpx2.ReadTimeout(f"nothing arrived for {self._limits.idle:g} s"))

    # waiting

    async def head(self) -> ResponseReader:
        """Wait for the response's head. Raises httpx2.ReadTimeout, ReadError or RemoteProtocolError."""
        while not self._reader.head_complete:
            if self._error is not None:
                raise self._error
            await self._wait()
        self.phase = "body"
        return self._reader

    async def consume(self, sink: BodySink) -> None:
        """Hand the body to ``sink`` until it has had enough or the body ends.

        Raises httpx2.ReadTimeout, ReadError or RemoteProtocolError, and whatever the sink raises; pieces that arrived
        before the trouble have been handed on by then.
        """
        self._sink = sink
        self._deliver()
        while not self._over:
            await self._wait()
        if self._error is not None:
            raise self._error

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body's pieces without their stamps, for an SDK that reads an error body.

        An error's body ends where it is of no more use; any other raises `ResponseTooLarge` at the cap.
        """
        taken = 0
        while True:
            for _read, piece in self._reader.take():
                taken += len(piece)
                yield piece
            if self._error is not None:
                raise self._error
            if self._over or (taken > _MAX_ERROR_BYTES and self._reader.status >= 400):
                return
            if taken > MAX_QUEUED_BYTES:
                raise ResponseTooLarge(f"the response's body is larger than {MAX_QUEUED_BYTES // 2**20} MiB")
            await self._wait()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # closing

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._stream.close()
        for timer in (self._idle_timer, self._delivery):
            if timer is not None:
                timer.cancel()
        self._idle_timer = self._delivery = None

    def close(self) -> None:
        """Close the connection and stop the clocks. Harmless if it is closed already."""
        if not self._closed:
            self._closed = True
            self._deliver()  # a run that is cut off keeps all that had arrived by then
            self._disconnect()
            self.lag_ns = self._watch.worst_since(self.timeline.started_ns)

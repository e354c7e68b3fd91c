"""An httpx2 transport made for measuring: one fresh connection a run, parsed by httptools, stamped by the kernel.

Whoever measures opens an `Exchange`, connects it, makes it current, lets an SDK build and send the request through a
client on `StampedTransport`, and then reads the body from the exchange itself, with stamps. Without a current exchange
the transport serves a request on a connection of its own, so that the same client can also make plain calls. Nothing
is retried, redirected, decompressed or proxied.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter_ns

import anyio
import certifi
import httpx2

from llmbench.measure.exchange import Exchange, Limits, current_exchange
from llmbench.measure.loopwatch import current_watch

_SHUT_FOR_TURNS = 2
_SHUT_AT_MOST = 0.05  # a turn that took longer was waiting for the network, and the loop was free meanwhile
_LOOK_AGAIN = 0.001
_HANDSHAKES_AT_ONCE = 8
"""A TLS handshake keeps the loop busy for about a millisecond; many at a time would keep it from its streams."""


@functools.cache
def verifying_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return a TLS context that verifies: certifi's authorities, or only those in ``ca_file``; TLS 1.2 at least.

    Reading the authorities takes some 20 ms, so it is done once, before anything is measured.
    """
    context = ssl.create_default_context(cafile=ca_file or certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class StartGate:
    """Lets one request at a time be built and written, and keeps a distance between them.

    Jobs that become ready together would otherwise keep the loop from its sockets for as long as all their requests
    take to build, and the first tokens of the early ones would queue behind the requests of the late ones. After each
    turn the gate stays shut for twice as long as the turn took, and until the loop has caught up with its streams, a
    twentieth of a second at most; so they always have most of the loop's time.
    """

    def __init__(self) -> None:
        self._turn = anyio.Semaphore(1, max_value=1)
        self._handshakes = anyio.Semaphore(_HANDSHAKES_AT_ONCE)

    @contextlib.asynccontextmanager
    async def handshaking(self) -> AsyncIterator[None]:
        """Wait until few enough TLS handshakes go on."""
        async with self._handshakes:
            yield

    @contextlib.asynccontextmanager
    async def turn(self, exchange: Exchange) -> AsyncIterator[None]:
        """Wait for a turn; it is passed on once ``exchange`` has written its request, at the latest with the block."""
        await self._turn.acquire()
        loop = asyncio.get_running_loop()
        begun = loop.time()

        def pass_on() -> None:
            if exchange.on_request_written is not None:
                exchange.on_request_written = None
                shut = min(_SHUT_FOR_TURNS * (loop.time() - begun), _SHUT_AT_MOST)
                loop.call_later(shut, self._open, perf_counter_ns(), loop.time() + _SHUT_AT_MOST)

        exchange.on_request_written = pass_on
        try:
            yield
        finally:
            pass_on()

    def _open(self, shut_ns: int, latest: float) -> None:
        """Open once the loop has had nothing to do since the gate was shut, or at ``latest`` on the loop's clock."""
        loop = asyncio.get_running_loop()
        if current_watch().idle_ns > shut_ns or loop.time() >= latest:
            self._turn.release()
        else:
            loop.call_later(_LOOK_AGAIN, self._open, shut_ns, latest)


class _Body(httpx2.AsyncByteStream):
    """The response body as httpx2 wants it. Closing it closes the exchange only if the transport made that itself."""

    def __init__(self, exchange: Exchange, *, owned: bool) -> None:
        self._exchange = exchange
        self._owned = owned

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._exchange.pieces():
            yield piece

    async def aclose(self) -> None:
        if self._owned:
            self._exchange.close()


def _serialise_head(request: httpx2.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % (name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"]
    lines += [b"accept-encoding: identity", b"", b""]
    return b"\r\n".join(lines)


class StampedTransport(httpx2.AsyncBaseTransport):
    """Sends each request on a fresh connection: the current exchange's, or one made for the purpose.

    ``kernel=False`` has the stamps taken in Python, to compare with.
    """

    def __init__(self, *, ca_file: Path | None = None, kernel: bool = True) -> None:
        self._kernel = kernel
        self._ca_file = ca_file

    def prepare(self, url: httpx2.URL) -> None:
        """Do what the first connection to ``url`` would otherwise spend its time on. Raises OSError for a bad file."""
        if url.scheme == "https":
            verifying_context(self._ca_file)

    def exchange(self, limits: Limits) -> Exchange:
        """Return a new exchange, not connected yet."""
        return Exchange(limits, kernel=self._kernel)

    async def connect(self, exchange: Exchange, url: httpx2.URL) -> None:
        """Connect ``exchange`` to the server of ``url``. Raises as `Exchange.connect` does."""
        if url.scheme == "https":
            await exchange.connect(url.host, url.port or 443, verifying_context(self._ca_file))
        else:
            await exchange.connect(url.host, url.port or 80, None)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = current_exchange()
        if exchange is not None:
            return await self._serve(request, exchange, owned=False)
        timeout = request.extensions.get("timeout", {})
        limits = Limits(connect=timeout.get("connect") or 10.0, idle=timeout.get("read") or 60.0)
        exchange = self.exchange(limits)
        try:
            return await self._serve(request, exchange, owned=True)
        except BaseException:
            exchange.close()
            raise

    async def _serve(self, request: httpx2.Request, exchange: Exchange, *, owned: bool) -> httpx2.Response:
        body = await request.aread()
        if not exchange.connected:
            await self.connect(exchange, request.url)
        await exchange.send(_serialise_head(request), body)
        response = await exchange.head()
        return httpx2.Response(
            response.status,
            headers=response.headers,
            stream=_Body(exchange, owned=owned),
            extensions={"http_version": response.http_version},
        )

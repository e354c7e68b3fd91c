"""Every way in which a connection does not come about: the error, its cause, and the phase in which it happened."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import anyio
import httpx2
import pytest
import trustme
from anyio.abc import ByteStream

from llmbench.measure.exchange import Exchange, Limits
from llmbench.measure.loopwatch import current_watch
from llmbench.measure.transport import StampedTransport
from tests.measure.support import LOOPBACK, MS, STREAM_HEAD, answering, open_sockets, serving

QUICK = Limits(connect=0.25)


async def refusal(
    url: str, limits: Limits | None = None, ca_file: Path | None = None
) -> tuple[httpx2.HTTPError, Exchange]:
    """Return the error of a connection that fails, and its exchange; no socket may stay open."""
    before = open_sockets()
    transport = StampedTransport(ca_file=ca_file)
    async with transport.exchange(limits or Limits()) as exchange:
        with pytest.raises((httpx2.ConnectError, httpx2.ConnectTimeout)) as caught:
            await transport.connect(exchange, httpx2.URL(url))
    assert len(open_sockets() - before) <= 1, "only a server's half of the connection may still be open"
    assert exchange.timeline.request_written_ns is None
    return caught.value, exchange


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port on which nobody listens: it is bound, so that nobody else gets it."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield bound.getsockname()[1]


@contextmanager
def deaf_port() -> Iterator[int]:
    """Yield a port whose listener never accepts and whose queue is full: further connections hang."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        fillers: list[socket.socket] = []
        try:
            while _connects(listener.getsockname(), fillers):
                pass
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


def _connects(address: Any, fillers: list[socket.socket]) -> bool:
    filler = socket.socket()
    filler.settimeout(0.1)
    fillers.append(filler)
    try:
        filler.connect(address)
    except TimeoutError:
        return False
    return True


# name and TCP


async def test_a_refused_connection_fails_at_once() -> None:
    """The operating system's error is the cause."""
    start = perf_counter_ns()
    with closed_port() as port:
        error, exchange = await refusal(f"http://{LOOPBACK}:{port}")
    assert isinstance(error, httpx2.ConnectError)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert (exchange.phase, exchange.limit_hit) == ("connect", None)
    assert perf_counter_ns() - start < 1000 * MS


async def test_a_connection_that_hangs_ends_at_the_limit() -> None:
    """The queue of the listener is full, and nobody accepts."""
    with deaf_port() as port:
        start = perf_counter_ns()
        error, exchange = await refusal(f"http://{LOOPBACK}:{port}", QUICK)
    assert isinstance(error, httpx2.ConnectTimeout)
    assert str(error) == f"{LOOPBACK}:{port} did not finish the phase 'connect' within 0.25 s"
    assert (exchange.phase, exchange.limit_hit) == ("connect", "connect")
    assert 250 * MS <= perf_counter_ns() - start < 2000 * MS


async def test_a_name_that_does_not_exist_fails_in_its_phase() -> None:
    """The top-level domain ``invalid`` never resolves (RFC 6761)."""
    error, exchange = await refusal("http://llmbench.invalid")
    assert isinstance(error, httpx2.ConnectError)
    assert isinstance(error.__cause__, socket.gaierror)
    assert (exchange.phase, exchange.timeline.resolved_ns) == ("resolve", None)


async def test_a_slow_resolver_ends_at_the_limit_and_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up in a thread: while it hangs, the event loop goes on."""
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: answer.wait(10))
    start = perf_counter_ns()
    error, exchange = await refusal("http://slow.invalid", QUICK)
    lag = current_watch().worst_since(start)
    answer.set()
    assert isinstance(error, httpx2.ConnectTimeout)
    assert (exchange.phase, exchange.limit_hit) == ("resolve", "connect")
    assert lag < 200 * MS


# TLS


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> Path:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@asynccontextmanager
async def tls_server(ca: trustme.CA, *names: str, **more: Any) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve TLS with a certificate for these names; yield the address and what requests came."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*names, **more).configure_cert(context)
    heard: list[bytes] = []

    async def script(stream: ByteStream) -> None:
        heard.append(await stream.receive())
        await answering(STREAM_HEAD)(stream)

    async with serving(script, context) as url:
        yield url, heard


async def test_a_good_certificate_of_the_given_authority_is_accepted(ca: trustme.CA, ca_file: Path) -> None:
    """The handshake has a phase and a time of its own."""
    transport = StampedTransport(ca_file=ca_file)
    async with tls_server(ca, LOOPBACK) as (url, _), transport.exchange(Limits()) as exchange:
        await transport.connect(exchange, httpx2.URL(url))
        line = exchange.timeline
        assert line.connected_ns is not None
        assert line.tls_ns is not None
        assert line.connected_ns < line.tls_ns
        assert exchange.phase == "send"


async def test_an_unknown_authority_is_refused(ca: trustme.CA) -> None:
    """Without a ca_file the public authorities hold, and a private one is none of them."""
    async with tls_server(ca, LOOPBACK) as (url, heard):
        error, exchange = await refusal(url)
    assert_untrusted(error, exchange, heard, "unable to get local issuer|self.signed")


async def test_a_public_authority_is_refused_where_a_private_one_is_wanted(ca: trustme.CA, ca_file: Path) -> None:
    """A ca_file replaces the public authorities; it does not add to them."""
    other = trustme.CA()
    async with tls_server(other, LOOPBACK) as (url, heard):
        error, exchange = await refusal(url, ca_file=ca_file)
    assert_untrusted(error, exchange, heard, "unable to get local issuer|self.signed|signature failure")


async def test_a_certificate_for_another_name_is_refused(ca: trustme.CA, ca_file: Path) -> None:
    """Whoever holds example.org's certificate is not this host."""
    async with tls_server(ca, "example.org") as (url, heard):
        error, exchange = await refusal(url, ca_file=ca_file)
    assert_untrusted(error, exchange, heard, "is not valid for|mismatch")


async def test_an_expired_certificate_is_refused(ca: trustme.CA, ca_file: Path) -> None:
    """Since yesterday."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with tls_server(ca, LOOPBACK, not_after=yesterday) as (url, heard):
        error, exchange = await refusal(url, ca_file=ca_file)
    assert_untrusted(error, exchange, heard, "expired")


def assert_untrusted(error: Exception, exchange: Exchange, heard: list[bytes], reason: str) -> None:
    """The certificate was the cause, the reason is told, and not a byte of a request went out."""
    assert isinstance(error, httpx2.ConnectError)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert re.search(reason, str(error))
    assert exchange.phase == "tls"
    assert heard == []


async def test_a_handshake_that_is_cut_fails() -> None:
    """The server hangs up in the middle of it."""

    async def cut(stream: ByteStream) -> None:
        await stream.receive()

    async with serving(cut) as url:
        error, exchange = await refusal(url.replace("http:", "https:"))
    assert isinstance(error.__cause__, ConnectionError)
    assert exchange.phase == "tls"


async def test_a_server_that_speaks_no_tls_is_found_out() -> None:
    """Plain HTTP on the port."""
    async with serving(plain) as url:
        error, exchange = await refusal(url.replace("http:", "https:"))
    assert isinstance(error.__cause__, ssl.SSLError)
    assert exchange.phase == "tls"


async def plain(stream: ByteStream) -> None:
    await stream.receive()
    await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def test_a_handshake_that_hangs_ends_at_the_limit() -> None:
    """The limit is for name, TCP and TLS together."""
    async with serving(mute) as url:
        error, exchange = await refusal(url.replace("http:", "https:"), QUICK)
    assert isinstance(error, httpx2.ConnectTimeout)
    assert (exchange.phase, exchange.limit_hit) == ("tls", "connect")


async def mute(stream: ByteStream) -> None:
    await anyio.sleep_forever()

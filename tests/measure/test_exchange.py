"""One request and its response on a connection of its own, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter_ns
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from anyio.abc import ByteStream, SocketAttribute

from llmbench.measure.exchange import Exchange, Limits, current_exchange
from llmbench.measure.response import ResponseTooLarge
from llmbench.measure.stamps import Read, kernel_stamps_available
from tests.measure.support import MS, STREAM_HEAD, Script, answering, open_sockets, read_request, serving, stall, until

REQUEST = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"
SHORT = Limits(connect=2.0, idle=0.15)


class Sink:
    """Keeps the pieces of a body, and has enough of it once ``enough`` came."""

    def __init__(self, enough: bytes = b"[DONE]") -> None:
        self.pieces: list[tuple[Read, bytes]] = []
        self._enough = enough

    @property
    def data(self) -> bytes:
        return b"".join(data for _read, data in self.pieces)

    def feed(self, read: Read, data: bytes) -> bool:
        self.pieces.append((read, data))
        return self._enough in self.data


@asynccontextmanager
async def connected(url: str, limits: Limits | None = None, *, kernel: bool = True) -> AsyncIterator[Exchange]:
    """Open an exchange with the server."""
    parts = urlsplit(url)
    async with Exchange(limits or Limits(), kernel=kernel) as exchange:
        await exchange.connect(parts.hostname or "", parts.port or 0, None)
        yield exchange


async def conversation(exchange: Exchange, sink: Sink) -> None:
    """Send a request and take its response."""
    await exchange.send(REQUEST, b"")
    await exchange.head()
    await exchange.consume(sink)


# phases


async def test_the_timeline_has_the_phases_in_order() -> None:
    """Each phase ends behind the one before it; plain HTTP has none for TLS."""
    before = perf_counter_ns()
    async with serving(answering(STREAM_HEAD + b"hello")) as url, connected(url) as exchange:
        await conversation(exchange, Sink())
    line = exchange.timeline
    marks = [before, line.started_ns, line.resolved_ns, line.connected_ns, line.request_written_ns]
    marks += [line.first_byte_ns, line.ended_ns, perf_counter_ns()]
    known = [mark for mark in marks if mark is not None]
    assert len(known) == len(marks)
    assert known == sorted(known)
    assert line.tls_ns is None


async def test_the_phase_says_what_is_going_on() -> None:
    """From the name's resolution to the body; failures are classified by it."""
    phases = []
    async with serving(answering(STREAM_HEAD)) as url:
        parts = urlsplit(url)
        async with Exchange(Limits()) as exchange:
            phases.append(exchange.phase)
            await exchange.connect(parts.hostname or "", parts.port or 0, None)
            phases.append(exchange.phase)
            await exchange.send(REQUEST, b"")
            phases.append(exchange.phase)
            await exchange.head()
            phases.append(exchange.phase)
    assert phases == ["resolve", "send", "headers", "body"]


async def test_whoever_waits_for_the_write_is_told_with_the_phase_done() -> None:
    """`on_request_written` is called once, when the stamp is there."""
    calls: list[int | None] = []
    async with serving(answering(STREAM_HEAD)) as url, connected(url) as exchange:
        exchange.on_request_written = lambda: calls.append(exchange.timeline.request_written_ns)
        await exchange.send(REQUEST, b"body")
    assert calls == [exchange.timeline.request_written_ns]


async def test_an_answer_is_never_older_than_its_request() -> None:
    """A stamp from before the request's shows that the latter was taken late: the send's beginning stands in for it."""
    async with serving(answering(b"")) as url, connected(url) as exchange:
        await exchange.send(REQUEST, b"")
        line = exchange.timeline
        assert line.request_written_ns is not None
        early = line.request_written_ns - 40_000
        exchange.received(Read(early, 0, 0, kernel=True), STREAM_HEAD)
    assert line.first_byte_ns == early
    assert line.request_written_ns <= early


async def test_only_the_innermost_exchange_is_current() -> None:
    """And none is, behind the block."""
    async with Exchange(Limits()) as outer, Exchange(Limits()) as inner:
        with outer.current():
            with inner.current():
                assert current_exchange() is inner
            assert current_exchange() is outer
    assert current_exchange() is None


async def test_the_lag_is_known_when_the_exchange_closes() -> None:
    """A blocking call of 50 ms while it was open."""
    async with Exchange(Limits()) as exchange:
        stall(0.05)
    assert exchange.lag_ns >= 50 * MS


# bodies


@pytest.mark.parametrize("kernel", [True, False])
async def test_a_body_is_handed_on_with_its_stamps(kernel: bool) -> None:
    """Pieces in order, each with the read it came from, on the clock that was asked for."""
    pieces = [STREAM_HEAD, b"one", b"two", b"[DONE]"]
    sink = Sink()
    async with serving(answering(*pieces)) as url, connected(url, kernel=kernel) as exchange:
        await conversation(exchange, sink)
    assert sink.data == b"onetwo[DONE]"
    stamps = [read.stamp_ns for read, _data in sink.pieces]
    assert stamps == sorted(stamps)
    assert {read.kernel for read, _data in sink.pieces} == {kernel and kernel_stamps_available()}


async def test_a_body_that_came_before_it_was_wanted_is_not_lost() -> None:
    """While an SDK looks at the head, the body queues up with its stamps."""
    sink = Sink()
    async with serving(answering(STREAM_HEAD + b"early, ", b"late [DONE]")) as url, connected(url) as exchange:
        await exchange.send(REQUEST, b"")
        await exchange.head()
        await until(lambda: exchange.timeline.ended_ns)
        await exchange.consume(sink)
    assert sink.data == b"early, late [DONE]"
    assert exchange.timeline.ended_ns == sink.pieces[-1][0].stamp_ns


async def test_a_sink_that_has_enough_ends_the_exchange() -> None:
    """The run ends with the piece that satisfied it, and the server, which would go on, loses the connection."""
    gone = anyio.Event()

    async def endless(stream: ByteStream) -> None:
        await read_request(stream)
        await stream.send(STREAM_HEAD + b"text [DONE]")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
        gone.set()

    sink = Sink()
    async with serving(endless) as url, connected(url) as exchange:
        await conversation(exchange, sink)
        with anyio.fail_after(5):
            await gone.wait()
    assert exchange.timeline.ended_ns == sink.pieces[-1][0].stamp_ns


async def test_the_end_is_the_last_bytes_arrival_not_the_connections_end() -> None:
    """A body without a length ends with the connection, but what it said was said before."""
    sink = Sink()

    async def lingering(stream: ByteStream) -> None:
        await read_request(stream)
        await stream.send(STREAM_HEAD + b"text")
        await anyio.sleep(0.1)

    async with serving(lingering) as url, connected(url) as exchange:
        await conversation(exchange, sink)
    assert exchange.timeline.ended_ns == sink.pieces[-1][0].stamp_ns


async def test_a_server_that_speaks_another_protocol_is_found_out() -> None:
    """A greeting before the request is no HTTP; nothing is sent to whoever gives it."""

    async def greet(stream: ByteStream) -> None:
        await stream.send(b"220 welcome\r\n")
        await mute(stream)

    async with serving(greet) as url, connected(url) as exchange:
        await anyio.sleep(0.02)
        with pytest.raises(httpx2.WriteError, match=r"not valid HTTP/1\.1"):
            await exchange.send(REQUEST, b"")


async def test_an_answer_before_the_request_counts() -> None:
    """A gateway that is full says so at once and closes; its status is not lost."""

    async def refuse(stream: ByteStream) -> None:
        await stream.send(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nfull")

    async with serving(refuse) as url, connected(url) as exchange:
        await anyio.sleep(0.02)
        await exchange.send(REQUEST, b"")
        response = await exchange.head()
        pieces = [piece async for piece in exchange.pieces()]

    assert (response.status, b"".join(pieces)) == (503, b"full")
    assert exchange.timeline.request_written_ns is None


async def test_an_exchange_that_is_cut_off_hands_on_what_had_arrived() -> None:
    """Pieces are decoded a few at a time; those still waiting for that are not lost with the run."""
    sink, ready = Sink(), anyio.Event()

    async def script(stream: ByteStream) -> None:
        await answering(STREAM_HEAD)(stream)
        await ready.wait()
        await stream.send(b"some")
        await mute(stream)

    async with serving(script) as url, connected(url) as exchange:
        await exchange.send(REQUEST, b"")
        response = await exchange.head()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.consume, sink)
            ready.set()
            await until(lambda: response.queue or sink.pieces)
            tasks.cancel_scope.cancel()
        exchange.close()
    assert sink.data == b"some"


class Broken(Sink):
    """A sink with a bug."""

    def feed(self, read: Read, data: bytes) -> bool:
        raise ZeroDivisionError(data.decode())


async def test_a_sink_that_raises_is_heard_where_the_run_waits() -> None:
    """A callback has nobody to raise to; the error comes whole out of `consume`, and the connection is closed."""
    before = open_sockets()
    async with serving(answering(STREAM_HEAD + b"text")) as url:
        async with connected(url) as exchange:
            with pytest.raises(ZeroDivisionError, match="text"):
                await conversation(exchange, Broken())
        await until(lambda: len(open_sockets() - before) == 1)  # that of the server's listener


# silence


async def test_silence_before_the_head_is_a_timeout() -> None:
    """At the idle limit, not before; the exchange says which limit it was."""
    async with serving(mute) as url, connected(url, SHORT) as exchange:
        await exchange.send(REQUEST, b"")
        with pytest.raises(httpx2.ReadTimeout, match=r"nothing arrived for 0\.15 s"):
            await exchange.head()
    assert exchange.limit_hit == "idle"
    assert exchange.timeline.request_written_ns is not None
    assert perf_counter_ns() - exchange.timeline.request_written_ns >= 150 * MS


async def mute(stream: ByteStream) -> None:
    await anyio.sleep_forever()


async def test_silence_inside_the_body_is_a_timeout() -> None:
    """What came before it has been handed on."""
    sink = Sink()

    async def stalling(stream: ByteStream) -> None:
        await answering(STREAM_HEAD + b"some")(stream)
        await mute(stream)

    async with serving(stalling) as url, connected(url, SHORT) as exchange:
        with pytest.raises(httpx2.ReadTimeout):
            await conversation(exchange, sink)
    assert (sink.data, exchange.limit_hit) == (b"some", "idle")


async def test_each_byte_starts_the_silence_anew() -> None:
    """A body that takes twice the idle limit, and is never silent for as long, is fine."""
    sink = Sink()

    async def slow(stream: ByteStream) -> None:
        await answering(STREAM_HEAD)(stream)
        for _ in range(8):
            await anyio.sleep(0.05)
            await stream.send(b"x")

    async with serving(slow) as url, connected(url, Limits(idle=0.2)) as exchange:
        await conversation(exchange, sink)
    assert sink.data == b"x" * 8


# broken connections


def resetting(*pieces: bytes) -> Script:
    async def script(stream: ByteStream) -> None:
        await answering(*pieces)(stream)
        linger = b"\x01\0\0\0\0\0\0\0"
        stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return script


async def test_a_reset_is_a_read_error_with_its_cause() -> None:
    """Before the head."""
    async with serving(resetting()) as url, connected(url) as exchange:
        await exchange.send(REQUEST, b"")
        with pytest.raises(httpx2.ReadError) as caught:
            await exchange.head()
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_close_before_the_head_is_a_protocol_error() -> None:
    """The request went out, and no answer came."""
    async with serving(answering()) as url, connected(url) as exchange:
        await exchange.send(REQUEST, b"")
        with pytest.raises(httpx2.RemoteProtocolError, match="before a complete response head"):
            await exchange.head()


async def test_a_truncated_body_is_a_protocol_error() -> None:
    """Its beginning has been handed on."""
    sink = Sink()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
    async with serving(answering(head + b"half")) as url, connected(url) as exchange:
        with pytest.raises(httpx2.RemoteProtocolError, match="in the middle of the body"):
            await conversation(exchange, sink)
    assert sink.data == b"half"


async def test_trouble_behind_a_satisfied_sink_is_no_trouble() -> None:
    """All that was wanted had arrived; that the body then broke off changes nothing."""
    sink = Sink()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
    async with serving(answering(head + b"text [DONE]")) as url, connected(url) as exchange:
        await conversation(exchange, sink)
    assert sink.data == b"text [DONE]"


async def test_a_request_to_a_lost_connection_is_a_write_error() -> None:
    """The server hung up before it was asked."""

    async def hang_up(stream: ByteStream) -> None:
        await resetting_now(stream)

    async with serving(hang_up) as url, connected(url) as exchange:
        await anyio.sleep(0.05)
        with pytest.raises(httpx2.WriteError):
            await exchange.send(REQUEST, bytes(1 << 20))


async def resetting_now(stream: ByteStream) -> None:
    linger = b"\x01\0\0\0\0\0\0\0"
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


# plain bodies


async def body_of(exchange: Exchange) -> bytes:
    await exchange.send(REQUEST, b"")
    await exchange.head()
    return b"".join([piece async for piece in exchange.pieces()])


async def test_a_body_can_be_read_without_stamps() -> None:
    """As an SDK does with the body of an error."""
    head = b"HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\n"
    async with serving(answering(head, b"abc", b"def")) as url, connected(url) as exchange:
        assert await body_of(exchange) == b"abcdef"


def shouting(status: bytes, mebibytes: int) -> Script:
    """Return a script that answers with a body of that size."""

    async def script(stream: ByteStream) -> None:
        await answering(b"HTTP/1.1 " + status + b"\r\n\r\n")(stream)
        for _ in range(mebibytes):
            await stream.send(bytes(1 << 20))

    return script


async def test_an_errors_body_is_read_no_further_than_it_is_of_use() -> None:
    """Whatever an error's server goes on to say: no more than a queue's worth of it is taken."""
    async with serving(shouting(b"500 No", 64)) as url, connected(url) as exchange:
        assert len(await body_of(exchange)) < 20 << 20


async def test_any_other_body_over_the_cap_is_refused() -> None:
    """Half of a listing must not pass for the whole."""
    async with serving(shouting(b"200 OK", 64)) as url, connected(url) as exchange:
        with pytest.raises(ResponseTooLarge):
            await body_of(exchange)

"""TLS inside the stamped stream: the stamps are those of the bytes on the wire."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from functools import partial
from time import perf_counter_ns

import anyio
import pytest
import trustme

from llmbench.measure.stamps import StampedStream
from tests.measure.support import MS, Inbox, tcp_pair

NAME = "llmbench.test"
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion[request.param]


@pytest.fixture
def server_context(ca: trustme.CA, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.maximum_version = version
    ca.issue_cert(NAME).configure_cert(context)
    return context


@pytest.fixture
def client_context(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture
def ends() -> Iterator[Ends]:
    with tcp_pair() as pair:
        yield pair


class Line:
    """A stamped client with TLS, and a blocking TLS server at the other end."""

    def __init__(self, ends: Ends, client: ssl.SSLContext) -> None:
        self.inbox = Inbox()
        self.stream = StampedStream(ends[0], self.inbox)
        self._client = client
        self._plain = ends[1]
        self.peer: ssl.SSLSocket | None = None

    async def shake_hands(self, server: ssl.SSLContext) -> ssl.SSLSocket:
        """Do the handshake on both sides; return the server's."""

        async def serve() -> None:
            wrap = partial(server.wrap_socket, self._plain, server_side=True)
            self.peer = await anyio.to_thread.run_sync(wrap)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await self.stream.start_tls(self._client, NAME)
        assert self.peer is not None
        return self.peer


async def test_text_travels_both_ways(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """And what is read carries the time at which it arrived."""
    line = Line(ends, client_context)
    with await line.shake_hands(server_context) as peer:
        assert peer.version() == version.name.replace("_", ".")
        line.stream.write(b"question")
        assert await anyio.to_thread.run_sync(peer.recv, 100) == b"question"
        before = perf_counter_ns()
        peer.send(b"answer")
        await line.inbox.count(1)
        after = perf_counter_ns()
        line.stream.close()
    ((read, data),) = line.inbox.reads
    assert data == b"answer"
    assert before - MS < read.stamp_ns <= after


async def test_a_large_request_goes_out_whole(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """4 MiB in many records, more than the kernel takes at once."""
    data = bytes(range(256)) * (4 << 12)
    line = Line(ends, client_context)
    with await line.shake_hands(server_context) as peer:
        line.stream.write(data)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.stream.drained)
            assert await anyio.to_thread.run_sync(receive, peer, len(data)) == data
        line.stream.close()


def receive(peer: ssl.SSLSocket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        received += peer.recv(1 << 16)
    return bytes(received)


async def test_a_large_answer_comes_in_whole(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """4 MiB in many records; records that one read completed share its stamp."""
    data = bytes(range(256)) * (4 << 12)
    line = Line(ends, client_context)
    with await line.shake_hands(server_context) as peer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, partial(peer.sendall, data))
            await line.inbox.until(lambda: sum(len(piece) for _read, piece in line.inbox.reads) == len(data))
        line.stream.close()
    assert line.inbox.data == data
    stamps = [read.stamp_ns for read, _data in line.inbox.reads]
    assert stamps == sorted(stamps)
    assert len({id(read) for read, _data in line.inbox.reads}) < len(line.inbox.reads)


class Bench:
    """A TLS server in memory, whose bytes the test puts on the wire as it likes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake_hands(self, peer: socket.socket) -> None:
        """Do the handshake, a byte a segment."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.drip(peer)
                self.incoming.write(peer.recv(65536))
            else:
                return self.drip(peer)

    def drip(self, peer: socket.socket) -> None:
        for byte in self.outgoing.read():
            peer.send(bytes([byte]))


async def test_a_record_arrives_with_its_last_byte(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """The handshake and a record come byte by byte: the text is there when the last one is, with its stamp."""
    line, bench = Line(ends, client_context), Bench(server_context)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, bench.shake_hands, ends[1])
        await line.stream.start_tls(client_context, NAME)
    bench.tls.write(b"slowly")
    record = bench.outgoing.read()
    ends[1].send(record[:-1])
    await anyio.sleep(0.02)
    assert line.inbox.reads == []
    before = perf_counter_ns()
    ends[1].send(record[-1:])
    await line.inbox.count(1)
    ((read, data),) = line.inbox.reads
    assert (data, read.stamp_ns > before - MS) == (b"slowly", True)
    line.stream.close()


async def test_a_goodbye_is_an_end_without_an_error(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """The peer closes TLS properly, while TCP stays open; what it had said before is delivered."""
    line, bench = Line(ends, client_context), Bench(server_context)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, bench.shake_hands, ends[1])
        await line.stream.start_tls(client_context, NAME)
    bench.tls.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):  # it waits for our goodbye, which a run does not say
        bench.tls.unwrap()
    ends[1].send(bench.outgoing.read())
    await line.inbox.until(lambda: line.inbox.ends)
    assert (line.inbox.data, line.inbox.ends) == (b"last words", [None])
    line.stream.close()


async def test_tampering_is_an_end_with_an_error(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """Bytes that are no record of this session end it, once."""
    line = Line(ends, client_context)
    peer = await line.shake_hands(server_context)
    with socket.socket(fileno=peer.detach()) as raw:
        raw.send(b"these bytes were never encrypted")
        await line.inbox.until(lambda: line.inbox.ends)
    (error,) = line.inbox.ends
    assert isinstance(error, ssl.SSLError)
    assert line.inbox.reads == []
    line.stream.close()


async def test_an_unknown_authority_ends_the_handshake_on_both_sides(
    ends: Ends, server_context: ssl.SSLContext
) -> None:
    """The client raises, and tells the server why."""
    line = Line(ends, ssl.create_default_context())
    heard: list[ssl.SSLError] = []

    def serve() -> None:
        try:
            with server_context.wrap_socket(ends[1], server_side=True) as peer:
                peer.recv(1)  # in TLS 1.3 the client's verdict comes behind the server's handshake
        except ssl.SSLError as error:
            heard.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, serve)
        with pytest.raises(ssl.SSLCertVerificationError):
            await line.stream.start_tls(ssl.create_default_context(), NAME)
        line.stream.close()
    assert heard[0].reason == "TLSV1_ALERT_UNKNOWN_CA"


async def test_a_server_side_works_too(
    ends: Ends, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    """The simulator's side of it: both ends are stamped streams here."""
    theirs, ours = Inbox(), Inbox()
    server, client = StampedStream(ends[1], theirs), StampedStream(ends[0], ours)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(server.start_tls, server_context, None, server_side=True))
        await client.start_tls(client_context, NAME)
    client.write(b"question")
    await theirs.count(1)
    server.write(b"answer")
    await ours.count(1)
    assert (theirs.data, ours.data) == (b"question", b"answer")
    server.close()
    client.close()

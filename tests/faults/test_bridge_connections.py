"""Attacks on the bridge's connections, over real sockets: answers that nobody reads, requests that come too early."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from llmbench.bridge import connection
from llmbench.ingestion import wire_form
from llmbench.stores.base import OutcomeQuery
from tests.bridge.serving import RUNNER, GatedStore, Running, running, status_of, until_closed
from tests.stores.documents import envelope, sample

GET = b"GET /openapi.json HTTP/1.1\r\nHost: b\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    """An open store in a file of its own."""
    store = GatedStore(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bridge(store: GatedStore, tmp_path: Path) -> AsyncIterator[Running]:
    """The bridge on that store."""
    async with running(store, tmp_path) as bridge:
        yield bridge


async def _stuffed(bridge: Running) -> SocketStream:
    """Return a connection with more unread answers than there is room for, cut off or not."""
    stream = await bridge.connect()
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    with contextlib.suppress(anyio.BrokenResourceError), anyio.move_on_after(2):
        for _ in range(400):
            await stream.send(GET)
            await anyio.lowlevel.checkpoint()
    return stream


async def test_unread_answers_keep_no_request_under_way(bridge: Running) -> None:
    """Who asks again and again and reads no answer is cut off, and takes no place from others."""
    async with contextlib.AsyncExitStack() as streams:
        for _ in range(8):
            streams.push_async_callback((await _stuffed(bridge)).aclose)
        tasks = bridge.server._serving.server_state.tasks  # type: ignore[union-attr]  # nothing else tells
        with anyio.fail_after(5):
            while tasks:
                await anyio.lowlevel.checkpoint()
        assert (await bridge.get("/readyz")).status_code == 200


async def test_request_behind_another_is_not_begun(bridge: Running, store: GatedStore) -> None:
    """Of two requests at once the first is answered; the second is neither looked at nor mixed up with it."""
    run, later = sample(), sample()
    head = f"POST /ingest HTTP/1.1\r\nHost: b\r\nX-API-Key: {bridge.keys[RUNNER]}\r\nContent-Type: application/json\r\n"
    bodies = [wire_form(envelope(one)) for one in (run, later)]
    requests = [head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
    answer = await bridge.raw(b"".join(requests))
    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer
    assert await store.outcomes(OutcomeQuery()) == [run]


async def test_stream_with_a_request_behind_it_ends_with_its_reader(bridge: Running) -> None:
    """A reader of live events that leaves is forgotten, whatever else it has sent before."""
    live = b"GET /live HTTP/1.1\r\nHost: b\r\nX-API-Key: " + bridge.keys["read"].encode() + b"\r\n\r\n"
    async with await bridge.connect() as stream:
        await stream.send(live + b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n")
        assert status_of(await stream.receive()) == 200
        while not bridge.bus.watched:
            await anyio.lowlevel.checkpoint()
    with anyio.fail_after(5):
        while bridge.bus.watched:
            await anyio.lowlevel.checkpoint()


async def test_trailers_are_no_headers(bridge: Running) -> None:
    """What comes behind the body says nothing about the request: a key there lets nobody in."""
    body = wire_form(envelope(sample()))
    key = f"X-API-Key: {bridge.keys[RUNNER]}".encode()
    head = b"POST /ingest HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Type: application/json\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(body), body)
    answer = await bridge.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + key + b"\r\n\r\n")
    assert status_of(answer) == 401


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"chunked, chunked", b"identity", b"x"])
async def test_transfer_codings(bridge: Running, store: GatedStore, coding: bytes) -> None:
    """A body that is compressed on its way is refused, too."""
    body = wire_form(envelope(sample()))
    head = f"POST /ingest HTTP/1.1\r\nHost: b\r\nConnection: close\r\nX-API-Key: {bridge.keys[RUNNER]}\r\n".encode()
    head += b"Content-Type: application/json\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    assert status_of(await bridge.raw(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))) in (400, 415)
    assert await store.outcomes(OutcomeQuery()) == []


async def test_so_many_connections(store: GatedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections beyond what may be open are ended at once, and make room again when others end."""
    monkeypatch.setattr(connection, "_MOST_CONNECTIONS", 5)
    async with running(store, tmp_path) as bridge, contextlib.AsyncExitStack() as streams:
        open_ones = [await streams.enter_async_context(await bridge.connect()) for _ in range(5)]
        async with await bridge.connect() as one_more:
            assert await until_closed(one_more) == b""
        await open_ones[0].aclose()
        with anyio.fail_after(5):
            while b"200 OK" not in await bridge.raw(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"):
                await anyio.lowlevel.checkpoint()


def test_connections_leave_files_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the files that the process may open are not for strangers."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 256))
    assert connection.most_connections() == 128


async def test_garbage_behind_unread_answers(bridge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is refused is ended even if its peer does not take the refusal."""
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.2)
    stream = await bridge.connect()
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connections = bridge.server._serving.server_state.connections  # type: ignore[union-attr]  # nothing else tells
    async with stream:
        await stream.send(b"GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n")
        assert status_of(await stream.receive()) == 200
        (one,) = connections
        one.transport.write(b" " * 20_000_000)  # answers, as far as it can tell
        await stream.send(b"\x16\x03\x01")
        with anyio.fail_after(5):
            while connections:
                await anyio.lowlevel.checkpoint()

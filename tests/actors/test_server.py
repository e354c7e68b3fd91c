"""The server in the engine's event loop: where it listens, how it ends, and what a connection may do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from llmbench.actors.server import parse_listen
from llmbench.actors.supervision import ActorDown
from llmbench.bridge import connection
from llmbench.ingestion import wire_form
from llmbench.stores.base import OutcomeQuery
from tests.bridge.serving import GatedStore, Running, running, status_of, until_closed
from tests.stores.documents import envelope, sample


def _request(bridge: Running, body: bytes) -> bytes:
    head = (
        f"POST /ingest HTTP/1.1\r\nHost: b\r\nX-API-Key: {bridge.keys['shared']}\r\nContent-Type: application/json\r\n"
    )
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def _nobody_listens(bridge: Running) -> None:
    """Wait until no connection is taken any more."""
    with contextlib.suppress(OSError):
        while True:
            await (await bridge.connect()).aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    """An open store in a file of its own, which a test can have wait."""
    store = GatedStore(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:8787", ("::1", 8787)), ("a.b:1", ("a.b", 1))]
)
def test_place_to_listen(text: str, address: tuple[str, int]) -> None:
    """A place is a host and a port; an IPv6 address stands in brackets."""
    assert parse_listen(text) == address


async def test_port_that_is_taken(store: GatedStore, tmp_path: Path) -> None:
    """A port that another program has takes the actor down with a sentence, to be looked at again later."""
    async with running(store, tmp_path) as bridge:
        other = type(bridge.server)(bridge.server._app, f"127.0.0.1:{bridge.port}", max_body=1)
        with pytest.raises(ActorDown, match=f"127.0.0.1:{bridge.port}: another program has this port") as down:
            await other.run()
        assert down.value.rest == 60.0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_request_under_way_is_finished(store: GatedStore, tmp_path: Path, cancelled: bool) -> None:
    """Stopped or cancelled, the server answers what is under way, takes nothing new, and frees its port."""
    async with anyio.create_task_group() as group:
        async with running(store, tmp_path) as bridge, await bridge.connect() as stream:
            store.close_gate()
            await stream.send(_request(bridge, wire_form(envelope(sample()))))
            await store.arrived.wait()

            async def finish() -> None:
                await _nobody_listens(bridge)
                store.gate.set()

            if not cancelled:
                bridge.server.stop()
                await finish()
                assert status_of(await until_closed(stream)) == 200
            else:
                group.start_soon(finish)
        if cancelled:
            assert len(await store.outcomes(OutcomeQuery())) == 1
    with socket.create_server(("127.0.0.1", bridge.port)):
        pass


async def test_request_that_never_ends_is_cut_off(
    store: GatedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not ended within the grace period is cut off, unacknowledged."""
    monkeypatch.setattr("llmbench.actors.server._GRACE_SECONDS", 0.1)
    async with running(store, tmp_path) as bridge, await bridge.connect() as stream:
        store.close_gate()
        await stream.send(_request(bridge, wire_form(envelope(sample()))))
        await store.arrived.wait()
        bridge.server.stop()
        with anyio.fail_after(5):
            assert not (await until_closed(stream)).startswith(b"HTTP/1.1 2")


async def test_abort_waits_for_nothing(store: GatedStore, tmp_path: Path) -> None:
    """Aborted, the server cuts off what is under way at once."""
    async with running(store, tmp_path) as bridge, await bridge.connect() as stream:
        store.close_gate()
        await stream.send(_request(bridge, wire_form(envelope(sample()))))
        await store.arrived.wait()
        bridge.server.abort()
        with anyio.fail_after(2):
            assert not (await until_closed(stream)).startswith(b"HTTP/1.1 2")


async def test_headers_without_end(store: GatedStore, tmp_path: Path) -> None:
    """Headers beyond 32 KiB are refused, though no line of them has ended."""
    async with running(store, tmp_path) as bridge:
        assert status_of(await bridge.raw(b"GET /healthz HTTP/1.1\r\nX: ", b"a" * 33 * 1024)) == 431


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET /health", b"GET /healthz HTTP/1.1\r\nHost: b\r\n"])
async def test_request_that_never_begins(
    store: GatedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """A connection on which no request is complete in time is closed."""
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.1)
    async with running(store, tmp_path) as bridge:
        with anyio.fail_after(5):
            assert await bridge.raw(*([begun] if begun else [])) == b""


async def test_answers_carry_no_server_header(store: GatedStore, tmp_path: Path) -> None:
    """An answer does not tell what the server is made of."""
    async with running(store, tmp_path) as bridge:
        assert "server" not in (await bridge.get("/healthz")).headers


async def test_answers_go_out_at_once(store: GatedStore, tmp_path: Path) -> None:
    """No algorithm holds an answer back until what was sent before is confirmed, which takes up to 40 ms."""
    async with running(store, tmp_path) as bridge, await bridge.connect():
        assert (await bridge.get("/healthz")).is_success
        assert bridge.server._serving is not None
        accepted = [one.transport.get_extra_info("socket") for one in bridge.server._serving.server_state.connections]
        assert accepted
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in accepted)

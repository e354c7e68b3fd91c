"""Live events over HTTP: in order, lossy where the reader is slow, and ended with the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from llmbench.bridge.live import Dropped, Frames, parse
from llmbench.messages import LaneState, LiveEvent, RunStarted
from tests.bridge.serving import GatedStore, Running, running, until_closed
from tests.stores.documents import moment


def _event(number: int) -> RunStarted:
    return RunStarted(outcome_id=f"{number:024x}", provider="openai", model_id="m\n\ndata: x", at=moment())


class _Reader:
    """Reads frames as they come; comments are counted and passed over."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._frames = Frames()
        self._ready: list[bytes] = []
        self.comments = 0

    async def next(self) -> LiveEvent | Dropped | None:
        """Return the next event, None for a comment. Raises StopAsyncIteration at the end."""
        while not self._ready:
            self._ready = self._frames.feed(await anext(self._chunks))
        return parse(self._ready.pop(0))


@asynccontextmanager
async def _reading(bridge: Running) -> AsyncIterator[_Reader]:
    async with bridge.client.stream("GET", "/live", headers=bridge.key("read")) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        reader = _Reader(answer.aiter_bytes())
        assert await reader.next() is None  # a comment comes at once: the subscription has begun
        yield reader


async def test_events_come_in_order(bridge: Running) -> None:
    """Every event is a frame of its own, in the order in which they were published."""
    async with _reading(bridge) as reader:
        for number in range(5):
            bridge.bus.publish(_event(number))
        assert [await reader.next() for _ in range(5)] == [_event(number) for number in range(5)]


async def test_first_how_things_are(bridge: Running) -> None:
    """Who comes in the middle learns what streams and how each lane is, and then all that happens, once."""
    state = LaneState(lane="openai", status="blocked", at=moment(), reason="auth")
    for event in (_event(1), _event(2), state):
        bridge.bus.publish(event)
    async with _reading(bridge) as reader:
        bridge.bus.publish(_event(3))
        assert [await reader.next() for _ in range(4)] == [state, _event(1), _event(2), _event(3)]


async def test_heartbeat(store: GatedStore, tmp_path: Path) -> None:
    """Comments keep a quiet stream open, and no event is lost between them."""
    async with running(store, tmp_path, streams={"heartbeat": 0.01}) as bridge, _reading(bridge) as reader:
        assert await reader.next() is None
        bridge.bus.publish(_event(1))
        while (event := await reader.next()) is None:
            pass
        assert event == _event(1)


async def test_losses_are_told_and_counted(bridge: Running) -> None:
    """A reader that is behind loses the oldest events, is told how many, and the metrics count them."""
    async with _reading(bridge) as reader:
        for number in range(3000):  # nothing is read meanwhile: the ring has room for 1,024
            bridge.bus.publish(_event(number))
        events = [await reader.next() for _ in range(1025)]
    lost = [event.count for event in events if isinstance(event, Dropped)]
    assert sum(lost) + len(events) - len(lost) == 3000
    assert events[-1] == _event(2999)
    text = (await bridge.get("/metrics", "read")).text
    assert any(line.endswith(f" {sum(lost)}.0") and "dropped" in line for line in text.splitlines())


async def test_reader_that_stops_reading_is_cut_off(store: GatedStore, tmp_path: Path) -> None:
    """A reader that takes nothing for too long is cut off, and its place is free again."""
    async with running(store, tmp_path, streams={"stuck": 0.05}) as bridge, await bridge.connect() as stream:
        await stream.send(b"GET /live HTTP/1.1\r\nHost: b\r\nX-API-Key: " + bridge.keys["read"].encode() + b"\r\n\r\n")
        assert b"200 OK" in await stream.receive()
        while bridge.bus.watched:
            bridge.bus.publish(RunStarted(outcome_id="0" * 24, provider="p", model_id="m" * 100_000, at=moment()))
            await anyio.lowlevel.checkpoint()


async def test_reader_that_leaves_is_forgotten(bridge: Running) -> None:
    """When a reader is gone, nothing is made for it any more."""
    async with _reading(bridge):
        assert bridge.bus.watched
    while bridge.bus.watched:
        await anyio.lowlevel.checkpoint()


async def test_stream_ends_with_the_bus(bridge: Running) -> None:
    """When the engine ends, what it has published is read to its end, and then the stream is over."""
    async with _reading(bridge) as reader:
        bridge.bus.publish(_event(1))
        bridge.bus.close()
        assert await reader.next() == _event(1)
        with pytest.raises(StopAsyncIteration):
            await reader.next()


async def test_stream_ends_when_the_server_stops(store: GatedStore, tmp_path: Path) -> None:
    """A server that stops does not wait for streams: they end at once, and in good order."""
    async with running(store, tmp_path) as bridge, await bridge.connect() as stream:
        await stream.send(b"GET /live HTTP/1.1\r\nHost: b\r\nX-API-Key: " + bridge.keys["read"].encode() + b"\r\n\r\n")
        assert b"200 OK" in await stream.receive()
        while not bridge.bus.watched:
            await anyio.lowlevel.checkpoint()
        bridge.server.stop()
        with anyio.fail_after(3):
            assert (await until_closed(stream)).endswith(b"0\r\n\r\n")


async def test_so_many_readers(bridge: Running) -> None:
    """Only so many may read at a time; the next is told to come later."""
    request = b"GET /live HTTP/1.1\r\nHost: b\r\nX-API-Key: " + bridge.keys["read"].encode() + b"\r\n\r\n"
    async with AsyncExitStack() as streams:
        for _ in range(16):
            stream = await streams.enter_async_context(await bridge.connect())
            await stream.send(request)
            assert b"200 OK" in await stream.receive()
        answer = await bridge.get("/live", "read")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


async def test_without_an_engine(store: GatedStore, tmp_path: Path) -> None:
    """A bridge that measures nothing itself says so."""
    async with running(store, tmp_path, own_live=False) as bridge:
        assert (await bridge.get("/live", "read")).status_code == 404

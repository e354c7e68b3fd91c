"""Engines for tests of the viewer's side: they say on a real socket what a test has them say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from llmbench.actors.engine_requests import ENGINE_SOCKET, EngineRequest
from llmbench.bridge.live import encode
from llmbench.messages import LiveEvent, RunProgress, RunStarted
from llmbench.tui.feed import LiveFeed
from llmbench.tui.items import FeedItem, Heard, LinkChange
from tests.stores.documents import moment

_requests: msgspec.json.Decoder[EngineRequest] = msgspec.json.Decoder(EngineRequest)

Speaker = Callable[[ByteStream], Awaitable[None]]


class Engine:
    """What listens on a socket. ``asked`` are the requests, a connection each; ``say`` is what is done with one."""

    def __init__(self, say: Speaker) -> None:
        self.asked: list[EngineRequest] = []
        self._say = say

    async def serve(self, stream: ByteStream) -> None:
        async with stream:
            line = await BufferedByteReceiveStream(stream).receive_until(b"\n", 65_536)
            self.asked.append(_requests.decode(line))
            with contextlib.suppress(anyio.BrokenResourceError):  # the viewer has left
                await self._say(stream)


@asynccontextmanager
async def listening(folder: Path, say: Speaker) -> AsyncIterator[Engine]:
    """Listen at the socket of an engine in this folder."""
    engine = Engine(say)
    path = folder / ENGINE_SOCKET
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, engine.serve)
        yield engine
        group.cancel_scope.cancel()
    path.unlink(missing_ok=True)


def saying(*parts: bytes | LiveEvent, stay: bool = True) -> Speaker:
    """Say these, and then stay silent, or end the connection."""

    async def say(stream: ByteStream) -> None:
        for part in parts:
            await stream.send(part if isinstance(part, bytes) else encode(part))
        if stay:
            await anyio.sleep_forever()

    return say


@asynccontextmanager
async def following(feed: LiveFeed) -> AsyncIterator[Taken]:
    """Run a feed; what it takes in is gathered."""
    async with anyio.create_task_group() as group:
        group.start_soon(feed.run)
        yield Taken(feed)
        group.cancel_scope.cancel()


class Taken:
    """Everything that was taken from a feed, when something was heard left out."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self.items: list[FeedItem] = []
        self.heard: list[Heard] = []

    async def until(self, enough: Callable[[list[FeedItem]], bool]) -> list[FeedItem]:
        """Take until there is enough; return all that was taken so far."""
        with anyio.fail_after(20):
            while not enough(self.items):
                await anyio.sleep(0.005)
                for item in self._feed.take():
                    if isinstance(item, Heard):
                        self.heard.append(item)
                    else:
                        self.items.append(item)
        return self.items

    async def until_there(self, *wanted: FeedItem) -> list[FeedItem]:
        return await self.until(lambda items: all(item in items for item in wanted))

    async def until_live(self) -> None:
        """Take until the connection is there."""
        await self.until(lambda _: self.changes[-1:] != [] and self.changes[-1].status == "live")

    async def until_lost(self) -> str:
        """Take until the connection is lost; return the reason."""
        await self.until(lambda _: any(change.status == "lost" for change in self.changes))
        return next(change.reason or "" for change in self.changes if change.status == "lost")

    @property
    def changes(self) -> list[LinkChange]:
        return [item for item in self.items if isinstance(item, LinkChange)]

    @property
    def events(self) -> list[FeedItem]:
        return [item for item in self.items if not isinstance(item, LinkChange)]


def started(number: int) -> RunStarted:
    return RunStarted(outcome_id=f"{number:024x}", provider="openai", model_id="m\n\ndata: x", at=moment(number))


def progress(number: int) -> RunProgress:
    return RunProgress(
        outcome_id=f"{1:024x}", provider="openai", model_id="m", visible_chunks=number, text="x", elapsed=float(number)
    )

"""`GET /live`: the engine's live events as they come, for as long as somebody reads them.

A reader that is too slow loses the oldest events and is told how many; one that does not read at all is cut off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Protocol

import anyio
from litestar.types import Receive, Scope, Send

from llmbench.bridge.live import HEARTBEAT, dropped, frame
from llmbench.messages import LiveEvent

_HEARTBEAT_SECONDS = 15.0
_STUCK_SECONDS = 30.0
_MOST = 16

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # A proxy that collects what comes before it passes it on would make live events late.
    (b"x-accel-buffering", b"no"),
]


class LiveEvents(Protocol):
    """A subscription to live events, as the engine's bus gives it; ``dropped`` counts what its ring lost."""

    dropped: int

    def __aiter__(self) -> AsyncIterator[LiveEvent]: ...


Subscribe = Callable[[], AbstractContextManager[LiveEvents]]


class LiveStreams:
    """All streams that are open now. ``heartbeat`` and ``stuck`` are seconds."""

    def __init__(
        self,
        subscribe: Subscribe,
        on_dropped: Callable[[int], None] = lambda _count: None,
        *,
        heartbeat: float = _HEARTBEAT_SECONDS,
        stuck: float = _STUCK_SECONDS,
    ) -> None:
        self._subscribe = subscribe
        self._on_dropped = on_dropped
        self._heartbeat = heartbeat
        self._stuck = stuck
        self._open: set[anyio.CancelScope] = set()

    @property
    def full(self) -> bool:
        """Whether so many read already that no more may."""
        return len(self._open) >= _MOST

    def close(self) -> None:
        """End every stream at once."""
        for scope in self._open:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        async with anyio.create_task_group() as group:
            self._open.add(group.cancel_scope)
            try:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                await self._stream(send)
                group.cancel_scope.cancel()
            finally:
                self._open.discard(group.cancel_scope)
        with anyio.move_on_after(1.0):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, send: Send) -> None:
        with self._subscribe() as events:
            following = events.__aiter__()
            told = 0
            part = HEARTBEAT
            while True:
                with anyio.move_on_after(self._stuck) as sending:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                if sending.cancelled_caught:
                    return
                if lost := events.dropped - told:
                    self._on_dropped(lost)
                    part, told = dropped(lost), events.dropped
                elif (next_part := await self._next(following)) is None:
                    return
                else:
                    part = next_part

    async def _next(self, events: AsyncIterator[LiveEvent]) -> bytes | None:
        """Return what to send next, None at the end: an event, or a heartbeat if none came for so long."""
        with anyio.move_on_after(self._heartbeat):
            try:
                return frame(await anext(events))
            except StopAsyncIteration:
                return None
        return HEARTBEAT


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

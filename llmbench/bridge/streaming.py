"""`GET /live`: the engine's live events as they come, for as long as somebody reads them.

First come those that tell how things are now: the state of each lane and of the store, and the runs in flight. A reader
that is too slow loses the oldest events and is told how many; one that does not read at all is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio
from litestar.types import Receive, Scope, Send

from llmbench.bridge.live import HEARTBEAT
from llmbench.bridge.parts import HEARTBEAT_SECONDS, STUCK_SECONDS, LiveEvents, Parts

_MOST = 16

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # A proxy that collects what comes before it passes it on would make live events late.
    (b"x-accel-buffering", b"no"),
]


Subscribe = Callable[[], AbstractContextManager[LiveEvents]]


class LiveStreams:
    """All streams that are open now. ``heartbeat`` and ``stuck`` are seconds."""

    def __init__(
        self,
        subscribe: Subscribe,
        on_dropped: Callable[[int], None] = lambda _count: None,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        stuck: float = STUCK_SECONDS,
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
            parts = Parts(events, self._on_dropped, heartbeat=self._heartbeat)
            part: bytes | None = HEARTBEAT
            while part is not None:
                with anyio.move_on_after(self._stuck) as sending:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                if sending.cancelled_caught:
                    return
                part = await parts.next()


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

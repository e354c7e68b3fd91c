"""A subscription to live events as bytes to be sent: frames, what was lost on the way, and heartbeats.

The loop that makes them is the one that measures. So what comes at about the same time goes together, which costs
fewer of its turns, and a part is small enough to be made in well under a millisecond.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import anyio

from llmbench.bridge.live import HEARTBEAT, dropped, encode
from llmbench.messages import LiveEvent

HEARTBEAT_SECONDS: Final = 15.0
STUCK_SECONDS: Final = 30.0
"""How long a reader may take nothing before it is cut off."""

_GATHER_SECONDS = 0.02
_MOST = 16


class LiveEvents(Protocol):
    """A subscription to live events, as the engine's bus gives it; ``dropped`` counts what its ring lost."""

    dropped: int

    @property
    def waiting(self) -> int: ...

    def __aiter__(self) -> AsyncIterator[LiveEvent]: ...


class Parts:
    """What is to be sent to one reader. ``heartbeat`` is after how many quiet seconds it is told that we live."""

    def __init__(
        self,
        events: LiveEvents,
        on_dropped: Callable[[int], None] = lambda _count: None,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._source = events
        self._events = events.__aiter__()
        self._on_dropped = on_dropped
        self._heartbeat = heartbeat
        self._told = 0
        self._held: list[LiveEvent] = []

    async def next(self) -> bytes | None:
        """Return what to send next, at the latest after a heartbeat's time; None at the end."""
        if lost := self._source.dropped - self._told:
            self._told += lost
            self._on_dropped(lost)
            # What is there goes with it: if something is lost each time, only that would be told.
            return dropped(lost) + await self.ready()
        with anyio.move_on_after(self._heartbeat) as quiet:
            try:
                self._held.append(await anext(self._events))
            except StopAsyncIteration:
                return None
        if quiet.cancelled_caught:
            return HEARTBEAT
        if not self._source.waiting:
            await anyio.sleep(_GATHER_SECONDS)
        return await self.ready()

    async def ready(self) -> bytes:
        """Return what can be sent without a wait, up to a part's size."""
        while self._source.waiting and len(self._held) < _MOST:
            self._held.append(await anext(self._events))
        events, self._held = self._held, []
        return b"".join(map(encode, events))

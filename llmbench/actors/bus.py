"""The lossy broadcast of live events: publishing never waits; a slow subscriber loses the oldest, counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from llmbench.messages import LiveEvent, RunProgress

_RING = 1024


class Subscription:
    """One subscriber's ring of events. Iterate it to receive; it ends when the bus closes."""

    def __init__(self, capacity: int, *, progress: bool = True) -> None:
        self.progress = progress
        """Whether it wants to see streams fill."""
        self.dropped = 0
        """How many events were lost because this subscriber was slow."""
        self._ring: deque[LiveEvent] = deque(maxlen=capacity)
        self._filled = anyio.Event()
        self._closed = False

    def offer(self, event: LiveEvent) -> None:
        if len(self._ring) == self._ring.maxlen:
            self.dropped += 1
        self._ring.append(event)
        self._filled.set()

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> LiveEvent:
        while not self._ring:
            if self._closed:
                raise StopAsyncIteration
            self._filled = anyio.Event()
            await self._filled.wait()
        return self._ring.popleft()


class Bus:
    """Hands each live event to every subscriber."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    @property
    def watched(self) -> bool:
        """Whether anybody wants to see streams fill; events of that need not be made otherwise."""
        return any(subscription.progress for subscription in self._subscriptions)

    def publish(self, event: LiveEvent) -> None:
        """Never waits and never fails."""
        for subscription in self._subscriptions:
            if subscription.progress or not isinstance(event, RunProgress):
                subscription.offer(event)

    @contextmanager
    def subscribe(self, capacity: int = _RING, *, progress: bool = True) -> Iterator[Subscription]:
        """Receive all events from now on, up to ``capacity`` of them waiting; `RunProgress` only with ``progress``."""
        subscription = Subscription(capacity, progress=progress)
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription once it has been read to its end; later ones end at once."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

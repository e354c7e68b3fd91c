"""The lossy broadcast of live events: publishing never waits; a slow subscriber loses the oldest, counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from llmbench.actors.latest import Latest
from llmbench.messages import EngineFigures, LaneFigures, LiveEvent, RunProgress

_RING = 1024


class Subscription:
    """One subscriber's ring of events. Iterate it to receive; it ends when the bus closes."""

    def __init__(
        self, capacity: int, *, progress: bool = True, figures: bool = True, first: tuple[LiveEvent, ...] = ()
    ) -> None:
        self.progress = progress
        """Whether it wants to see streams fill."""
        self.figures = figures
        """Whether it wants to know once a second how lanes and engine get on."""
        self.dropped = 0
        """How many events were lost because this subscriber was slow."""
        self._first = deque(first)
        self._ring: deque[LiveEvent] = deque(maxlen=capacity)
        self._filled = anyio.Event()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many events can be received without a wait."""
        return len(self._first) + len(self._ring)

    def offer(self, event: LiveEvent) -> None:
        if not self._wants(event):
            return
        if len(self._ring) == self._ring.maxlen:
            self.dropped += 1
        self._ring.append(event)
        self._filled.set()

    def _wants(self, event: LiveEvent) -> bool:
        if isinstance(event, RunProgress):
            return self.progress
        return self.figures or not isinstance(event, LaneFigures | EngineFigures)

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> LiveEvent:
        while not self.waiting:
            if self._closed:
                raise StopAsyncIteration
            self._filled = anyio.Event()
            await self._filled.wait()
        return self._first.popleft() if self._first else self._ring.popleft()


class Bus:
    """Hands each live event to every subscriber, and knows the latest of each kind."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self._latest = Latest()
        self._attended = anyio.Event()
        self._watching = 0

    @property
    def watched(self) -> bool:
        """Whether anybody wants to see streams fill; events of that need not be made otherwise."""
        return self._watching > 0

    @property
    def attended(self) -> bool:
        """Whether anybody wants figures once a second."""
        return any(subscription.figures for subscription in self._subscriptions)

    async def until_attended(self) -> None:
        """Wait until somebody wants figures."""
        while not self.attended:
            self._attended = anyio.Event()
            await self._attended.wait()

    def publish(self, event: LiveEvent) -> None:
        """Never waits and never fails."""
        self._latest.note(event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    @contextmanager
    def subscribe(
        self, capacity: int = _RING, *, progress: bool = True, figures: bool | None = None
    ) -> Iterator[Subscription]:
        """Receive all events from now on, up to ``capacity`` of them waiting.

        `RunProgress` comes only with ``progress``, and so do `LaneFigures` and `EngineFigures`, unless ``figures`` says
        otherwise.
        """
        with self._joined(
            Subscription(capacity, progress=progress, figures=progress if figures is None else figures)
        ) as one:
            yield one

    @contextmanager
    def watch(self, capacity: int = _RING, *, progress: bool = True) -> Iterator[Subscription]:
        """Receive events that tell how things are now, and then all that come; none is lost or doubled in between."""
        first = self._latest.events(figures=self.attended)
        with self._joined(Subscription(capacity, progress=progress, first=first)) as one:
            yield one

    @contextmanager
    def _joined(self, subscription: Subscription) -> Iterator[Subscription]:
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        self._watching += subscription.progress
        if subscription.figures:
            self._attended.set()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._watching -= subscription.progress

    def close(self) -> None:
        """End every subscription once it has been read to its end; later ones end at once."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

"""What came and was not taken yet: bounded, however much comes and however slow the taker is."""

from __future__ import annotations

from collections import deque
from operator import itemgetter

from llmbench.bridge.live import Dropped
from llmbench.messages import RunProgress
from llmbench.tui.items import FeedItem, Heard, LinkChange

CAPACITY = 4096
_MOST_CHANGES = 64

_Numbered = tuple[int, FeedItem]


class Ring:
    """Holds up to ``capacity`` items. One more pushes out the oldest of how a stream fills, or else the oldest event.

    How the connection is, is not pushed out by events: of its changes the last 64 are kept, and of `Heard` the last.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._progress: deque[_Numbered] = deque()
        self._events: deque[_Numbered] = deque()
        self._changes: deque[_Numbered] = deque(maxlen=_MOST_CHANGES)
        self._heard: Heard | None = None
        self._number = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._progress) + len(self._events) + len(self._changes)

    def put(self, item: FeedItem) -> None:
        """Take one item in; never waits."""
        if isinstance(item, Heard):
            self._heard = item
        elif isinstance(item, Dropped):
            self._dropped += item.count
        elif isinstance(item, LinkChange):
            self._changes.append(self._numbered(item))
        else:
            (self._progress if isinstance(item, RunProgress) else self._events).append(self._numbered(item))
            self._shrink()

    def take(self) -> list[FeedItem]:
        """Return everything, in the order in which it came, and be empty.

        When something was last heard comes first, how many events were lost, here or before, last.
        """
        numbered = sorted((*self._progress, *self._events, *self._changes), key=itemgetter(0))
        items = [item for _, item in numbered]
        first: list[FeedItem] = [self._heard] if self._heard is not None else []
        last: list[FeedItem] = [Dropped(count=self._dropped)] if self._dropped else []
        self._progress.clear()
        self._events.clear()
        self._changes.clear()
        self._heard, self._dropped = None, 0
        return first + items + last

    def _numbered(self, item: FeedItem) -> _Numbered:
        self._number += 1
        return self._number, item

    def _shrink(self) -> None:
        if len(self._progress) + len(self._events) > self._capacity:
            (self._progress or self._events).popleft()
            self._dropped += 1

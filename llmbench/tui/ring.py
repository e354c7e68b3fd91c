"""What came and was not taken yet: bounded, however much comes and however slow the taker is."""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import NamedTuple

from llmbench.bridge.live import LONGEST_FRAME, Dropped
from llmbench.messages import RunProgress
from llmbench.tui.items import FeedItem, Heard, LinkChange

CAPACITY = 4096
MOST_BYTES = LONGEST_FRAME
"""Of frames, as they came: a thing that is taken in takes about three times as much."""

_MOST_CHANGES = 64


class _Numbered(NamedTuple):
    number: int
    item: FeedItem
    size: int


class Ring:
    """Holds up to ``capacity`` items of ``most_bytes`` in all.

    More than that pushes out the oldest of how a stream fills, or else the oldest event; what goes is counted.

    How the connection is, is not pushed out by events: of its changes the last 64 are kept, and of `Heard` the last.
    """

    def __init__(self, capacity: int = CAPACITY, most_bytes: int = MOST_BYTES) -> None:
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._bytes = 0
        self._progress: deque[_Numbered] = deque()
        self._events: deque[_Numbered] = deque()
        self._changes: deque[_Numbered] = deque(maxlen=_MOST_CHANGES)
        self._heard: Heard | None = None
        self._number = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._progress) + len(self._events) + len(self._changes)

    def put(self, item: FeedItem, size: int = 0) -> None:
        """Take one item in, which came as so many bytes; never waits."""
        if isinstance(item, Heard):
            self._heard = item
        elif isinstance(item, Dropped):
            self._dropped += item.count
        elif isinstance(item, LinkChange):
            self._changes.append(self._numbered(item))
        else:
            (self._progress if isinstance(item, RunProgress) else self._events).append(self._numbered(item, size))
            self._bytes += size
            self._shrink()

    def take(self) -> list[FeedItem]:
        """Return everything, in the order in which it came, and be empty.

        When something was last heard comes first, how many events were lost, here or before, last.
        """
        numbered = sorted((*self._progress, *self._events, *self._changes), key=itemgetter(0))
        items = [one.item for one in numbered]
        first: list[FeedItem] = [self._heard] if self._heard is not None else []
        last: list[FeedItem] = [Dropped(count=self._dropped)] if self._dropped else []
        self._progress.clear()
        self._events.clear()
        self._changes.clear()
        self._heard, self._dropped, self._bytes = None, 0, 0
        return first + items + last

    def _numbered(self, item: FeedItem, size: int = 0) -> _Numbered:
        self._number += 1
        return _Numbered(self._number, item, size)

    def _shrink(self) -> None:
        while len(self._progress) + len(self._events) > self._capacity or self._bytes > self._most_bytes:
            self._bytes -= (self._progress or self._events).popleft().size
            self._dropped += 1

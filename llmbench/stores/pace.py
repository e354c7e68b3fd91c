"""How much of a batch is sent at a time: what gets through a slow link within a limit, and more on a quick one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

SLICE_BYTES = 256 * 1024
"""What the first slice has, and records about models in any case: within 10 s even at 26 kB/s."""

_LEAST_BYTES = 64 * 1024
_MOST_BYTES = 4 * 1024 * 1024


class Pace:
    """How much is sent at a time: twice as much once a slice was quick, less once one was slow or failed.

    ``limit`` is that of a slice, in seconds. On a quick link a large batch is a slice or two, so that it waits for the
    server's disk as rarely.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.size = SLICE_BYTES

    def took(self, seconds: float, sent: int) -> None:
        """Take note of a slice that got through, of so many bytes."""
        if seconds > self._limit / 2:
            self.size = max(_LEAST_BYTES, self.size // 2)
        elif seconds < self._limit / 8 and sent > self.size / 2:
            self.size = min(_MOST_BYTES, self.size * 2)

    def failed(self) -> None:
        """Take note of one that did not, maybe for lack of time."""
        self.size = max(_LEAST_BYTES, self.size // 4)


def portions(items: Iterable[T], size: Callable[[T], int], most: Callable[[], int]) -> Iterator[list[T]]:
    """Yield the items in order, at a time no more of them than have the bytes that ``most`` says then, or one alone."""
    part: list[T] = []
    taken = 0
    for one in items:
        more = size(one)
        if part and taken + more > most():
            yield part
            part, taken = [], 0
        part.append(one)
        taken += more
    if part:
        yield part

"""A batch on a slow link: slices small enough to get through one by one, and what is known of those that did.

The limit of a put is for a slice, not for the batch, so a backlog gets through where it takes longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from llmbench.stores.base import Verdict
from llmbench.stores.mongo_documents import Form

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


def size_of(part: Sequence[Form | Verdict]) -> int:
    """Return how many bytes of it are to be sent."""
    return sum(len(one.encoded) for one in part if isinstance(one, Form))


def slices(batch: Sequence[Form | Verdict], pace: Pace) -> Iterator[list[Form | Verdict]]:
    """Yield the batch in order, so much of it at a time as ``pace`` says then, but one outcome at least."""
    return portions(batch, lambda one: size_of([one]), lambda: pace.size)


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


class Landed:
    """Which outcomes of a batch are stored for certain although the batch as a whole was not."""

    def __init__(self) -> None:
        self._verdicts: dict[str, tuple[bytes, Verdict]] = {}

    def note(self, part: Sequence[Form | Verdict], verdicts: Sequence[Verdict]) -> None:
        for one, verdict in zip(part, verdicts, strict=True):
            if isinstance(one, Form) and verdict.acknowledged:
                self._verdicts[verdict.id] = (one.canonical, verdict)

    def known(self, batch: Sequence[Form | Verdict]) -> list[Form | Verdict]:
        """Return the batch with verdicts in the place of what is stored; whatever is not in it is forgotten."""
        ids = {one.outcome.id for one in batch if isinstance(one, Form)}
        self._verdicts = {key: told for key, told in self._verdicts.items() if key in ids}
        return [self._known(one) for one in batch]

    def _known(self, one: Form | Verdict) -> Form | Verdict:
        if isinstance(one, Form):
            canonical, verdict = self._verdicts.get(one.outcome.id, (None, one))
            return verdict if canonical == one.canonical else one
        return one

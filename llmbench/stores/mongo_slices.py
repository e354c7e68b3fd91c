"""A batch on a slow link: slices small enough to get through one by one, and what is known of those that did.

The limit of a put is for a slice, not for the batch, so a backlog gets through where it takes longer than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmbench.stores.base import Verdict
from llmbench.stores.mongo_documents import Form
from llmbench.stores.pace import Pace, portions


def size_of(part: Sequence[Form | Verdict]) -> int:
    """Return how many bytes of it are to be sent."""
    return sum(len(one.encoded) for one in part if isinstance(one, Form))


def slices(batch: Sequence[Form | Verdict], pace: Pace) -> Iterator[list[Form | Verdict]]:
    """Yield the batch in order, so much of it at a time as ``pace`` says then, but one outcome at least."""
    return portions(batch, lambda one: size_of([one]), lambda: pace.size)


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

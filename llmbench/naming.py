"""What names a model: its provider and its id, both without regard to case.

Two rows whose keys are equal are one model, whoever wrote them. The key is made by `str.lower`, here and nowhere else.
For names of ASCII, which are all that the configuration and `llmbench models` take, SQLite's NOCASE and MongoDB's
collation say the same. Beyond ASCII, NOCASE tells more spellings apart and the collation fewer; then this key decides
what is seeded, measured and reported together, and an index only what it refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar

MODEL_ID = r"\A[!-~]{1,200}\Z"
"""What a model id is that a person or a bridge may name: printable ASCII characters without spaces."""

Key = tuple[str, str]


class Named(Protocol):
    """A row of the catalogue, or whatever else names a model as one does."""

    @property
    def provider(self) -> str: ...

    @property
    def model_id(self) -> str: ...


N = TypeVar("N", bound=Named)


def fold(name: str) -> str:
    """Return a name, the same however it is spelled. The configuration's names of providers are spelled so."""
    return name.lower()


def folded(provider: str, model_id: str) -> Key:
    """Return what names a model, the same however it is spelled."""
    return fold(provider), fold(model_id)


def key_of(named: Named) -> Key:
    return folded(named.provider, named.model_id)


def absent(named: Iterable[N], there: Collection[Key]) -> list[N]:
    """Return the first of each key that is not there."""
    first: dict[Key, N] = {}
    for one in named:
        first.setdefault(key_of(one), one)
    return [one for key, one in first.items() if key not in there]

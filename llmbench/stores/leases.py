"""The lease contract: how several runners on one store share the models, so that none is measured twice.

A lease lets one runner measure one model for a term. It is granted if nobody holds it (or its holder let it run out),
the model's last success is old enough, and a failure's backoff has passed. Every time is judged by the store's clock,
so runners whose own clocks are wrong do no harm. A lease says who may *start*: a runner that loses one finishes and
stores what runs, so the cost of an overlap is a second measurement, never a row that is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

Reason = Literal["held", "fresh", "resting"]


class LeaseKey(msgspec.Struct, frozen=True):
    """What a lease is for. ``model_id`` is in lower case; with a ``region``, each region has leases of its own."""

    provider: str
    model_id: str
    region: str | None = None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to make one run, whose outcome will have this id.

    ``asked``: a person wants it now; neither a success nor a failure of late keeps it back, only another's lease does.
    """

    key: LeaseKey
    outcome_id: str
    asked: bool = False


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """A lease. ``token`` is greater with each grant of a key, and so tells a lease from those before it.

    ``failures_in_a_row`` is what runners have told of this key; ``taken_from`` is the runner that let it run out.
    """

    key: LeaseKey
    token: int
    failures_in_a_row: int = 0
    taken_from: str | None = None


class Withheld(msgspec.Struct, frozen=True, kw_only=True):
    """No lease, for ``seconds`` at least unless things change.

    ``held``: ``runner`` has it. ``fresh``: ``runner`` has measured the model. ``resting``: it failed there.
    """

    key: LeaseKey
    reason: Reason
    runner: str
    seconds: float


class Unanswered(msgspec.Struct, frozen=True, kw_only=True):
    """No lease, since the store could not judge this claim, though it does answer. ``error`` says why."""

    key: LeaseKey
    error: str


Answer = Granted | Withheld | Unanswered


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a lease: the run's outcome is stored, or (``unused``) there was no run.

    After a failure nobody is to try again for ``rest`` seconds.
    """

    lease: Granted
    result: Literal["succeeded", "failed", "unused"]
    failures_in_a_row: int = 0
    rest: float = 0.0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A success without a lease; its run began ``ago`` seconds ago."""

    key: LeaseKey
    ago: float


class Leases(Protocol):
    """The leases of one runner. Calls may overlap. Each raises `StoreError` if the store does not answer."""

    shared: bool
    """Whether other runners are known here at all."""
    runner: str
    """The id that other runners are told."""

    async def claim(self, claims: Sequence[Claim], *, fresh: float) -> Sequence[Answer]:
        """Answer each claim, in order. ``fresh`` is for how many seconds after a success a model is left alone.

        The same again is safe: what this runner holds already, it is granted anew.
        """
        ...

    async def successes(self, region: str | None) -> dict[LeaseKey, datetime]:
        """Return when each model was last measured with success under a lease of this region."""
        ...

    async def renew(self, held: Sequence[Granted]) -> list[Granted]:
        """Begin a new term for each lease, and return those that are lost."""
        ...

    async def release(self, ended: Sequence[Ended]) -> None:
        """Give leases back. One that was lost meanwhile is left to its new holder."""
        ...

    async def note(self, measured: Sequence[Measured]) -> None:
        """Take note of runs without a lease, so that their models count as fresh. With none, just ask for an answer."""
        ...

    async def release_all(self) -> None:
        """Give back whatever this runner holds, unused."""
        ...


class Unshared:
    """Leases where no other runner is known: each is granted."""

    shared = False
    runner = ""

    def __init__(self) -> None:
        self._granted = 0

    async def claim(self, claims: Sequence[Claim], *, fresh: float) -> list[Answer]:
        return [self._grant(claim) for claim in claims]

    def _grant(self, claim: Claim) -> Granted:
        self._granted += 1
        return Granted(key=claim.key, token=self._granted)

    async def successes(self, region: str | None) -> dict[LeaseKey, datetime]:
        return {}

    async def renew(self, held: Sequence[Granted]) -> list[Granted]:
        return []

    async def release(self, ended: Sequence[Ended]) -> None:
        pass

    async def note(self, measured: Sequence[Measured]) -> None:
        pass

    async def release_all(self) -> None:
        pass

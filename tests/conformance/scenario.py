"""What a scenario of the conformance suite is: a behaviour of the provider, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llmbench.messages import Failure, Outcome, Sample
from llmbench.simulator.record import RequestRecord
from tests.runs import Family


class Good(NamedTuple):
    """A row that counts. Of figures that are None, nothing is said."""

    chunks: int = 64
    tokens: int | None = 64
    reasoning: int | None = None
    shown: bool | None = None
    """Whether the row has a time to the first reasoning token."""
    outcome: str = "ok"
    warns: str | None = None
    """What the row's warnings must name."""


class Failed(NamedTuple):
    """A failure: its kind, cause and stage, the status that came, and the visible chunks that are kept.

    Of chunks that are None, nothing is said.
    """

    kind: str
    cause: str
    stage: str = "generate"
    status: int | None = 200
    chunks: int | None = 0
    says: str = ""
    retry_after: float | None = None


class Ran(NamedTuple):
    """One run, from both sides."""

    family: Family
    model_id: str
    outcome_id: str
    outcome: Outcome
    texts: list[str]
    """The visible texts, in the order in which they came."""
    requests: list[RequestRecord]

    @property
    def row(self) -> Sample:
        assert isinstance(self.outcome, Sample), self.outcome
        return self.outcome

    @property
    def failure(self) -> Failure:
        assert isinstance(self.outcome, Failure), self.outcome
        return self.outcome

    @property
    def request(self) -> RequestRecord:
        (request,) = self.requests
        return request


Wanted = Good | Failed
Check = Callable[[Ran], None]


def names_of(family: Family) -> tuple[str, ...]:
    """Return what a scenario may call a family, most telling first: ``vertex-chat``, ``vertex``, ``chat``."""
    return f"{family.provider}-{family.mode}", family.provider, family.mode


class Scenario(NamedTuple):
    """One behaviour that every family is put through.

    ``id`` begins with the row of the fault matrix, if there is one. ``words`` are the simulated model's, in which
    ``{port}`` is that of a server which nobody may speak to. ``changes`` are of the profile. Where a family must do
    otherwise ``but`` has what, and where it can't be in this situation, a sentence that says why.
    """

    id: str
    words: str
    wanted: Wanted
    changes: Mapping[str, Any] = {}
    but: Mapping[str, Wanted | str] = {}
    checks: tuple[Check, ...] = ()

    def of(self, family: Family) -> Wanted | str:
        """Return what must come of it with this family, or why it can't be."""
        return next((self.but[name] for name in names_of(family) if name in self.but), self.wanted)

"""The store contract: what every store promises, whatever it is made of.

`put` is idempotent by id: the same outcome twice is stored once and answered `duplicate`; the same id with other
content is a `conflict` and changes nothing. An outcome counts as stored only once it would survive a crash of the
machine. Items of a batch are isolated: one bad item never keeps the others out.

Every question about outcomes is answered from the same ones, those that count: see `llmbench.stores.counted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypedDict, Unpack, get_args

import msgspec

from llmbench.lifecycle import DiscoveryRun, Listing, R, Record
from llmbench.messages import Envelope, Failure, Model, Outcome
from llmbench.stores.leases import Leases
from llmbench.stores.trends import Trend, TrendQuery


class StoreError(Exception):
    """The store could not answer; trying again later may help. The message says which store and why.

    ``retry_after`` is how many seconds the store asks to be left alone for, None if it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnusable(StoreError):
    """The store can't be used as configured (path not writable, not a database, newer schema); retrying is futile.

    What is to be stored is not to blame. ``cause`` says what a person has to mend: rights, or the configuration.
    """

    def __init__(self, message: str, cause: Literal["auth", "config"] = "config") -> None:
        super().__init__(message)
        self.cause: Literal["auth", "config"] = cause


class ModelExists(Exception):
    """An enabled model with this provider and id (compared without regard to case) is there already."""

    def __init__(self, existing: Model) -> None:
        super().__init__(f"{existing.provider}/{existing.model_id} is in the catalogue already")
        self.existing = existing


class UnknownModel(Exception):
    """The catalogue has no such model. ``similar`` holds near matches, best first."""

    def __init__(self, provider: str, model_id: str, similar: Sequence[str] = ()) -> None:
        super().__init__(f"{provider}/{model_id} is not in the catalogue")
        self.provider = provider
        self.model_id = model_id
        self.similar = tuple(similar)


class ModelChanges(TypedDict, total=False):
    """The fields of a catalogue row that are a person's to set; None takes a value away."""

    display_name: str | None
    profile: str | None
    region: str | None
    notes: str | None
    request: dict[str, Any] | None


class Verdict(msgspec.Struct, frozen=True):
    """What became of one outcome. ``stored`` and ``duplicate`` are acknowledgements; the others are not.

    ``unknown``: the store did not say; putting it again is safe, and the only way to know.
    """

    id: str
    status: Literal["stored", "duplicate", "conflict", "rejected", "unknown"]
    reason: str | None = None

    @property
    def acknowledged(self) -> bool:
        return self.status in ("stored", "duplicate")


class ModelHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What scheduling needs to know of a model's past; runs with role ``scheduled`` or ``demo`` only.

    ``failures_in_a_row`` counts failures since the last success, those of the kinds ``local`` and ``internal``
    left out (they are ours); ``last_failure_*`` describe the newest failure if it is newer than the last success.
    """

    provider: str
    model_id: str
    last_success: datetime | None = None
    failures_in_a_row: int = 0
    last_failure: datetime | None = None
    last_failure_kind: str | None = None
    last_failure_retry_after: float | None = None


class OutcomeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which outcomes are wanted, newest first. ``provider`` and ``model`` are exact, without regard to case."""

    since: datetime | None = None
    provider: str | None = None
    model: str | None = None
    kind: Literal["samples", "failures", "all"] = "all"
    limit: int | None = None


class ErrorRollup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures counted by fingerprint; at most three different ``sample_messages``, the first ones seen."""

    fingerprint: str
    provider: str
    model_name: str
    stage: str
    error_kind: str
    first_seen: datetime
    last_seen: datetime
    count: int
    sample_messages: list[str]

    def joined_with(self, other: ErrorRollup, most: int) -> ErrorRollup:
        """Return what the two tell of the same failures, with so many messages at most, the earlier rollup's first."""
        first, second = (other, self) if other.first_seen <= self.first_seen else (self, other)
        return msgspec.structs.replace(
            self,
            first_seen=first.first_seen,
            last_seen=max(self.last_seen, other.last_seen),
            count=max(self.count, other.count),
            sample_messages=list(dict.fromkeys([*first.sample_messages, *second.sample_messages]))[:most],
        )


Part = Literal["samples", "probes", "failures"]
"""What a store keeps apart: samples that are published, samples that are not, failures."""

PARTS: tuple[Part, ...] = get_args(Part)


class Page(msgspec.Struct, frozen=True):
    """Some of a part's outcomes, and where the next ones begin: pass ``next`` on, None after the last page.

    What is ``unreadable`` is not among the items, and does not keep them back.
    """

    items: list[Envelope]
    next: Any
    unreadable: list[Verdict] = []


class ErrorQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which failures are to be counted (``since`` by ``run_ts``), and by what they have in common.

    ``model`` stands for provider and model: the same id at two providers is two models.
    """

    by: Literal["provider", "model", "kind", "fingerprint"] = "kind"
    since: datetime | None = None
    provider: str | None = None


class ErrorGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that have something in common, and the ``newest`` of them (by ``run_ts``, then by id)."""

    count: int
    newest: Failure


class ModelTally(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one model in a window, of every role, spelled as the newest of them.

    ``last_success`` looks beyond the window, ``last_failure`` does not.
    """

    provider: str
    model_name: str
    successes: int
    failures: int
    last_success: datetime | None = None
    last_failure: datetime | None = None


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the runs of one model in a window came to, of every role, spelled as the newest of them.

    ``n`` = ``successes`` + ``failures``, and ``success_rate`` is the share of the former. Percentiles are of the
    successes that have the figure, as `llmbench.quantiles.quantile` defines them; seconds and tokens per second.
    """

    provider: str
    model_name: str
    n: int
    successes: int
    failures: int
    success_rate: float
    time_to_first_token_p50: float | None
    time_to_first_token_p95: float | None
    tokens_per_second_p50: float | None


class Recorded(msgspec.Struct, frozen=True):
    """What became of a listing: its run as it is stored, and the models that could not be, with the reason."""

    run: DiscoveryRun
    refused: list[Verdict]


class Store(Protocol):
    """An outcome store and model catalogue. One object belongs to one event loop; calls may overlap."""

    description: str
    """What a person needs to find it: ``SQLite file /var/lib/…/llmbench.db``; never a secret."""

    async def open(self) -> None:
        """Connect, create what is missing. Raises `StoreUnusable` or `StoreError`."""
        ...

    async def close(self) -> None: ...

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        """Store a batch; one verdict per item, in order. Raises `StoreError` if nothing is known of any of them.

        A first-time Failure also counts into its error rollup, in the same transaction; a repeat does not.
        """
        ...

    async def models(self, *, provider: str | None = None, enabled: bool | None = None) -> list[Model]:
        """Return the catalogue, ordered by provider, then model id."""
        ...

    async def unreadable_models(self) -> list[str]:
        """Return what a person needs to find rows of the catalogue that name no model; `models` leaves them out."""
        ...

    async def model(self, provider: str, model_id: str) -> Model:
        """Return one model, id compared without regard to case. Raises `UnknownModel`."""
        ...

    async def add_model(self, model: Model) -> Model:
        """Add it. Raises `ModelExists`.

        A disabled row of the same id is enabled again and keeps its past; its id is written as it is given now, since
        a provider may know only one spelling.
        """
        ...

    async def put_model(self, model: Model) -> Model | None:
        """Add a row just as it is, disabled or not, and return None; or return the row that is in its place.

        In its place is a row of the same provider and id, in this spelling; to an enabled one also an enabled one in
        another spelling. That row stays as it is.
        """
        ...

    async def seed_models(self, models: Sequence[Model]) -> list[Model]:
        """Add those of which there is no row, enabled or not, in any spelling; return what was added.

        What is there stays as it is. Of several programs that seed one model at the same time, one adds it.
        """
        ...

    async def enable_model(self, provider: str, model_id: str) -> Model:
        """Enable it; enabled already is no error. Raises `UnknownModel`."""
        ...

    async def disable_model(self, provider: str, model_id: str, *, reason: str, by: str, at: datetime) -> Model:
        """Disable it, keeping the row. Raises `UnknownModel`."""
        ...

    async def change_model(self, provider: str, model_id: str, **changes: Unpack[ModelChanges]) -> Model:
        """Set fields of a row, enabled or not, and leave all else; the same twice is no error.

        Raises `UnknownModel`, and `TypeError` for a field that is not one of `ModelChanges`: state has its own methods.
        """
        ...

    async def history(self) -> list[ModelHistory]:
        """Return the past of every model that has one, in no particular order."""
        ...

    async def outcomes(self, query: OutcomeQuery) -> list[Outcome]:
        """Return stored outcomes, newest first (by ``run_ts``)."""
        ...

    async def rollups(self, *, since: datetime | None = None) -> list[ErrorRollup]:
        """Return the error rollups last seen since then, most frequent first."""
        ...

    async def put_rollup(self, rollup: ErrorRollup) -> bool:
        """See to it that a rollup tells at least this much, and say whether that changed it.

        The greater count, the earlier ``first_seen`` and the later ``last_seen`` hold: the same twice changes nothing.
        """
        ...

    async def page(self, part: Part, *, after: Any = None, size: int) -> Page:
        """Return at most so many outcomes of a part, in the order of their ids, from where ``after`` says."""
        ...

    async def put_listing(self, listing: Listing) -> Recorded:
        """Note what a provider lists: an entry of the catalogue for each model, and a run of the discovery.

        An entry is ``in_our_db`` if `models` has the model, in any spelling. Models that are not listed keep their
        entries, whatever the listing came to. The same listing (by provider and ``started_at``) again adds nothing.
        Raises `ValueError` for one that can't be stored.
        """
        ...

    async def records(
        self, kind: type[R], *, provider: str | None = None, model_id: str | None = None, limit: int | None = None
    ) -> list[R]:
        """Return the records of a kind: runs newest first, all others by provider, then model.

        ``provider`` and ``model_id`` are exact, without regard to case; runs name no model.
        """
        ...

    async def put_records(self, records: Sequence[Record]) -> list[Verdict]:
        """Put records as they are, joined with those of the same key as `llmbench.stores.records.joined` says.

        One verdict per item, in order: ``stored`` if it changed something, ``duplicate`` if all of it was told already,
        ``conflict`` if another one is in its place, which is kept.
        """
        ...

    async def counts(self) -> dict[Part, int]:
        """Return how many outcomes each part has; near enough while others write."""
        ...

    async def error_groups(self, query: ErrorQuery) -> list[ErrorGroup]:
        """Return the failures that the query names, grouped; largest group first, the newer one of equals."""
        ...

    async def tallies(self, *, since: datetime | None = None) -> list[ModelTally]:
        """Count the runs since then of every model that has some, or ever succeeded; by provider, then model."""
        ...

    async def summary(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> list[ModelSummary]:
        """Sum up the runs of a window, ``until`` excluded, of every model that has some; by provider, then model.

        ``provider`` and ``model`` are as in `OutcomeQuery`.
        """
        ...

    async def trends(self, query: TrendQuery) -> list[Trend]:
        """Return how the runs since then went over time; by provider, then model. Names are spelled as some run has."""
        ...

    def leases(self, runner: str, term: float) -> Leases:
        """Return the leases of a runner with this id, each for ``term`` seconds; the store has to be open to use them.

        A store that is one engine's own knows no other runner, and grants everything.
        """
        ...

"""What is kept of models beside their runs: what providers list, what has become of a model, what it was at its end.

The Structs are the stored documents themselves, as those of `llmbench.messages` are: existing readers know their
fields (docs/data-model.md). A model is named by its provider and id, both without regard to case. Dates are aware UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar, get_args

import msgspec

Status = Literal[
    "active", "monitor", "failing", "stale", "likely_deprecated", "deprecated", "disabled", "never_succeeded"
]

STATUSES: tuple[Status, ...] = get_args(Status)


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model as its provider lists it. ``chat`` says whether it fits this benchmark, None where nobody has judged."""

    model_id: str
    raw: dict[str, Any]
    name: str | None = None
    chat: bool | None = None
    unfit_reason: str | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One discovery of one provider. ``models`` is what came, however it ended; ``started_at`` tells it from others."""

    provider: str
    started_at: datetime
    finished_at: datetime
    status: Literal["ok", "failed"]
    pagination_complete: bool
    models: list[Listed]
    error: str | None = None
    source_version: str | None = None


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model that a provider lists or has listed (`provider_catalog`); never taken away."""

    provider: str
    model_id: str
    first_seen_at: datetime
    last_seen_at: datetime
    in_our_db: bool
    raw: dict[str, Any]

    name: str | None = None
    chat: bool | None = None
    unfit_reason: str | None = None


class DiscoveryRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a listing came to (`bench_discovery_runs`). ``status`` is `Listing`'s; earlier writers had other words."""

    provider: str
    started_at: datetime
    finished_at: datetime | None
    status: str
    raw_count: int | None
    accepted_count: int | None
    new_count: int | None
    pagination_complete: bool

    error: str | None = None
    source_version: str | None = None

    @property
    def complete(self) -> bool:
        """Whether a model that it does not have is not listed any more."""
        return self.pagination_complete and not self.error and self.status != "failed"


class RecentMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the errors that a status was found by."""

    timestamp: datetime | None = None
    message: str | None = None
    kind: str | None = None


class StatusMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures that a status was found by. ``last_success`` and ``last_error`` are times."""

    last_success: datetime | None = None
    successes_7d: int | None = None
    successes_30d: int | None = None
    successes_120d: int | None = None
    last_error: datetime | None = None
    errors_7d: int | None = None
    errors_30d: int | None = None
    hard_failures_7d: int | None = None
    hard_failures_30d: int | None = None
    recent_messages: list[RecentMessage] | None = None


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has become of a model (`model_status`). ``status`` is None where an earlier writer had a word of its own."""

    provider: str
    model_id: str
    status: Status | None
    confidence: str | float | None
    reasons: list[str]
    recommended_actions: list[str]
    computed_at: datetime
    metrics: StatusMetrics

    display_name: str | None = None
    created_at: datetime | None = None
    last_updated: datetime | None = None
    last_run_at: datetime | None = None
    catalog_state: str | None = None


class DeprecationSnapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a model did before it went (`deprecation_snapshots`), speeds in tokens per second; never changed."""

    provider: str
    model_id: str
    deprecation_date: datetime
    stats: dict[str, Any]
    created_at: datetime

    provider_canonical: str | None = None
    model_canonical: str | None = None
    display_name: str | None = None
    snapshot_mean: float | None = None
    snapshot_p10: float | None = None
    snapshot_p50: float | None = None
    snapshot_p90: float | None = None
    snapshot_period_start: datetime | None = None
    snapshot_period_end: datetime | None = None
    successor_model: str | None = None
    sample_size: int | None = None


Record = CatalogEntry | DiscoveryRun | ModelStatus | DeprecationSnapshot

RECORDS: tuple[type[Record], ...] = get_args(Record)

R = TypeVar("R", bound=Record)

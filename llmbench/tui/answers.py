"""What the store and the spool have answered, as screens use it. Texts are as they are stored: views clean them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import msgspec

from llmbench.messages import StoreState
from llmbench.stores.spool import SpoolCounts
from llmbench.stores.trends import Trend
from llmbench.tui.state import ErrorGroup, Finished

T = TypeVar("T")

FEWEST_SECONDS = 30.0
_SHARE = 20.0
"""No question is asked so often that it takes more than a twentieth of the time."""


class CatalogueRow(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the catalogue with its past. Figures are of all its runs of the last days; seconds and tokens/s.

    ``last_success`` and what follows it are of scheduled runs only, as the engine goes by them.
    """

    provider: str
    model_id: str
    enabled: bool
    disabled_reason: str | None = None
    disabled_by: str | None = None
    disabled_at: datetime | None = None
    last_success: datetime | None = None
    failures_in_a_row: int = 0
    last_failure: datetime | None = None
    last_failure_kind: str | None = None
    n: int = 0
    success_rate: float | None = None
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """The catalogue, by provider and model; figures are of so many ``days``."""

    days: int
    rows: tuple[CatalogueRow, ...]


class ModelRuns(msgspec.Struct, frozen=True, kw_only=True):
    """The last runs of one model, the newest first; ``more``: there are earlier ones."""

    provider: str
    model_id: str
    runs: tuple[Finished, ...]
    more: bool


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Failures since then by fingerprint, the most frequent groups; of ``groups`` in all, with ``failures`` in them.

    ``live`` says how many of each group live events had told by the time of the answer.
    """

    since: datetime
    kept: Mapping[str, ErrorGroup]
    groups: int
    failures: int
    live: Mapping[str, int] = {}


class Trends(msgspec.Struct, frozen=True, kw_only=True):
    """How figures went since then, in parts of this ``width``: of all providers, or of one provider's models."""

    since: datetime
    width: timedelta
    provider: str | None
    trends: tuple[Trend, ...]


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that the store would not take; ``model`` is None if its body does not tell."""

    id: str
    model: str | None
    conflicting: bool
    reason: str | None
    error: str | None
    tries: int
    recorded_at: datetime


class SpoolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the spool is, and the first rows of its quarantine; ``damages`` are sentences."""

    counts: SpoolCounts
    damages: tuple[str, ...]
    delivery: StoreState | None
    quarantine: tuple[Quarantined, ...]


class Asked(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """How a question stands. ``trouble`` is why there is no newer answer than this one: a sentence.

    ``at`` is when the answer came, ``tried`` when the question was asked last, and ``took`` how many seconds that was.
    """

    answer: T | None = None
    at: datetime | None = None
    tried: datetime | None = None
    took: float = 0.0
    trouble: str | None = None
    asking: bool = False

    def due(self, now: datetime) -> bool:
        """Say whether it is time to ask again; it is if the clock was set back since."""
        if self.asking:
            return False
        pause = max(FEWEST_SECONDS, self.took * _SHARE)
        return self.tried is None or not 0 <= (now - self.tried).total_seconds() < pause

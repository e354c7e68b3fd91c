"""Answers of a store and a spool, as tests and snapshots of screens need them: the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, Final

from llmbench.stores.spool import SpoolCounts
from llmbench.stores.trends import Trend, TrendPoint
from llmbench.tui.answers import (
    Asked,
    Catalogue,
    CatalogueRow,
    Errors,
    ModelRuns,
    Quarantined,
    SpoolAnswer,
    Trends,
)
from llmbench.tui.state import ErrorGroup, Finished
from llmbench.tui.views.trends import WINDOWS
from tests.tui.states import NOW, at

FRESH: Final = timedelta(minutes=60)
DAY: Final = WINDOWS[1]


def row(model_id: str = "gpt-4o-mini", **changes: Any) -> CatalogueRow:
    """Return a model of openai that is fresh: it succeeded half an hour ago."""
    usual: dict[str, Any] = {
        "provider": "openai",
        "enabled": True,
        "last_success": at(-30),
        "n": 168,
        "success_rate": 0.994,
        "time_to_first_token": 0.412,
        "tokens_per_second": 51.2,
    }
    return CatalogueRow(model_id=model_id, **usual | changes)


def failing(model_id: str = "broken", failures: int = 3, **changes: Any) -> CatalogueRow:
    """Return a model that last failed a minute ago."""
    return row(model_id, failures_in_a_row=failures, last_failure=at(-1), last_failure_kind="rate_limit", **changes)


def disabled(model_id: str = "old") -> CatalogueRow:
    return row(model_id, enabled=False, disabled_reason="it is gone", disabled_by="ana", disabled_at=at(-90))


def catalogue(*rows: CatalogueRow, minutes: float = -1, **changes: Any) -> Asked[Catalogue]:
    """Return an answer that came so many minutes from `NOW`."""
    return Asked(answer=Catalogue(days=7, rows=rows), at=at(minutes), **changes)


def run(n: int = 0, **changes: Any) -> Finished:
    """Return a success of `row`, so many minutes ago."""
    usual: dict[str, Any] = {
        "outcome_id": f"run-{n}",
        "provider": "openai",
        "model_id": "gpt-4o-mini",
        "at": at(-n),
        "ok": True,
        "outcome": "ok",
        "time_to_first_token": 0.4 + n / 100,
        "tokens_per_second": 50.0 + n,
        "output_tokens": 64,
        "gap_p95": 0.014,
        "gap_max": 0.025,
    }
    return Finished(**usual | changes)


def failed_run(n: int = 0, message: str = "slow down", **changes: Any) -> Finished:
    none: dict[str, Any] = dict.fromkeys(
        ("time_to_first_token", "tokens_per_second", "output_tokens", "gap_p95", "gap_max")
    )
    told = {"ok": False, "outcome": "failed", "error_kind": "rate_limit", "message": message}
    return run(n, **{**none, **told, **changes})


def runs(*found: Finished, more: bool = False) -> Asked[ModelRuns]:
    return Asked(answer=ModelRuns(provider="openai", model_id="gpt-4o-mini", runs=found, more=more), at=NOW)


def group(fingerprint: str = "f", **changes: Any) -> ErrorGroup:
    """Return a group of failures that go on: the last was two minutes ago."""
    usual: dict[str, Any] = {
        "provider": "groq",
        "model_id": "llama",
        "error_kind": "rate_limit",
        "error_cause": "rate_limited",
        "http_status": 429,
        "message": "Rate limit reached for llama, try again in 7 s",
        "advice": "Ask for a higher limit",
        "count": 10,
        "first_seen": at(-60),
        "last_seen": at(-2),
    }
    return ErrorGroup(fingerprint=fingerprint, **usual | changes)


def errors(*groups: ErrorGroup, live: dict[str, int] | None = None, left_out: int = 0) -> Asked[Errors]:
    """Return an answer about the last day."""
    answer = Errors(
        since=NOW - timedelta(hours=24),
        kept={one.fingerprint: one for one in groups},
        groups=len(groups) + left_out,
        failures=sum(one.count for one in groups),
        live=live or {},
    )
    return Asked(answer=answer, at=NOW)


def trend(
    provider: str, model: str | None = None, first: Callable[[int], float] | None = None, without: Collection[int] = ()
) -> Trend:
    """Return a day of runs, nine successes in each part but those ``without``; every fourth part has a failure."""
    wave = first or (lambda n: 0.4 + 0.2 * math.sin(n / 6))
    points = (
        TrendPoint(
            at=NOW - DAY.span + n * DAY.width,
            successes=9,
            failures=int(n % 4 == 0),
            time_to_first_token_p50=wave(n),
            tokens_per_second_p50=40.0 + n % 7,
            first_tokens=9,
            speeds=8,
        )
        for n in range(DAY.span // DAY.width)
        if n not in without
    )
    return Trend(provider=provider, model_name=model, points=tuple(points))


def trends(*found: Trend, provider: str | None = None) -> Asked[Trends]:
    answer = Trends(since=NOW - DAY.span, width=DAY.width, provider=provider, trends=found)
    return Asked(answer=answer, at=NOW)


def quarantined(n: int = 0, **changes: Any) -> Quarantined:
    usual: dict[str, Any] = {
        "id": f"outcome-{n}",
        "model": "openai/gpt-4o-mini",
        "conflicting": False,
        "reason": "rejected",
        "error": "the field 'misc' is too large",
        "tries": 1,
        "recorded_at": at(-20),
    }
    return Quarantined(**usual | changes)


def spool(*rows: Quarantined, **changes: Any) -> Asked[SpoolAnswer]:
    """Return an answer of a spool that has ``rows`` in quarantine, and nothing waiting."""
    usual: dict[str, Any] = {
        "waiting": 0,
        "delivered": 120,
        "quarantined": {"rejected": len(rows)} if rows else {},
        "oldest": None,
        "in_flight": 1,
        "file_bytes": 2**20,
        "used_bytes": 2**19,
        "cap_bytes": 2**31,
        "level": "ok",
        "damages": 0,
        "sqlite_version": "3.50.4",
    }
    damages = changes.pop("told", ())
    counts = SpoolCounts(**usual | changes)
    return Asked(answer=SpoolAnswer(counts=counts, damages=damages, delivery=None, quarantine=rows), at=NOW)

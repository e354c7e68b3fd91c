"""What comes from an engine, made sound where it enters the state: text is safe to draw, dates can be reckoned with.

Names and ids stay as they are: they tell one thing from another, and the engine is asked by them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from llmbench.messages import (
    Commanded,
    EngineFigures,
    Failure,
    LaneFigures,
    LaneState,
    RunFinished,
    RunProgress,
    SpoolFigures,
    StoreState,
)
from llmbench.tui.state import ErrorGroup, Finished
from llmbench.tui.text import safe

MOST_LANES: Final = 500
_REASON: Final = 1000
_WORD: Final = 200
_PLACE: Final = 5000
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000
_LONGEST: Final = 86_400.0 * 366
_MOST: Final = 10**12


def time_of(at: datetime) -> datetime:
    """Return a date with a zone, far enough from the ends of the calendar for every sum."""
    zoned = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    if _FIRST_YEAR <= zoned.year <= _LAST_YEAR:
        return zoned
    return datetime(_FIRST_YEAR if zoned.year < _FIRST_YEAR else _LAST_YEAR, 1, 2, tzinfo=UTC)


def seconds_of(value: float) -> float:
    """Return a duration that is none below zero, and none of years."""
    return min(max(value, 0.0), _LONGEST)


def count_of(value: int) -> int:
    """Return a count that can be reckoned with: JSON has larger numbers than floats."""
    return min(max(value, 0), _MOST)


def reason_of(text: str | None) -> str | None:
    """Return a sentence that is safe to draw."""
    return None if text is None else safe(text, _REASON)


def streamed_of(step: RunProgress) -> str:
    """Return new text of a stream, as it came, and before it how much the engine left out."""
    return step.text if step.cut <= 0 else f" … {count_of(step.cut):,} characters left out … {step.text}"


def _maybe(at: datetime | None) -> datetime | None:
    return None if at is None else time_of(at)


def place_of(text: str) -> str:
    """Return what a store says of where it is, whole: stores are told apart by it."""
    return safe(text, _PLACE)


def lane_state(event: LaneState) -> LaneState:
    return msgspec.structs.replace(
        event, at=time_of(event.at), reason=reason_of(event.reason), until=_maybe(event.until)
    )


def lane_figures(event: LaneFigures) -> LaneFigures:
    return msgspec.structs.replace(
        event, at=time_of(event.at), next_due=_maybe(event.next_due), paused_since=_maybe(event.paused_since)
    )


def commanded(event: Commanded) -> Commanded:
    return Commanded(at=time_of(event.at), done=safe(event.done, _REASON))


def store_state(event: StoreState) -> StoreState:
    return msgspec.structs.replace(event, at=time_of(event.at), reason=reason_of(event.reason))


def engine_figures(event: EngineFigures) -> EngineFigures:
    return msgspec.structs.replace(
        event,
        at=time_of(event.at),
        started_at=time_of(event.started_at),
        version=safe(event.version, _WORD),
        runner_id=safe(event.runner_id, _WORD),
        store=place_of(event.store),
        hold=reason_of(event.hold),
        lanes=event.lanes[:MOST_LANES],
        spool=_spool(event.spool),
    )


def _spool(figures: SpoolFigures | None) -> SpoolFigures | None:
    if figures is None:
        return None
    return msgspec.structs.replace(figures, level=safe(figures.level, _WORD), oldest=_maybe(figures.oldest))


def finished(event: RunFinished) -> Finished:
    """Return of a run that has ended what screens show."""
    outcome = event.outcome
    if isinstance(outcome, Failure):
        return Finished(
            outcome_id=outcome.id,
            provider=event.provider,
            model_id=event.model_id,
            at=time_of(outcome.ts),
            ok=False,
            outcome="failed",
            error_kind=safe(outcome.error_kind, _WORD),
            message=safe(outcome.message, _REASON),
            advice=safe(outcome.advice, _REASON),
        )
    return Finished(
        outcome_id=outcome.id,
        provider=event.provider,
        model_id=event.model_id,
        at=time_of(outcome.gen_ts),
        ok=True,
        outcome=outcome.outcome,
        time_to_first_token=outcome.time_to_first_token,
        tokens_per_second=outcome.tokens_per_second,
        output_tokens=outcome.output_tokens,
        gap_p95=outcome.inter_token_p95,
        gap_max=outcome.inter_token_max,
        coarse=outcome.resolution == "coarse",
        clock=outcome.clock,
        client_lag=outcome.client_lag_max,
    )


def error_group(event: RunFinished, failure: Failure, earlier: ErrorGroup | None) -> ErrorGroup:
    """Return the group of a failure, which it is one of now."""
    at = time_of(failure.ts)
    return ErrorGroup(
        fingerprint=failure.fingerprint,
        provider=event.provider,
        model_id=event.model_id,
        error_kind=safe(failure.error_kind, _WORD),
        error_cause=safe(failure.error_cause, _WORD),
        http_status=failure.http_status,
        message=safe(failure.message),
        advice=safe(failure.advice, _REASON),
        count=1 if earlier is None else earlier.count + 1,
        first_seen=at if earlier is None else min(earlier.first_seen, at),
        last_seen=at if earlier is None else max(earlier.last_seen, at),
    )

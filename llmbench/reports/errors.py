"""What goes wrong, how often, and what to do about it: groups of failures with their share of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from llmbench.error_kinds import KIND_ADVICE, completed
from llmbench.messages import Failure

_COMMON = {
    "provider": ("provider",),
    "model": ("provider", "model_name"),
    "kind": ("error_kind",),
    "fingerprint": ("provider", "model_name", "stage", "error_kind", "fingerprint"),
}
"""The fields of a failure that are the same in a whole group."""


class ErrorLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One group of failures. Which of the first five fields are there depends on what was counted by.

    ``share`` is of all failures that were asked for; ``sample_*`` and ``advice`` are those of the newest, which was
    at ``last_seen``.
    """

    provider: str | None = None
    model_name: str | None = None
    stage: str | None = None
    error_kind: str | None = None
    fingerprint: str | None = None
    count: int
    share: float
    last_seen: datetime
    sample_id: str
    sample_model: str
    sample_message: str
    advice: str


def error_lines(by: str, groups: Sequence[tuple[int, Failure]]) -> list[ErrorLine]:
    """Return a line for each group: how many failures, and the newest of them. ``by`` is as in `ErrorQuery`."""
    total = sum(count for count, _newest in groups)
    return [_line(_COMMON[by], count, total, newest) for count, newest in groups]


def _line(common: Sequence[str], count: int, total: int, newest: Failure) -> ErrorLine:
    return ErrorLine(
        **{name: getattr(newest, name) for name in common},
        count=count,
        share=count / total,
        last_seen=newest.run_ts,
        sample_id=newest.id,
        sample_model=f"{newest.provider}/{newest.model_name}",
        sample_message=newest.message,
        advice=newest.advice or general_advice(newest.error_kind, newest.provider),
    )


def general_advice(kind: str, provider: str, profile: str = "default") -> str:
    """Return what is to be done about a kind of error where nothing better is known."""
    general = (advice for known, advice in KIND_ADVICE.items() if known == kind)
    return completed(next(general, KIND_ADVICE["unknown"]), provider, profile)

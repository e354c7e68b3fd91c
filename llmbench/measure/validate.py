"""Is what the API called a success one? Pure rules over a run's figures; what they refuse is stored as a Failure."""

from __future__ import annotations

from typing import Literal

import msgspec

from llmbench.measure.metrics import Measurement
from llmbench.measure.timer import StreamTimer
from llmbench.messages import Profile

_BUDGET_WORDS = frozenset({"length", "max_tokens", "max_output_tokens", "MAX_TOKENS"})
_TERMINATOR_OPTIONAL = frozenset({"chat", "completions", "converse"})
"""Some servers leave ``[DONE]``, or Bedrock's ``metadata``, out; a finish reason and a proper HTTP end are enough."""


class Invalid(msgspec.Struct, frozen=True):
    """Why a run does not count: the cause of `errors`, and a sentence."""

    cause: Literal["truncated", "empty", "off_target"]
    message: str


Verdict = Literal["ok", "budget_exhausted"] | Invalid


def validate(timer: StreamTimer, measured: Measurement, profile: Profile, mode: str) -> Verdict:
    """Judge a stream that ended without an error of its own."""
    if not _ended_properly(timer, mode):
        return Invalid("truncated", "the stream ended without its terminator")
    if measured.visible_text_empty:
        if _budget_exhausted(timer, measured):
            return "budget_exhausted"
        return Invalid("empty", f"no visible text came (finish reason {timer.finish_reason!r})")
    if measured.tokens_per_second <= 0:
        return Invalid("empty", f"tokens_per_second {measured.tokens_per_second:g} is not positive")
    return _token_count(measured, profile)


def _ended_properly(timer: StreamTimer, mode: str) -> bool:
    return timer.terminated or (mode in _TERMINATOR_OPTIONAL and timer.finish_reason is not None)


def _budget_exhausted(timer: StreamTimer, measured: Measurement) -> bool:
    """A reasoning model spent its whole budget before any visible text."""
    reasoned = (measured.reasoning_tokens or 0) > 0 or timer.reasoned
    return reasoned and timer.finish_reason in _BUDGET_WORDS


def _token_count(measured: Measurement, profile: Profile) -> Verdict:
    if profile.validation_policy == "none" or measured.generated_output_tokens is None:
        return "ok"
    tolerance, wanted, got = profile.token_tolerance, profile.max_tokens, measured.output_tokens
    percent = f"{tolerance * 100:g}%"
    if profile.validation_policy == "reasoning":
        if got > wanted * (1 + tolerance):
            return Invalid("off_target", f"output_tokens {got} more than {percent} above the budget {wanted}")
    elif abs(got - wanted) > wanted * tolerance:
        return Invalid("off_target", f"output_tokens {got} not within {percent} of requested {wanted}")
    return "ok"

"""The rules that a run has to keep to be called a success."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmbench.measure.exchange import Timeline
from llmbench.measure.metrics import measure
from llmbench.measure.stamps import Read
from llmbench.measure.validate import Invalid, Verdict, validate
from llmbench.messages import Profile
from tests.measure.support import DONE, MS, counted, finished, read_at, said, thought, timed

TEXT = (read_at(100), said("x"))
THOUGHT = (read_at(100), thought("hm"))


def judged(*pieces: tuple[Read, bytes], mode: str = "chat", ended_ms: float = 540, **changes: Any) -> Verdict:
    """Return the verdict on a stream of these pieces under a profile of 100 tokens."""
    profile = msgspec.structs.replace(Profile(id="test", prompt="x", max_tokens=100), **changes)
    timer = timed(*pieces)
    timeline = Timeline(started_ns=0, request_written_ns=40 * MS, ended_ns=round(ended_ms * MS))
    return validate(timer, measure(timeline, timer, now_ns=1000 * MS, lag_ns=0), profile, mode)


def last(*data: bytes) -> tuple[Read, bytes]:
    return read_at(500), b"".join(data)


@pytest.mark.parametrize("tokens", [90, 100, 110])
def test_a_count_within_the_tolerance_is_ok(tokens: int) -> None:
    """10 % to either side, the edges included."""
    assert judged(TEXT, last(finished("length"), counted(tokens), DONE)) == "ok"


@pytest.mark.parametrize("tokens", [89, 111])
def test_a_count_outside_of_the_tolerance_is_off_target(tokens: int) -> None:
    """The message has both numbers."""
    verdict = judged(TEXT, last(finished("stop"), counted(tokens), DONE))
    assert verdict == Invalid("off_target", f"output_tokens {tokens} not within 10% of requested 100")


def test_the_tolerance_is_the_profiles() -> None:
    """A quarter allows 75 and not 74; the message says so."""
    assert judged(TEXT, last(counted(75), DONE), token_tolerance=0.25) == "ok"
    verdict = judged(TEXT, last(counted(74), DONE), token_tolerance=0.25)
    assert verdict == Invalid("off_target", "output_tokens 74 not within 25% of requested 100")


@pytest.mark.parametrize(("tokens", "fine"), [(1, True), (110, True), (111, False)])
def test_a_reasoning_profile_only_has_a_ceiling(tokens: int, fine: bool) -> None:
    """A model may stop early; more than the budget is still wrong."""
    verdict = judged(TEXT, last(counted(tokens), DONE), validation_policy="reasoning")
    expected = Invalid("off_target", f"output_tokens {tokens} more than 10% above the budget 100")
    assert verdict == ("ok" if fine else expected)


def test_without_a_policy_any_count_is_ok() -> None:
    """As for calibration, where the server decides."""
    assert judged(TEXT, last(counted(3), DONE), validation_policy="none") == "ok"


def test_chunks_are_not_judged_as_tokens() -> None:
    """Where the provider counts nothing, one chunk may hold all hundred."""
    assert judged(TEXT, last(DONE)) == "ok"


@pytest.mark.parametrize("mode", ["chat", "completions", "converse", "responses", "messages", "gemini"])
def test_without_terminator_and_finish_reason_a_stream_is_truncated(mode: str) -> None:
    """Whatever the API."""
    verdict = judged(TEXT, last(counted(100)), mode=mode)
    assert verdict == Invalid("truncated", "the stream ended without its terminator")


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        *[("chat", None), ("completions", None), ("converse", None)],
        *[("responses", "truncated"), ("messages", "truncated"), ("gemini", "truncated")],
    ],
)
def test_a_finish_reason_stands_in_for_the_terminator_where_servers_leave_it_out(mode: str, cause: str | None) -> None:
    """Imitators of OpenAI's older APIs do, and Bedrock may; of the others the terminal event is the only proof."""
    verdict = judged(TEXT, last(finished("length"), counted(100)), mode=mode)
    assert getattr(verdict, "cause", None) == cause


@pytest.mark.parametrize("reason", ["length", "max_tokens", "max_output_tokens", "MAX_TOKENS"])
def test_a_budget_spent_on_reasoning_is_an_outcome_of_its_own(reason: str) -> None:
    """In every API's word for it, whether the reasoning was shown or only counted."""
    assert judged(THOUGHT, last(finished(reason), counted(100), DONE)) == "budget_exhausted"
    assert judged(last(finished(reason), counted(100, 100), DONE)) == "budget_exhausted"


def test_a_budget_spent_inside_of_thinking_tags_is_an_outcome_of_its_own() -> None:
    """Servers that leave the reasoning in the text report no count of it."""
    inside = [(read_at(100), said("<th", "ink>Hm")), (read_at(200), said(" hm </thi"))]

    assert judged(*inside, last(finished("length"), counted(100), DONE)) == "budget_exhausted"


def test_reasoning_that_simply_stopped_is_empty() -> None:
    """The budget was not the reason."""
    verdict = judged(THOUGHT, last(finished("stop"), counted(100, 100), DONE))
    assert verdict == Invalid("empty", "no visible text came (finish reason 'stop')")


def test_a_spent_budget_without_reasoning_is_empty() -> None:
    """Nobody knows on what it was spent."""
    verdict = judged(last(finished("length"), counted(100, 0), DONE))
    assert verdict == Invalid("empty", "no visible text came (finish reason 'length')")


def test_no_token_at_all_is_empty() -> None:
    """A proper end alone is no answer."""
    assert judged(last(DONE)) == Invalid("empty", "no visible text came (finish reason None)")


def test_a_speed_of_zero_is_no_success() -> None:
    """Text that is said to be zero tokens can't be ranked."""
    verdict = judged(TEXT, last(counted(0), DONE), validation_policy="none")
    assert verdict == Invalid("empty", "tokens_per_second 0 is not positive")


def test_truncation_is_told_before_anything_else() -> None:
    """The count of a stream that was cut off means nothing."""
    verdict = judged(last(counted(3)), mode="messages")
    assert isinstance(verdict, Invalid)
    assert verdict.cause == "truncated"

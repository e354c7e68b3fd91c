"""Documents of earlier runners: understood as rows of an earlier database are, and known again if repeated."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.bridge.documents import Refused, Sender, read_error, read_run
from llmbench.error_text import fingerprint, normalize
from llmbench.messages import Failure, Sample
from llmbench.stores.mongo_documents import sample_of
from tests.bridge.sent import ANYONE, LINE, NOW, OBJECTS, PLAIN, body, earlier_error, earlier_run
from tests.stores.documents import NOON, moment


def run(sender: Sender = ANYONE, /, **changes: Any) -> Sample:
    """Send an earlier run; None takes a field away."""
    outcome = read_run(body(earlier_run(**changes)), sender, NOW).outcome
    assert isinstance(outcome, Sample)
    return outcome


def error(sender: Sender = ANYONE, /, **changes: Any) -> Failure:
    outcome = read_error(body(earlier_error(**changes)), sender, NOW).outcome
    assert isinstance(outcome, Failure)
    return outcome


# runs


def test_an_earlier_run_is_read_as_a_row_of_an_earlier_database() -> None:
    """What it says is taken over; of what it lacks the same is said as where it was stored directly."""
    read = run()

    row = sample_of({**earlier_run(), "_id": read.id, "run_ts": NOON, "runner_id": "earlier-runner"})
    assert read == row
    assert (read.run_ts, read.generate_time, read.ttft_available) == (NOON, 1.5, True)
    assert (read.clock, read.resolution, read.sample_role, read.metrics_schema_version) == (
        "user",
        "coarse",
        "scheduled",
        1,
    )


def test_an_earlier_run_is_public() -> None:
    """It goes where it always went."""
    assert read_run(body(earlier_run(metrics_schema_version=2)), ANYONE, NOW).publish


def test_whose_run_it_is() -> None:
    """It names its runner, or is of the key's, or of an earlier one without a name."""
    assert run().runner_id == "earlier-runner"
    assert run(Sender("eu-1")).runner_id == "eu-1"
    assert run(runner_id="mine").runner_id == "mine"
    assert run(Sender("eu-1"), runner_id="eu-1") == run(Sender("eu-1"))


def test_what_is_null_is_not_known() -> None:
    """Null says as much as nothing: the same outcome, with the same id."""
    nulls: dict[str, Any] = dict.fromkeys(("tokens_per_second", "misc", "gen_ts", "times_between_tokens"))
    nothing = earlier_run(**nulls)
    read = read_run(body(nothing), ANYONE, NOW)
    left_out = {name: value for name, value in nothing.items() if value is not None}

    assert read == read_run(body(left_out), ANYONE, NOW)
    assert isinstance(read.outcome, Sample)
    assert (read.outcome.tokens_per_second, read.outcome.misc, read.outcome.gen_ts) == (None, {}, NOON)


def test_known_optional_fields_are_kept() -> None:
    """Those of an outcome under their names, those that only earlier systems wrote in `misc`."""
    of_outcomes: dict[str, Any] = {
        "metrics_schema_version": 2,
        "generated_output_tokens": 64,
        "visible_output_tokens": 60,
        "reasoning_tokens": 4,
        "token_source": "usage",
        "request_mode": "responses",
        "ttft_available": True,
        "finish_reason": "length",
        "attempts_count": 2,
        "visible_stream_chunks": 63,
        "display_name": "Llama",
        "benchmark_profile_id": "p",
        "protocol_version": 4,
    }
    of_earlier_ones: dict[str, Any] = {
        "attempt_group": "g1",
        "attempt": 2,
        "transport_provider": "openrouter",
        "route_endpoint_tag": "fast",
        "quantization": "fp8",
        "observed_provider": "x",
        "stream_resolution": "chunk",
    }
    read = run(**of_outcomes, **of_earlier_ones)
    assert {name: getattr(read, name) for name in of_outcomes} == of_outcomes
    assert read.misc == {"region": "eu"} | of_earlier_ones


def test_what_no_field_is_for_is_kept_beside() -> None:
    """An unknown field is no reason to lose a run: it is in `misc`, made safe, under a name that was free."""
    read = run(hint="x\x1b[2J" + "y" * 5000, misc={"novel": 1}, novel=2, shape={"a": [1]})
    assert read.misc.keys() == {"novel", "novel_", "hint", "shape"}
    assert (read.misc["novel"], read.misc["novel_"], read.misc["shape"]) == (1, 2, {"a": [1]})
    assert len(read.misc["hint"]) == 2000
    assert read.misc["hint"].startswith(r"x\x1b[2J")


def test_a_role_of_its_own_is_kept_beside() -> None:
    """Such a run counts as scheduled, as it did."""
    read = run(sample_role="canary")
    assert (read.sample_role, read.misc["sample_role"]) == ("scheduled", "canary")


def test_texts_are_made_safe() -> None:
    """Earlier runners did not escape what providers said."""
    assert run(finish_reason="a\x1b[31m\n").finish_reason == r"a\x1b[31m\n"


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"run_ts": None}, "'run_ts' is missing"),
        ({"provider": None}, "'provider' is missing"),
        ({"model_name": None}, "'model_name' is missing"),
        ({"metrics_schema_version": 3}, "needs an '_id'"),
        ({"outcome": "failed"}, "/ingest/error"),
        ({"time_to_first_token": "0.5"}, "'time_to_first_token' is of the wrong type"),
    ],
)
def test_what_an_earlier_run_must_say(odd: dict[str, Any], reason: str) -> None:
    """Which model it was, and when; what it says has to be of its type."""
    with pytest.raises(Refused) as caught:
        run(**odd)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "spelling",
    [
        "2026-03-14 12:00:00",
        "2026-03-14T12:00:00",
        "2026-03-14T12:00:00Z",
        "2026-03-14t12:00:00z",
        "2026-03-14T12:00:00+00:00",
        "2026-03-14 14:00:00+02:00",
        "2026-03-14T12:00:00.000Z",
        "2026-03-14T07:00:00,000000-0500",
    ],
)
def test_a_date_in_any_spelling_is_one_moment(spelling: str) -> None:
    """And so one outcome; without an offset UTC is meant."""
    assert run(run_ts=spelling) == run()


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "2026-03-14",
        "20260314T120000Z",
        "2026-03-14 12:00",
        "2026-W11-6T12:00:00",
        "14.03.2026 12:00:00",
        "2026-13-14 12:00:00",
        "2026-03-14 25:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "２026-03-14 12:00:00",
        1773489600,
        True,
        {"$date": 0},
    ],
)
def test_what_is_no_date_is_refused(wrong: Any) -> None:
    """Nothing is guessed."""
    with pytest.raises(Refused):
        run(run_ts=wrong)


# ids


@settings(max_examples=60, deadline=None)
@given(extra=OBJECTS, seed=st.integers(0, 1000))
def test_a_repeat_is_the_same_outcome(extra: dict[str, Any], seed: int) -> None:
    """In whatever order the keys come."""
    document = earlier_run(misc=extra)
    shuffled = list(document.items())
    random.Random(seed).shuffle(shuffled)

    first = read_run(body(document), ANYONE, NOW).outcome
    assert read_run(body(dict(shuffled)), ANYONE, moment(600)).outcome == first
    assert len(first.id) == 24


def test_a_number_has_one_meaning() -> None:
    """64 and 64.0 are the same in JSON."""
    assert run(output_tokens=64.0, generate_time=2, misc={"n": 1}).id == run(generate_time=2.0, misc={"n": 1.0}).id
    assert run(output_tokens=64.0).output_tokens == 64


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(["model_name", "display_name", "novel"]), one=st.text(LINE), other=st.text(LINE))
def test_another_document_is_another_outcome(name: str, one: str, other: str) -> None:
    """Whatever the difference is, and wherever it is kept."""
    first, second = (f"m{text}" for text in (one, other))
    assert (run(**{name: first}).id == run(**{name: second}).id) == (first == second)


def test_ids_of_other_runners_and_of_errors_are_others() -> None:
    """Two runners may see the same in the same second; a run is no error."""
    assert run(Sender("a")).id != run(Sender("b")).id
    document = {"provider": "a", "model_name": "b", "run_ts": "2026-03-14 12:00:00"}
    ids = {reading(body(document), ANYONE, NOW).outcome.id for reading in (read_run, read_error)}
    assert len(ids) == 2


def test_what_is_refused_has_its_id_too() -> None:
    """So that its sender can tell which one it was."""
    with pytest.raises(Refused) as caught:
        run(generate_time=-1)
    assert caught.value.id is not None
    assert len(caught.value.id) == 24


# errors

WORDS = ["message", "exc_type", "error_kind", "advice"]


def test_an_earlier_error_is_classified() -> None:
    """What it does not say of its kind is found out from its wording and its exception, as for llmbench's own."""
    read = error()

    assert (read.error_kind, read.error_cause, read.stage) == ("rate_limit", "rate_limited", "generate")
    assert (read.ts, read.run_ts) == (moment(5 / 60), moment(5 / 60))
    assert "providers.groq.requests_per_minute" in read.advice
    assert read.normalized_message == normalize(read.message)
    assert read.fingerprint == fingerprint(
        "groq", "llama-3.3-70b-versatile", "generate", "rate_limit", read.normalized_message
    )
    assert read.exc_type == "RateLimitError"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"http_status": 401, "message": "no"}, "auth"),
        ({"message": "x", "exc_type": "openai.APITimeoutError"}, "timeout"),
        ({"message": "x", "exc_type": None, "stage": "timeout"}, "timeout"),
        ({"message": "x", "exc_type": None}, "unknown"),
        ({"message": None, "exc_type": None, "stage": None}, "unknown"),
        ({"message": "x", "error_kind": "billing"}, "billing"),
        ({"message": "x", "error_kind": "cosmic_ray"}, "cosmic_ray"),
    ],
)
def test_the_kind_of_an_earlier_error(said: dict[str, Any], kind: str) -> None:
    """What it says of itself holds, also in a word that this version does not know; there is advice in any case."""
    read = error(**said)
    assert read.error_kind == kind
    assert read.advice


def test_a_whole_document_of_errors_cloud_is_kept() -> None:
    """Its own fields as they are, its fingerprint only if it is one of what it says."""
    normal = "rate limit reached"
    named = ("groq", "llama-3.3-70b-versatile", "generate", "rate_limit", normal)
    said: dict[str, Any] = {
        "run_ts": "2026-03-14 12:00:00",
        "error_kind": "rate_limit",
        "http_status": 429,
        "provider_error_code": 1302,
        "normalized_message": normal,
        "fingerprint": fingerprint(*named),
        "traceback": "Traceback:\n  line\x1b",
        "partial": {"connect_time": 0.1},
        "retry_after": 7,
    }
    read = error(**said)
    assert (read.run_ts, read.ts, read.http_status, read.retry_after) == (NOON, moment(5 / 60), 429, 7.0)
    assert (read.normalized_message, read.fingerprint) == (normal, said["fingerprint"])
    assert read.provider_error_code == "1302"
    assert (read.traceback, read.partial) == ("Traceback:\n  line\\x1b", {"connect_time": 0.1})

    forged = error(**{**said, "fingerprint": "f" * 64})
    assert forged.fingerprint == fingerprint(*named[:4], normalize(forged.message))


def test_what_an_error_says_besides_is_kept() -> None:
    """In what is free-form of a failure, like a stage that is none of today's."""
    read = error(stage="boot", attempt=2, partial={"misc": {"attempt": 1}})
    assert (read.stage, read.partial) == ("generate", {"misc": {"attempt": 1, "attempt_": 2, "stage": "boot"}})


def test_x11_a_message_is_cut_and_made_safe() -> None:
    """Of any length, with controls escaped and what looks like a key taken out."""
    read = error(message="key sk-abcdef0123456789abcdef\r\n\x1b[2J" + "x" * 100_000, traceback="t\n" * 50_000)
    assert read.message.startswith(r"key ***\r\n\x1b[2Jxx")
    assert len(read.message) == 4000
    assert len(read.traceback or "") <= 20_000


@settings(max_examples=60, deadline=None)
@given(known=st.dictionaries(st.sampled_from(WORDS), st.text(LINE)), other=PLAIN)
def test_an_error_in_any_words_is_taken(known: dict[str, str], other: Any) -> None:
    """And follows from what was sent alone: the same again is the same outcome."""
    assert error(**known, other=other) == error(other=other, **known)


def test_an_error_says_when() -> None:
    """Without a date it could not be found again, nor a repeat of it be known."""
    with pytest.raises(Refused, match="'ts' is missing"):
        error(ts=None)

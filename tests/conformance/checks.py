"""What holds of every run, and of some."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from llmbench import __version__
from llmbench.measure.stamps import kernel_stamps_available
from llmbench.messages import Sample
from llmbench.simulator.problems import HOSTILE_TEXT
from llmbench.simulator.sigv4 import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from tests.conformance.scenario import Failed, Good, Ran
from tests.faults.support import assert_clean, chunks, verdict

FINISH = {
    "chat": "length", "responses": "max_output_tokens", "completions": "length", "messages": "max_tokens",
    "converse": "max_tokens", "gemini": "MAX_TOKENS",
}  # fmt: skip
SOURCE = {
    "chat": "usage", "responses": "response.usage", "completions": "usage", "messages": "message_delta.usage",
}  # fmt: skip
CLOUD_SECRETS = (ACCESS_KEY_ID, SECRET_ACCESS_KEY, "ya29.")
"""The keys of AWS, and how every access token of Google's begins."""

UNADVISED = ("transient_provider", "timeout", "auth", "billing")
"""Where the configuration need not be what has to be changed."""

TIMES = ("time_to_first_token", "times_between_tokens", "tokens_per_second", "time_to_first_reasoning_token")


# every run


def one_outcome(ran: Ran) -> None:
    """One attempt is one request, and one clean document with the job's id."""
    assert len(ran.requests) == 1, "nothing is tried again behind our back"
    assert (ran.outcome.id, ran.outcome.model_name) == (ran.outcome_id, ran.model_id)
    assert ran.outcome.provider == ran.family.provider
    assert_clean(ran.outcome)
    document = msgspec.json.encode(ran.outcome).decode()
    assert [secret for secret in CLOUD_SECRETS if secret in document] == []


def good(ran: Ran, wanted: Good) -> None:
    """The row counts, and its figures are those that were sent."""
    row = ran.row
    assert (row.outcome, row.visible_stream_chunks, row.request_mode) == (
        wanted.outcome,
        wanted.chunks,
        ran.family.mode,
    )
    assert row.clock == ("kernel" if kernel_stamps_available() else "user")
    assert (row.time_to_first_token is not None) == row.ttft_available == (wanted.chunks > 0)
    assert len(row.times_between_tokens) == max(wanted.chunks - 1, 0)
    if wanted.tokens is not None:
        assert row.output_tokens == wanted.tokens
    if wanted.reasoning is not None:
        assert row.reasoning_tokens == wanted.reasoning
        assert row.output_tokens is not None
        assert row.visible_output_tokens == row.output_tokens - wanted.reasoning
    if wanted.shown is not None:
        assert (row.time_to_first_reasoning_token is not None) == wanted.shown
    assert wanted.warns is None or wanted.warns in (row.warnings or [])


def failed(ran: Ran, wanted: Failed) -> None:
    """The failure is called what it is, and keeps what had come until then."""
    failure = ran.failure
    assert verdict(failure) == (wanted.kind, wanted.cause, wanted.stage), failure.message
    assert failure.http_status == wanted.status
    assert wanted.chunks in (chunks(failure), None)
    assert ("time_to_first_token" in failure.partial) == (chunks(failure) > 0)
    assert wanted.says in failure.message
    delay = None if wanted.retry_after is None else pytest.approx(wanted.retry_after, abs=1.6)
    assert failure.retry_after == delay
    places = (f"providers.{ran.family.provider}", "[profiles.test]", "llmbench models set")
    assert any(place in failure.advice for place in places) or wanted.kind in UNADVISED


# good rows


def complete(ran: Ran) -> None:
    """Counts, chunks, source, finish reason and served model are there."""
    row = ran.row
    assert (row.response_status, row.warnings or []) in (("completed", []), ("completed", ["ttft_upper_bound"]))
    assert (row.generated_output_tokens, row.visible_output_tokens, row.max_tokens_per_chunk) == (64, 64, 1)
    assert row.finish_reason == FINISH[ran.family.mode]
    assert row.token_source == SOURCE.get(ran.family.mode, row.token_source) != "stream_chunks"
    assert row.served_model in (ran.model_id, None if ran.family.mode == "converse" else ran.model_id)
    assert ran.request.model == ran.model_id


def conditions(ran: Ran) -> None:
    """Who, what, when, how: nothing has to be guessed from the configuration of the day."""
    row = ran.row
    assert row.run_ts <= row.gen_ts <= datetime.now(UTC)
    assert row.endpoint.startswith(f"http://{ran.request.headers['host']}/{ran.family.provider}")
    assert (row.benchmark_profile_id, row.protocol_version, row.validation_policy) == ("test", 7, "tokens")
    assert (row.requested_tokens, row.max_output_tokens_attempted, row.temperature) == (64, 64, None)
    assert (row.sample_role, row.attempts_count, row.runner_id) == ("scheduled", 1, "tests")
    assert (row.llmbench_version, row.connection_reused) == (__version__, False)
    assert re.fullmatch("[0-9a-f]{24}", row.id)


def consistent(ran: Ran) -> None:
    """First byte, first token, last token and end follow each other; the speeds are tokens by those times."""
    row = ran.row
    assert row.connect_time is not None
    assert row.time_to_first_byte is not None
    assert row.time_to_first_token is not None
    decoding = sum(row.times_between_tokens)
    assert 0 < row.time_to_first_byte <= row.time_to_first_token
    assert row.time_to_first_token + decoding <= row.generate_time + 1e-6
    assert row.tokens_per_second == pytest.approx(64 / row.generate_time)
    assert row.decode_tokens_per_second == pytest.approx(63 / decoding)
    assert row.time_to_64_visible_tokens_seconds == pytest.approx(row.time_to_first_token + decoding)
    assert row.inter_token_max == max(row.times_between_tokens)
    assert row.connect_time > 0
    assert row.tls_time is None


def ids_of_the_server(ran: Ran) -> None:
    """The request's and the response's ids are those that this request was given."""
    row, number = ran.row, ran.request.sequence
    told = [text for text in (row.request_id, row.response_id) if text is not None]
    assert told
    assert all(text.endswith((f"{number:020d}"[-12:], f"{number:x}")) for text in told)


def chunks_are_no_tokens(ran: Ran) -> None:
    """Both are told, and the speed is that of tokens."""
    row = ran.row
    assert row.max_tokens_per_chunk is not None
    assert 8 <= row.max_tokens_per_chunk <= 13
    assert row.time_to_64_visible_tokens_seconds is None
    assert row.decode_tokens_per_second is not None
    assert row.decode_tokens_per_second * sum(row.times_between_tokens) == pytest.approx(56, abs=4)


def reasoned_first(ran: Ran) -> None:
    """Reasoning has a time of its own, before the first token's."""
    assert (ran.row.time_to_first_reasoning_token or 0) < (ran.row.time_to_first_token or 0)


def no_first_token(ran: Ran) -> None:
    """A row without visible text has no time to first token: null, never 0."""
    row = ran.row
    assert (row.time_to_first_token, row.visible_text_empty) == (None, True)
    assert row.visible_output_tokens == (None if row.reasoning_tokens is None else 0)


def first_token_at_400_ms(ran: Ran) -> None:
    """Comments, pings, role-only and empty deltas at 100, 200 and 300 ms are none."""
    row, request = ran.row, ran.request
    assert (row.time_to_first_token or 0) >= 0.399
    assert (row.time_to_first_byte or 1) < (request.writes_ns[0] - request.arrival_ns) / 1e9


def coalesced(ran: Ran) -> None:
    """Segments with sixteen events each are flagged; on a busy machine two of the four may be read as one."""
    assert 1 <= ran.row.coalesced_reads <= 4


def texts_intact(ran: Ran) -> None:
    """U+2028, U+2029 and U+0085 end no line of an event: each text is whole."""
    assert ran.texts == [
        " caf\u00e9", " l\u2028s", " p\u2029s", " n\u0085l", " \u6f22\u5b57", " \U0001f680", " \ufeffb", ' "q"\\',
    ]  # fmt: skip


def counted_by_chunks(ran: Ran) -> None:
    """Chunks stand in for tokens where nobody counted, and the row says so."""
    if isinstance(ran.outcome, Sample):
        assert (ran.row.token_source, ran.row.generated_output_tokens) == ("stream_chunks", None)


def asked_for_identity(ran: Ran) -> None:
    """No compression was asked for, so no bomb can be hidden in it."""
    assert ran.request.headers["accept-encoding"] == "identity"


# failures


def advises_the_rate(ran: Ran) -> None:
    """The advice names the key to lower."""
    assert "requests_per_minute" in ran.failure.advice or ran.failure.error_kind != "rate_limit"


def advises_the_address(ran: Ran) -> None:
    """The advice names the key to correct."""
    assert "base_url" in ran.failure.advice


def no_speed(ran: Ran) -> None:
    """Nothing was streamed, so no speed was measured: phases alone are kept."""
    phases = {"connect_time", "time_to_first_byte", "generate_time", "client_lag_max", "connection_reused"}
    assert ran.failure.partial.keys() == phases


def told_by_its_id(ran: Ran) -> None:
    """The provider's id of the request is kept, for whoever asks them; Google's own gateway gives none."""
    given = ran.family.provider != "vertex" or ran.family.mode == "messages"
    assert (ran.failure.request_id is not None) == given


def redacted(ran: Ran) -> None:
    """The key that came back is starred out; that it is nowhere in the document is checked of every run."""
    assert "***" in ran.failure.message


def spelt_out(ran: Ran) -> None:
    """Escape sequences, line ends, NUL and overrides of direction become visible; markup stays what it is, text."""
    message = ran.failure.message
    assert r"\x1b[31mred\x1b]0;title\x07\r\nsecond line\x00 \u202eright to left" in message
    assert "[bold]x[/y] [@click=app.quit]quit[/]" in message
    assert HOSTILE_TEXT not in message


def idle_for_its_limit(ran: Ran) -> None:
    """It was given its whole time, and not much more."""
    assert 0.7 <= ran.failure.partial["generate_time"] < 3
    assert ran.failure.partial.keys().isdisjoint(TIMES)


def cut_off_in_time(ran: Ran) -> None:
    """The total limit of 1.2 s counts from the start, so that less is left for the answer; it is not much exceeded."""
    assert ran.failure.partial["generate_time"] < 4
    assert timedelta(seconds=1.1) < ran.failure.ts - ran.failure.run_ts < timedelta(seconds=5)


def keeps_gaps(ran: Ran) -> None:
    """The figures of the ten tokens that came are in the failure."""
    partial = ran.failure.partial
    assert partial["ttft_available"] is True
    assert partial["time_to_first_token"] > 0
    assert len(partial["times_between_tokens"]) == 9


def keeps_all(ran: Ran) -> None:
    """A stream that is cut off keeps every chunk that had reached this machine."""
    assert chunks(ran.failure) == len(ran.request.writes_ns) > 0


def only_reasoning(ran: Ran) -> None:
    """When the thinking began is kept; no first token is made up."""
    assert ran.failure.partial["time_to_first_reasoning_token"] > 0


def quoted_in_part(ran: Ran) -> None:
    """The excerpt is short."""
    assert 20 < len(ran.failure.message) < 300


def keeps_the_count(ran: Ran) -> None:
    """What the provider said is kept beside what came."""
    said = int(ran.failure.message.split()[1])
    assert ran.failure.partial["output_tokens"] == said

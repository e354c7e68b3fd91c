"""Every figure of a run against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.measure.exchange import Timeline
from llmbench.measure.metrics import Measurement, measure
from llmbench.measure.stamps import Read
from llmbench.measure.timer import StreamTimer
from tests.measure.support import DONE, MS, counted, event, finished, read_at, said, thought, timed

Piece = tuple[Read, bytes]

TIMELINE = Timeline(
    started_ns=0,
    resolved_ns=2 * MS,
    connected_ns=10 * MS,
    tls_ns=35 * MS,
    request_written_ns=40 * MS,
    first_byte_ns=90 * MS,
    ended_ns=540 * MS,
)


def figures(timer: StreamTimer, *, lag_ns: int = 0, **changes: Any) -> Measurement:
    """Return the figures of a run of this timeline, or one that differs in ``changes``."""
    timeline = msgspec.structs.replace(TIMELINE, **changes)
    return measure(timeline, timer, now_ns=1040 * MS, lag_ns=lag_ns)


def stream(*pieces: Piece) -> Measurement:
    return figures(timed(*pieces))


def chunks(*times_ms: float, text: str = "x") -> list[Piece]:
    """Return one visible chunk for each of the times."""
    return [(read_at(ms), said(text)) for ms in times_ms]


def end(output: int | None = None, reasoning: int | None = None) -> Piece:
    usage = b"" if output is None else counted(output, reasoning)
    return read_at(540), finished("length") + usage + DONE


# times


def test_the_phases_are_told_apart() -> None:
    """Name and TCP 10 ms, TLS 25 ms more, first byte 50 ms behind the request, all of it 500 ms."""
    found = stream(*chunks(100), end(1))
    assert found.connect_time == 0.010
    assert found.tls_time == 0.025
    assert found.time_to_first_byte == 0.050
    assert found.time_to_first_token == 0.060
    assert found.generate_time == 0.500
    assert found.connection_reused is False


def test_plain_http_has_no_tls_time() -> None:
    """It is not known, which is not zero."""
    assert figures(timed(*chunks(100), end(1)), tls_ns=None).tls_time is None


def test_gaps() -> None:
    """Chunks at 100, 120, 130 and 190 ms: gaps 20, 10 and 60 ms; p50 20, p95 56, p99 59.2 ms, the worst 60."""
    found = stream(*chunks(100, 120, 130, 190), end(4))
    assert found.times_between_tokens == [0.020, 0.010, 0.060]
    assert found.inter_token_p50 == pytest.approx(0.020)
    assert found.inter_token_p95 == pytest.approx(0.056)
    assert found.inter_token_p99 == pytest.approx(0.0592)
    assert found.inter_token_max == 0.060


def test_one_chunk_has_no_gaps() -> None:
    """An empty list, and no figures about it."""
    found = stream(*chunks(100), end(1))
    assert found.times_between_tokens == []
    assert (found.inter_token_p50, found.inter_token_p99, found.inter_token_max) == (None, None, None)


def test_without_visible_text_the_first_token_is_null() -> None:
    """Never zero."""
    found = stream((read_at(100), thought("hm")), end(64, 64))
    assert found.time_to_first_token is None
    assert (found.ttft_available, found.visible_text_empty, found.visible_stream_chunks) == (False, True, 0)
    assert found.time_to_first_reasoning_token == 0.060


def test_reasoning_has_a_first_token_of_its_own() -> None:
    """Reasoning at 100 ms, text at 400 ms: 60 and 360 ms."""
    found = stream((read_at(100), thought("hm")), *chunks(400), end(8, 7))
    assert (found.time_to_first_reasoning_token, found.time_to_first_token) == (0.060, 0.360)


def test_a_run_that_was_cut_off_lasts_until_now() -> None:
    """Without an end the time of the question stands in for it: 1040 - 40 ms."""
    assert figures(timed(*chunks(100)), ended_ns=None).generate_time == 1.0


def test_the_64th_visible_token() -> None:
    """Chunks 5 ms apart from 100 ms on, each one token: the 64th comes at 415 ms, 375 ms behind the request."""
    times = [100 + 5 * n for n in range(70)]
    assert stream(*chunks(*times), end(70)).time_to_64_visible_tokens_seconds == pytest.approx(0.375)
    assert stream(*chunks(*times[:63]), end(63)).time_to_64_visible_tokens_seconds is None
    assert stream(*chunks(*times), end(140)).time_to_64_visible_tokens_seconds is None


# tokens and speeds


def test_speeds() -> None:
    """50 tokens in 500 ms, 10 of them reasoning: 100 a second, 80 of them visible."""
    found = stream(*chunks(100, 200), end(50, 10))
    assert (found.output_tokens, found.generated_output_tokens) == (50, 50)
    assert (found.reasoning_tokens, found.visible_output_tokens) == (10, 40)
    assert found.tokens_per_second == pytest.approx(100.0)
    assert found.generated_tokens_per_second == pytest.approx(100.0)
    assert found.visible_tokens_per_second == pytest.approx(80.0)
    assert found.token_source == "usage"


def test_decode_speed_where_each_chunk_is_a_token() -> None:
    """Four tokens behind the first one in 90 ms."""
    assert stream(*chunks(100, 120, 130, 150, 190), end(5)).decode_tokens_per_second == pytest.approx(4 / 0.090)


def test_decode_speed_where_chunks_hold_several_tokens() -> None:
    """40 tokens; the first chunk has a quarter of the characters, so 30 came in the 100 ms behind it."""
    pieces = [(read_at(100), said("aaaaa")), (read_at(150), said("bbbbb")), (read_at(200), said("cccccccccc"))]
    found = stream(*pieces, end(40))
    assert found.decode_tokens_per_second == pytest.approx(30 / 0.100)
    assert found.max_tokens_per_chunk == 20


def test_the_largest_chunk_is_rounded_up() -> None:
    """10 tokens, 7 of 9 characters in one chunk: 7.8 tokens, so 8."""
    assert stream((read_at(100), said("a" * 7)), (read_at(110), said("bb")), end(10)).max_tokens_per_chunk == 8


def test_a_buffered_stream_has_no_decode_speed() -> None:
    """All chunks in one read: their distance is not known, and a division by it would be nonsense."""
    found = stream((read_at(100), said("a", "b", "c")), end(3))
    assert found.decode_tokens_per_second is None
    assert found.times_between_tokens == [0.0, 0.0]
    assert found.warnings == ["ttft_upper_bound"]


def test_one_chunk_has_no_decode_speed() -> None:
    """There is nothing behind it."""
    assert stream(*chunks(100), end(30)).decode_tokens_per_second is None


def test_without_usage_chunks_stand_in_for_tokens() -> None:
    """The source says so, and nothing is claimed to be generated, visible or decoded."""
    found = stream(*chunks(100, 120, 140), end())
    assert (found.output_tokens, found.token_source) == (3, "stream_chunks")
    assert found.tokens_per_second == pytest.approx(6.0)
    assert (found.generated_output_tokens, found.visible_output_tokens) == (None, None)
    assert (found.generated_tokens_per_second, found.decode_tokens_per_second) == (None, None)
    assert found.warnings == ["usage_missing"]


def test_reasoning_that_was_streamed_but_not_counted_leaves_the_visible_part_unknown() -> None:
    """Guessing it would overstate the visible speed."""
    found = stream((read_at(100), thought("hm")), *chunks(200, 220), end(30))
    assert (found.output_tokens, found.reasoning_tokens, found.visible_output_tokens) == (30, None, None)


def test_reasoning_that_exceeds_the_output_was_not_counted_in() -> None:
    """Some servers leave it out of the output; then all of the output is visible."""
    found = stream((read_at(100), thought("hm")), *chunks(200, 220), end(30, 100))
    assert (found.reasoning_tokens, found.visible_output_tokens) == (100, 30)


def test_no_time_no_speed() -> None:
    """A run that ended as it was written has no infinite speed."""
    found = figures(timed(end(5)), ended_ns=40 * MS)
    assert (found.generate_time, found.tokens_per_second, found.generated_tokens_per_second) == (0.0, 0.0, None)


def test_other_counts_are_passed_on() -> None:
    """Input, total and cached tokens as the provider gave them."""
    usage = counted(5, prompt_tokens=11, total_tokens=16, prompt_tokens_details={"cached_tokens": 3})
    found = stream(*chunks(100), (read_at(540), usage + DONE))
    assert (found.input_tokens, found.total_tokens, found.cached_input_tokens) == (11, 16, 3)


# how good it is


@pytest.mark.parametrize(("doubtful", "resolution"), [(0, "fine"), (1, "fine"), (2, "coarse")])
def test_more_than_a_hundredth_in_doubt_is_coarse(doubtful: int, resolution: str) -> None:
    """Of a hundred chunks, one may be doubtful."""
    pieces = [(read_at(100 + n, doubt=5, kernel=n >= doubtful), said("x")) for n in range(100)]
    assert stream(*pieces, end(100)).resolution == resolution


def test_the_clock_of_a_run() -> None:
    """Kernel if all reads were stamped by it; a run without a body has no claim to that."""
    assert stream(*chunks(100), end(1)).clock == "kernel"
    assert stream(*chunks(100), (read_at(110, kernel=False), DONE)).clock == "user"
    assert figures(timed()).clock == "user"


@pytest.mark.parametrize(("lag", "wait", "expected"), [(30, 5, 0.030), (3, 50, 0.050)])
def test_the_lag_is_the_worse_of_two(lag: float, wait: float, expected: float) -> None:
    """What the loop's watch saw, or the longest wait of a read."""
    timer = timed((read_at(100, wait=wait), said("x")), end(1))
    assert figures(timer, lag_ns=round(lag * MS)).client_lag_max == expected


def test_what_should_be_known_of_a_row_is_in_its_warnings() -> None:
    """An upper bound, missing counts, a missing terminator, unknown events."""
    timer = timed((read_at(100), said("a", "b") + event({"object": "novelty"})))
    assert figures(timer).warnings == ["ttft_upper_bound", "usage_missing", "terminator_missing", "unknown_events"]
    assert stream(*chunks(100), end(1)).warnings is None


def test_what_the_response_says_of_itself_is_kept() -> None:
    """Ids, the model that served, the finish reason, the provider's own times."""
    about = {
        "id": "r1",
        "model": "m-2026",
        "system_fingerprint": "fp",
        "service_tier": "flex",
        "choices": [],
        "time_info": {"queue_time": 0.25},
    }
    found = stream((read_at(95), event(about)), *chunks(100), end(1))
    assert (found.response_id, found.served_model, found.system_fingerprint) == ("r1", "m-2026", "fp")
    assert found.finish_reason == "length"
    assert found.misc == {"provider_timings": {"queue_time": 0.25}, "service_tier": "flex"}


# properties


@settings(deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=40))
def test_figures_agree_with_each_other(gaps_ms: list[int]) -> None:
    """First token and gaps add up to the last one, within the run; quantiles are in order; no speed is negative."""
    times = [100.0]
    for gap in gaps_ms:
        times.append(times[-1] + gap)
    found = figures(timed(*chunks(*times), end(len(times))), ended_ns=round(times[-1] + 1) * MS)
    assert found.time_to_first_token is not None
    assert found.time_to_first_token + sum(found.times_between_tokens) <= found.generate_time
    quantiles = [found.inter_token_p50, found.inter_token_p95, found.inter_token_p99, found.inter_token_max]
    known = [value for value in quantiles if value is not None]
    assert known == sorted(known)
    assert found.inter_token_max == max(found.times_between_tokens)
    assert (found.decode_tokens_per_second is None) == (sum(gaps_ms) == 0)

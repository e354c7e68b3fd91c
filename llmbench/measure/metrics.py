"""From stamps to numbers: every figure of a run, with its formula. Pure; docs/measurement.md is its other half.

Stamps are integer nanoseconds of one monotonic clock; results are seconds. None means "not known".
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec

from llmbench.measure.exchange import Timeline
from llmbench.measure.timer import StreamTimer
from llmbench.messages import Clock, Resolution
from llmbench.quantiles import quantile

_DOUBTFUL_SHARE = 0.01
"""With more doubtful chunks than this, a run's gaps are left out of rankings."""

_HISTORICAL_MARK = 64


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of one run, complete or not; field names are those of the stored document."""

    generate_time: float
    output_tokens: int
    tokens_per_second: float
    token_source: str
    times_between_tokens: list[float]
    time_to_first_token: float | None
    ttft_available: bool
    visible_text_empty: bool
    visible_stream_chunks: int
    clock: Clock
    resolution: Resolution
    coalesced_reads: int
    client_lag_max: float
    connection_reused: bool
    connect_time: float | None = None
    tls_time: float | None = None
    time_to_first_byte: float | None = None
    time_to_first_reasoning_token: float | None = None
    time_to_64_visible_tokens_seconds: float | None = None
    generated_output_tokens: int | None = None
    visible_output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None
    input_tokens: int | None = None
    total_tokens: int | None = None
    generated_tokens_per_second: float | None = None
    visible_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    inter_token_p50: float | None = None
    inter_token_p95: float | None = None
    inter_token_p99: float | None = None
    inter_token_max: float | None = None
    max_tokens_per_chunk: int | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    served_model: str | None = None
    system_fingerprint: str | None = None
    warnings: list[str] | None = None
    misc: dict[str, Any] = {}


def seconds_between(start_ns: int | None, end_ns: int | None) -> float | None:
    """Return the difference in seconds, or None if either end is not known."""
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / 1e9


def measure(timeline: Timeline, timer: StreamTimer, *, now_ns: int, lag_ns: int) -> Measurement:
    """Return every figure of a run. ``now_ns`` stands in for the end of a run that was cut off."""
    written = timeline.request_written_ns if timeline.request_written_ns is not None else now_ns
    generate_time = max(0.0, ((timeline.ended_ns or now_ns) - written) / 1e9)
    first_visible = timer.visible_ns[0] if timer.visible_ns else None
    return Measurement(
        generate_time=generate_time,
        time_to_first_token=seconds_between(written, first_visible),
        ttft_available=first_visible is not None,
        visible_text_empty=first_visible is None,
        visible_stream_chunks=len(timer.visible_ns),
        clock="kernel" if timer.kernel and timer.reads else "user",
        resolution=_resolution(timer),
        coalesced_reads=timer.coalesced_reads,
        client_lag_max=max(lag_ns, timer.longest_wait_ns) / 1e9,
        connection_reused=False,
        connect_time=seconds_between(timeline.started_ns, timeline.connected_ns),
        tls_time=seconds_between(timeline.connected_ns, timeline.tls_ns),
        time_to_first_byte=seconds_between(written, timeline.first_byte_ns),
        time_to_first_reasoning_token=seconds_between(written, timer.first_reasoning_ns),
        finish_reason=timer.finish_reason,
        response_id=timer.identity.response_id,
        served_model=timer.identity.served_model,
        system_fingerprint=timer.identity.system_fingerprint,
        warnings=_warnings(timer) or None,
        misc=_misc(timer),
        **_token_figures(timer, generate_time, written),
        **_gap_figures(timer),
    )


def _resolution(timer: StreamTimer) -> Resolution:
    return "coarse" if timer.doubtful_chunks > _DOUBTFUL_SHARE * len(timer.visible_ns) else "fine"


def _warnings(timer: StreamTimer) -> list[str]:
    found = {
        "ttft_upper_bound": timer.first_read_coalesced,
        "usage_missing": timer.usage is None or timer.usage.output_tokens is None,
        "terminator_missing": bool(timer.visible_ns) and not timer.terminated,
        "unknown_events": timer.unknown_events > 0,
    }
    return [name for name, holds in found.items() if holds]


def _misc(timer: StreamTimer) -> dict[str, Any]:
    misc: dict[str, Any] = {}
    if timer.provider_timings:
        misc["provider_timings"] = dict(timer.provider_timings)
    if timer.unknown_events:
        misc["unknown_events"] = timer.unknown_events
    if timer.identity.service_tier is not None:
        misc["service_tier"] = timer.identity.service_tier
    return misc


def _token_figures(timer: StreamTimer, generate_time: float, written_ns: int) -> dict[str, Any]:
    """Return the token counts and the speeds that follow from them.

    Without a reported count, visible chunks stand in for tokens, and ``token_source`` says so.
    """
    usage = timer.usage
    reported = usage.output_tokens if usage is not None else None
    output = reported if reported is not None else len(timer.visible_ns)
    reasoning = usage.reasoning_tokens if usage is not None else None
    visible = _visible_tokens(timer, reported, reasoning)
    return {
        "output_tokens": output,
        "token_source": usage.source if usage is not None and reported is not None else "stream_chunks",
        "tokens_per_second": _per_second(output, generate_time) or 0.0,
        "generated_output_tokens": reported,
        "visible_output_tokens": visible,
        "reasoning_tokens": reasoning,
        "cached_input_tokens": usage.cached_input_tokens if usage is not None else None,
        "input_tokens": usage.input_tokens if usage is not None else None,
        "total_tokens": usage.total_tokens if usage is not None else None,
        "generated_tokens_per_second": _per_second(reported, generate_time),
        "visible_tokens_per_second": _per_second(visible, generate_time),
        "decode_tokens_per_second": _decode_speed(timer, visible),
        "max_tokens_per_chunk": _largest_chunk(timer, visible),
        "time_to_64_visible_tokens_seconds": _time_to_mark(timer, visible, written_ns),
    }


def _visible_tokens(timer: StreamTimer, output: int | None, reasoning: int | None) -> int | None:
    """Reported output less reported reasoning; unknown where the model reasoned and nothing counted it."""
    if output is None or (reasoning is None and timer.reasoned):
        return None
    return output - (reasoning or 0) if (reasoning or 0) <= output else output


def _per_second(count: int | None, seconds: float) -> float | None:
    return count / seconds if count is not None and seconds > 0 else None


def _decode_speed(timer: StreamTimer, visible: int | None) -> float | None:
    """(visible tokens - those of the first chunk) / (last visible chunk - first); None for a buffered stream.

    A chunk is not a token: the first chunk's tokens are its share of the characters, at least one.
    """
    if visible is None or len(timer.visible_ns) < 2:
        return None
    seconds = (timer.visible_ns[-1] - timer.visible_ns[0]) / 1e9
    later = visible - max(1, round(visible * timer.visible_chars[0] / sum(timer.visible_chars)))
    if visible == len(timer.visible_ns):
        later = visible - 1
    return later / seconds if seconds > 0 and later > 0 else None


def _largest_chunk(timer: StreamTimer, visible: int | None) -> int | None:
    """The most tokens that one chunk carried, judged by its share of the characters, rounded up."""
    if not visible or not timer.visible_chars:
        return None
    if visible == len(timer.visible_ns):
        return 1
    return -(-visible * max(timer.visible_chars) // sum(timer.visible_chars))


def _time_to_mark(timer: StreamTimer, visible: int | None, written_ns: int) -> float | None:
    """Time to the 64th visible token, where each chunk was one token; otherwise nobody knows which chunk held it."""
    if visible != len(timer.visible_ns) or visible < _HISTORICAL_MARK:
        return None
    return (timer.visible_ns[_HISTORICAL_MARK - 1] - written_ns) / 1e9


def _gap_figures(timer: StreamTimer) -> dict[str, Any]:
    gaps = [(after - before) / 1e9 for before, after in pairwise(timer.visible_ns)]
    if not gaps:
        return {"times_between_tokens": []}
    ordered = sorted(gaps)
    return {
        "times_between_tokens": gaps,
        "inter_token_p50": quantile(ordered, 0.50),
        "inter_token_p95": quantile(ordered, 0.95),
        "inter_token_p99": quantile(ordered, 0.99),
        "inter_token_max": ordered[-1],
    }

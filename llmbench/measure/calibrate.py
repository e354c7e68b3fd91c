"""How wrong the measuring path is: what it measured of some streams, against what their server knows of them. Pure.

The server stamps each token right before it writes it, and the arrival of each request, on the clock that all
processes of one machine share. So an error is the whole of the way: both kernels, the loopback interface, this
program. The sign says nothing to a reader of the figures; errors are absolute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from llmbench.messages import Clock, Sample
from llmbench.quantiles import quantile


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What the server knows of one stream, as `perf_counter_ns`: when the request came and each token was written."""

    arrival_ns: int
    writes_ns: Sequence[int]

    def time_to_first_token(self) -> float:
        """Return the seconds from the request's arrival to the first token's write."""
        return (self.writes_ns[0] - self.arrival_ns) / 1e9

    def times_between_tokens(self) -> list[float]:
        """Return the seconds between successive writes."""
        return [(after - before) / 1e9 for before, after in pairwise(self.writes_ns)]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How ``count`` absolute errors are distributed, in microseconds."""

    count: int
    p50_us: float
    p99_us: float
    max_us: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The error of one clock over some streams that ran at the same time.

    ``coarse_streams`` are those whose rows would have been marked coarse; ``client_lag_max_us`` is the event loop's
    worst absence during any of them, in microseconds.
    """

    clock: Clock
    streams: int
    ttft_error: Spread
    gap_error: Spread
    coarse_streams: int
    coalesced_reads: int
    client_lag_max_us: float


def mismatch(sample: Sample, truth: Truth, clock: Clock) -> str | None:
    """Return why a stream can't be compared, in a clause that follows its name; None if it can."""
    chunks, writes = sample.visible_stream_chunks or 0, len(truth.writes_ns)
    if sample.clock != clock:
        return f"was stamped by the {sample.clock} clock, though the {clock} clock was asked for"
    if chunks != writes or chunks < 2:
        return f"brought {chunks} chunks, of which the server wrote {writes}: two or more of the same number are needed"
    return None


def calibration(clock: Clock, pairs: Sequence[tuple[Sample, Truth]]) -> Calibration:
    """Return the errors of streams that have no `mismatch`; there has to be one at least."""
    return Calibration(
        clock=clock,
        streams=len(pairs),
        ttft_error=_spread(_ttft_errors(pairs)),
        gap_error=_spread(_gap_errors(pairs)),
        coarse_streams=sum(sample.resolution == "coarse" for sample, _truth in pairs),
        coalesced_reads=sum(sample.coalesced_reads for sample, _truth in pairs),
        client_lag_max_us=_microseconds(max(sample.client_lag_max for sample, _truth in pairs)),
    )


def _ttft_errors(pairs: Iterable[tuple[Sample, Truth]]) -> list[float]:
    return [
        abs(sample.time_to_first_token - truth.time_to_first_token())
        for sample, truth in pairs
        if sample.time_to_first_token is not None
    ]


def _gap_errors(pairs: Iterable[tuple[Sample, Truth]]) -> list[float]:
    return [
        abs(measured - true)
        for sample, truth in pairs
        for measured, true in zip(sample.times_between_tokens, truth.times_between_tokens(), strict=True)
    ]


def _spread(errors: Iterable[float]) -> Spread:
    ordered = sorted(map(_microseconds, errors))
    return Spread(count=len(ordered), p50_us=quantile(ordered, 0.5), p99_us=quantile(ordered, 0.99), max_us=ordered[-1])


def _microseconds(seconds: float) -> float:
    """Return microseconds to the nanosecond, which is as far as the stamps go."""
    return round(seconds * 1e6, 3)

"""Which model is faster, and is that certain? Medians with intervals, and a verdict only where they part.

The interval of a median is that of two order statistics, which assumes nothing about the distribution: with n values,
the k-th smallest and k-th largest enclose the true median with the probability 1 - 2 * P(Binomial(n, 1/2) < k); see
H. A. David and H. N. Nagaraja, Order Statistics, section 7.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import comb

import msgspec

from llmbench.messages import Failure, Outcome, Sample
from llmbench.quantiles import quantile

CONFIDENCE = 0.95
FEWEST_FOR_INTERVAL = 6
"""With fewer values not even the smallest and largest enclose the median with 95 % confidence."""


class Median(msgspec.Struct, frozen=True):
    """A median with its 95 % interval; ``low`` and ``high`` are the extremes if ``certain`` is False (too few runs)."""

    value: float
    low: float
    high: float
    n: int
    certain: bool


class ModelResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the runs of one model came to; seconds and tokens per second."""

    provider: str
    model: str
    runs: int
    failed: int
    time_to_first_token: Median | None
    tokens_per_second: Median | None
    coarse: int
    failures: dict[str, int]
    budget_exhausted: int = 0
    counted_by_chunks: int = 0
    """Runs whose tokens the provider did not count, so that chunks stand in for them."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``winner`` is None where no model is certainly the best of all."""

    metric: str
    winner: str | None
    sentence: str


def median_with_interval(values: Sequence[float]) -> Median | None:
    """Return the median of the values and its interval, None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    rank = _interval_rank(len(ordered))
    low, high = (ordered[rank - 1], ordered[-rank]) if rank else (ordered[0], ordered[-1])
    return Median(quantile(ordered, 0.5), low, high, len(ordered), certain=rank > 0)


def _interval_rank(n: int) -> int:
    """Return the largest k for which the k-th smallest and k-th largest still give the confidence; 0 if none does."""
    rank, below = 0, 0.0
    while True:
        below += comb(n, rank) / 2**n
        if 1 - 2 * below < CONFIDENCE:
            return rank
        rank += 1


def summarize(outcomes: Iterable[Outcome], asked: Iterable[tuple[str, str]] = ()) -> list[ModelResult]:
    """Return one result a model: those ``asked`` for (provider, model) in their order, run or not, then any others."""
    groups: dict[tuple[str, str], list[Outcome]] = {name: [] for name in asked}
    for outcome in outcomes:
        groups.setdefault((outcome.provider, outcome.model_name), []).append(outcome)
    return [_result(provider, model, group) for (provider, model), group in groups.items()]


def _result(provider: str, model: str, outcomes: Sequence[Outcome]) -> ModelResult:
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    kinds = [outcome.error_kind for outcome in outcomes if isinstance(outcome, Failure)]
    first = [sample.time_to_first_token for sample in samples if sample.time_to_first_token is not None]
    speeds = [sample.tokens_per_second for sample in samples if sample.tokens_per_second is not None]
    return ModelResult(
        provider=provider,
        model=model,
        runs=len(outcomes),
        failed=len(kinds),
        time_to_first_token=median_with_interval(first),
        tokens_per_second=median_with_interval(speeds),
        coarse=sum(sample.resolution == "coarse" for sample in samples),
        failures={kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        budget_exhausted=sum(sample.outcome == "budget_exhausted" for sample in samples),
        counted_by_chunks=sum(sample.generated_output_tokens is None for sample in samples),
    )


def verdicts(results: Sequence[ModelResult]) -> list[Verdict]:
    """Compare the models that have figures; nothing is said of fewer than two."""
    return [
        verdict
        for verdict in (
            _verdict("time to first token", results, lambda result: result.time_to_first_token, smaller_wins=True),
            _verdict("tokens per second", results, lambda result: result.tokens_per_second, smaller_wins=False),
        )
        if verdict is not None
    ]


def _verdict(
    metric: str, results: Sequence[ModelResult], figure: Callable[[ModelResult], Median | None], *, smaller_wins: bool
) -> Verdict | None:
    rated = [(median, f"{result.provider}/{result.model}") for result in results if (median := figure(result))]
    if len(rated) < 2:
        return None
    rated.sort(key=lambda item: item[0].value, reverse=not smaller_wins)
    (best, name), rest = rated[0], rated[1:]
    if not all(median.certain for median, _name in rated):
        sentence = f"{metric}: {FEWEST_FOR_INTERVAL} runs of each model are needed for a verdict (--runs)"
        return Verdict(metric=metric, winner=None, sentence=sentence)
    rivals = [rival for median, rival in rest if not _apart(best, median, smaller_wins=smaller_wins)]
    if rivals:
        return Verdict(
            metric=metric, winner=None, sentence=f"{metric}: no clear difference between {name} and {', '.join(rivals)}"
        )
    return Verdict(
        metric=metric, winner=name, sentence=f"{metric}: {name} is best; its interval is apart from all others"
    )


def _apart(best: Median, other: Median, *, smaller_wins: bool) -> bool:
    return best.high < other.low if smaller_wins else best.low > other.high

"""Comparing models: medians, intervals as in published tables, and verdicts that promise no more than is known."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.messages import Outcome
from llmbench.reports.compare import Median, ModelResult, Verdict, median_with_interval, summarize, verdicts
from tests.stores.documents import failure, sample

values = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200)


def ranked(n: int) -> list[float]:
    """Return 1, 2, … n in some order: the interval's ends then are ranks."""
    numbers = [float(number) for number in range(1, n + 1)]
    random.Random(n).shuffle(numbers)
    return numbers


class TestInterval:
    @pytest.mark.parametrize(
        ("n", "low", "high"),
        [
            *((6, 1, 6), (7, 1, 7), (8, 1, 8), (9, 2, 8), (10, 2, 9), (11, 2, 10), (12, 3, 10), (15, 4, 12)),
            *((17, 5, 13), (20, 6, 15), (25, 8, 18), (30, 10, 21), (50, 18, 33), (100, 40, 61)),
        ],
    )
    def test_its_ends_are_the_order_statistics_of_the_published_tables(self, n: int, low: int, high: int) -> None:
        """Ranks of the 95 % interval of a median by the sign test, as statistical tables give them."""
        found = median_with_interval(ranked(n))

        assert found is not None
        assert (found.low, found.high, found.n, found.certain) == (low, high, n, True)

    def test_ten_values_by_hand(self) -> None:
        """P(B(10, 1/2) < 2) = 11/1024, so ranks 2 and 9 hold the median with 97.9 %; ranks 3 and 8 with only 89.1 %."""
        times = [0.42, 0.31, 0.39, 0.35, 0.51, 0.33, 0.36, 0.40, 0.30, 0.44]

        assert median_with_interval(times) == Median(0.375, 0.31, 0.44, 10, certain=True)

    @pytest.mark.parametrize("n", range(1, 6))
    def test_with_fewer_than_six_nothing_is_certain(self, n: int) -> None:
        """Even the extremes of five hold the median with 93.75 % only; they are shown, and said to be no interval."""
        found = median_with_interval(ranked(n))

        assert found is not None
        assert (found.low, found.high, found.certain) == (1.0, float(n), False)

    def test_no_values_have_no_median(self) -> None:
        """Not known is not zero."""
        assert median_with_interval([]) is None

    @given(values)
    def test_it_encloses_the_median_of_the_values(self, numbers: list[float]) -> None:
        """The median is the usual one, inside its interval, whose ends are values that were measured."""
        found = median_with_interval(numbers)

        assert found is not None
        assert found.value == pytest.approx(median(numbers))
        assert found.low <= found.value * (1 + 1e-9)
        assert found.value <= found.high * (1 + 1e-9)
        assert {found.low, found.high} <= set(numbers)

    def test_it_holds_the_true_median_as_often_as_it_says(self) -> None:
        """Of 2000 draws of 20 from a skewed distribution whose median is known, at least 95 % enclose it."""
        draw = random.Random(20260314)
        true = 0.6931471805599453  # ln 2, the median of the exponential distribution
        held = 0
        for _ in range(2000):
            found = median_with_interval([draw.expovariate(1.0) for _ in range(20)])
            assert found is not None
            held += found.low <= true <= found.high

        assert 0.945 <= held / 2000 <= 0.975  # exactly 0.9586, give or take what 2000 draws leave open

    def test_many_values_are_no_trouble(self) -> None:
        """Binomial coefficients far beyond a float's range are still exact."""
        found = median_with_interval(ranked(3000))

        assert found is not None
        assert (found.low, found.high) == (1446, 1555)  # 1500 less 1.96 * sqrt(3000) / 2, and its mirror image


def outcomes(
    model: str, firsts: Sequence[float | None], speeds: Sequence[float] | None = None, provider: str = "openai"
) -> list[Outcome]:
    """Return samples with these times to first token, and these speeds, or 50 tokens per second each."""
    rates = speeds if speeds is not None else [50.0] * len(firsts)
    return [
        sample(provider=provider, model_name=model, time_to_first_token=first, tokens_per_second=rate)
        for first, rate in zip(firsts, rates, strict=True)
    ]


class TestSummary:
    def test_each_model_is_summed_up_apart(self) -> None:
        """In the order of their first outcome; the same id at another provider is another model."""
        mixed = outcomes("a", [0.2]) + outcomes("b", [0.3], provider="groq") + outcomes("a", [0.4]) + outcomes("b", [1])

        assert [(result.provider, result.model, result.runs) for result in summarize(mixed)] == [
            ("openai", "a", 2),
            ("groq", "b", 1),
            ("openai", "b", 1),
        ]

    def test_a_model_that_was_asked_for_has_a_row_in_any_case(self) -> None:
        """In the order in which they were asked for, run or not; what nobody asked for comes after."""
        mixed = outcomes("c", [0.1]) + outcomes("a", [0.2])
        results = summarize(mixed, asked=[("openai", "a"), ("openai", "b")])

        assert [(result.model, result.runs) for result in results] == [("a", 1), ("b", 0), ("c", 1)]
        assert results[1].time_to_first_token is None

    def test_failures_count_as_runs_but_not_in_figures(self) -> None:
        """Success rate and latency share a denominator that is told; kinds are counted, first seen first."""
        kinds = ["timeout", "rate_limit", "timeout"]
        failed = [failure(provider="openai", model_name="a", error_kind=kind) for kind in kinds]
        (result,) = summarize([failed[0], *outcomes("a", [0.25, 0.5]), *failed[1:]])

        assert (result.runs, result.failed, result.failures) == (5, 3, {"timeout": 2, "rate_limit": 1})
        assert result.time_to_first_token == Median(0.375, 0.25, 0.5, 2, certain=False)

    def test_a_run_without_visible_text_has_no_time_to_first_token(self) -> None:
        """It is left out of that figure, not counted as zero, and still counts for the speed."""
        (result,) = summarize(outcomes("a", [None, 0.4, None], [10.0, 20.0, 30.0]))

        assert result.time_to_first_token == Median(0.4, 0.4, 0.4, 1, certain=False)
        assert result.tokens_per_second == Median(20.0, 10.0, 30.0, 3, certain=False)

    def test_a_model_that_only_failed_has_no_figures(self) -> None:
        """There is a row for it all the same."""
        (result,) = summarize([failure(), failure()])

        assert (result.time_to_first_token, result.tokens_per_second, result.runs) == (None, None, 2)

    def test_what_a_good_run_lacks_is_counted(self) -> None:
        """Runs whose budget went into reasoning, and runs whose tokens nobody counted but by their chunks."""
        hidden = sample(outcome="budget_exhausted", time_to_first_token=None)
        (result,) = summarize([hidden, sample(), sample(generated_output_tokens=None), sample()])

        assert (result.budget_exhausted, result.counted_by_chunks, result.failed) == (1, 1, 0)

    def test_coarse_runs_are_counted(self) -> None:
        """A reader sees how many of the runs were stamped too coarsely for their gaps to mean anything."""
        (result,) = summarize([sample(resolution="coarse"), sample(), sample(resolution="coarse")])

        assert result.coarse == 2


LOW = [0.20, 0.21, 0.22, 0.23, 0.24, 0.25]
MIDDLE = [0.25, 0.26, 0.27, 0.28, 0.29, 0.30]
HIGH = [0.40, 0.41, 0.42, 0.43, 0.44, 0.45]


def judged(*models: list[Outcome]) -> list[Verdict]:
    return verdicts(summarize([outcome for model in models for outcome in model]))


class TestVerdict:
    def test_the_smaller_time_wins_if_the_intervals_are_apart(self) -> None:
        """Six runs each whose ranges do not touch are a certain answer."""
        first, _speed = judged(outcomes("slow", HIGH), outcomes("fast", LOW))

        assert first.winner == "openai/fast"
        assert first.sentence == "time to first token: openai/fast is best; its interval is apart from all others"

    def test_the_greater_speed_wins(self) -> None:
        """More tokens per second are better, whatever the time to first token says."""
        speeds = [70.0, 71.0, 72.0, 73.0, 74.0, 75.0]
        first, speed = judged(outcomes("quick start", LOW), outcomes("quick flow", HIGH, speeds))

        assert (first.winner, speed.winner) == ("openai/quick start", "openai/quick flow")

    def test_intervals_that_touch_decide_nothing(self) -> None:
        """The better median is no winner while the truth may be the other way round; the rivals are named."""
        first, _speed = judged(outcomes("a", LOW), outcomes("b", MIDDLE), outcomes("c", HIGH))

        assert first.winner is None
        assert first.sentence == "time to first token: no clear difference between openai/a and openai/b"

    def test_equal_models_are_equal(self) -> None:
        """The same figures twice have no winner."""
        assert [verdict.winner for verdict in judged(outcomes("a", LOW), outcomes("b", LOW))] == [None, None]

    def test_too_few_runs_decide_nothing(self) -> None:
        """However far apart five runs are, a verdict needs six of each model, and says so."""
        first, _speed = judged(outcomes("a", LOW[:5]), outcomes("b", HIGH))

        assert first.winner is None
        assert first.sentence == "time to first token: 6 runs of each model are needed for a verdict (--runs)"

    def test_of_one_model_nothing_is_said(self) -> None:
        """There is nothing to compare it with; a model without figures is no rival."""
        assert judged(outcomes("a", LOW)) == []
        assert judged(outcomes("a", LOW), [failure(), failure()]) == []

    @given(values, values)
    def test_a_winner_is_better_in_every_case(self, left: list[float], right: list[float]) -> None:
        """Whatever was measured, a winner's whole interval is better, and who is listed first does not matter."""
        models = outcomes("a", left), outcomes("b", right)
        first, _speed = judged(*models)
        results = {f"openai/{result.model}": result for result in summarize(models[0] + models[1])}

        assert judged(*reversed(models))[0].winner == first.winner
        if first.winner is not None:
            (loser,) = set(results) - {first.winner}
            assert interval(results[first.winner])[1] < interval(results[loser])[0]


def interval(result: ModelResult) -> tuple[float, float]:
    assert result.time_to_first_token is not None
    return result.time_to_first_token.low, result.time_to_first_token.high

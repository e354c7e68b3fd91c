"""The part of the store contract about what many outcomes come to: errors counted, runs tallied and summed up.

What is expected is worked out from the outcomes themselves, in the plainest way.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.messages import Failure, Outcome, Sample
from llmbench.stores.base import ErrorQuery, ModelSummary, ModelTally, OutcomeQuery, Store
from tests.stores.contract_outcomes import fresh, shares_the_store
from tests.stores.documents import envelope, envelopes, failure, moment, sample

By = Literal["provider", "model", "kind", "fingerprint"]
KEYS: dict[By, tuple[str, ...]] = {
    "provider": ("provider",),
    "model": ("provider", "model_name"),
    "kind": ("error_kind",),
    "fingerprint": ("fingerprint",),
}

_PROVIDERS, _MODELS, _KINDS = ("openai", "groq", "together"), ("llama-3", "o3"), ("timeout", "auth", "local")


def _failures(count: int) -> list[Failure]:
    """Return failures a minute apart, the names and kinds of which don't go in step."""
    chance = random.Random(7)
    return [
        failure(
            run_ts=moment(n),
            provider=chance.choice(_PROVIDERS),
            model_name=chance.choice(_MODELS),
            error_kind=chance.choice(_KINDS),
            normalized_message=chance.choice(["connection reset", "slow down"]),
            message=f"the message of run {n}",
            advice=f"the advice of run {n}",
            sample_role=chance.choice(["scheduled", "bench", "demo"]),
        )
        for n in range(count)
    ]


class ErrorsContract:
    """Failures are counted by what they have in common."""

    @pytest.mark.parametrize("by", KEYS)
    async def test_every_grouping(self, store: Store, by: By) -> None:
        """Each group has its count and its newest failure, whole; the largest group is first."""
        stored = _failures(60)
        await store.put(envelopes(*stored[30:], sample(run_ts=moment(31)), *stored[:30]))

        for since, provider in itertools.product([None, moment(20), moment(100)], [None, "groq", "GROQ", "absent"]):
            found = await store.error_groups(ErrorQuery(by=by, since=since, provider=provider))
            asked = [one for one in stored if since is None or one.run_ts >= since]
            asked = [one for one in asked if provider is None or one.provider == provider.lower()]
            assert [(group.count, group.newest) for group in found] == _grouped(asked, by)

    @pytest.mark.parametrize(("by", "count"), [("provider", 3), ("model", 2), ("kind", 3), ("fingerprint", 1)])
    async def test_spellings_are_counted_together(self, store: Store, by: By, count: int) -> None:
        """Provider and model are the same in any spelling, a fingerprint is not."""
        spelled = [("Groq", "O3"), ("groq", "o3"), ("GROQ", "llama")]
        failures = [failure(run_ts=moment(n), provider=p, model_name=m) for n, (p, m) in enumerate(spelled)]
        await store.put(envelopes(*failures))

        found = await store.error_groups(ErrorQuery(by=by))

        assert max(group.count for group in found) == count
        assert sum(group.count for group in found) == 3

    async def test_at_the_same_moment(self, store: Store) -> None:
        """Of failures that began at the same moment the one with the higher id is the newest."""
        failures = [failure(run_ts=moment(1)) for _ in range(3)]
        await store.put(envelopes(*reversed(failures)))

        [group] = await store.error_groups(ErrorQuery(since=moment(1)))

        assert (group.count, group.newest) == (3, max(failures, key=lambda one: one.id))

    async def test_nothing_failed(self, store: Store) -> None:
        """Without failures there are no groups."""
        await store.put(envelopes(sample()))

        assert await store.error_groups(ErrorQuery()) == []


def _grouped(failures: Sequence[Failure], by: By) -> list[tuple[int, Failure]]:
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for one in failures:
        groups.setdefault(tuple(getattr(one, name) for name in KEYS[by]), []).append(one)
    found = [(len(group), max(group, key=lambda one: one.run_ts)) for group in groups.values()]
    return sorted(found, key=lambda one: (one[0], one[1].run_ts), reverse=True)


runs = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.booleans(),
        st.none() | st.floats(0.5, 500.0),
        st.none() | st.floats(0.001, 60.0),
        st.sampled_from(["scheduled", "bench", "demo"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=15,
)
"""Minute, whether it succeeded, tokens per second, time to first token, role, whether it is published."""

Run = tuple[int, bool, float | None, float | None, str, bool]


class FiguresContract:
    """What the runs of each model came to."""

    async def test_an_empty_store(self, store: Store) -> None:
        """It has neither tallies nor summaries."""
        assert await store.tallies() == []
        assert await store.summary() == []

    async def test_percentiles_lie_between_values(self, store: Store) -> None:
        """They are interpolated linearly, and a figure that a run lacks does not count as one."""
        times = [0.1, 0.4, None, 0.2, 0.3]
        await store.put(envelopes(*(sample(time_to_first_token=one, tokens_per_second=10.0) for one in times)))

        [found] = await store.summary()

        assert found.time_to_first_token_p50 == pytest.approx(0.25)
        assert found.time_to_first_token_p95 == pytest.approx(0.385)
        assert (found.tokens_per_second_p50, found.n, found.success_rate) == (10.0, 5, 1.0)

    async def test_what_is_not_known_is_not_zero(self, store: Store) -> None:
        """A run of which speed and tokens are not known is read back so, and is in no median; zero is a figure."""
        unknown = sample(run_ts=moment(1), tokens_per_second=None, output_tokens=None)
        await store.put(envelopes(unknown))
        [alone] = await store.summary()
        await store.put(envelopes(sample(tokens_per_second=0.0, output_tokens=0)))
        [summary] = await store.summary()

        assert (await store.outcomes(OutcomeQuery()))[0] == unknown
        assert (await store.page("samples", size=5)).items[0].outcome == unknown
        assert (alone.n, alone.tokens_per_second_p50) == (1, None)
        assert (summary.n, summary.tokens_per_second_p50) == (2, 0.0)
        assert [one.status for one in await store.put(envelopes(unknown))] == ["duplicate"]

    async def test_only_failures(self, store: Store) -> None:
        """A model that only failed has no figures; one that failed before the window only is not in the answer."""
        await store.put(envelopes(failure(run_ts=moment(1)), failure(run_ts=moment(0), model_name="gone")))

        [summary] = await store.summary(since=moment(1))
        [tally] = await store.tallies(since=moment(1))

        assert (summary.n, summary.success_rate, summary.tokens_per_second_p50) == (1, 0.0, None)
        assert summary.time_to_first_token_p50 is summary.time_to_first_token_p95 is None
        assert (tally.failures, tally.last_failure, tally.last_success) == (1, moment(1), None)

    async def test_a_success_before_the_window_is_told(self, store: Store) -> None:
        """It is not counted, and no summary is made of it."""
        await store.put(envelopes(sample(run_ts=moment(0)), sample(run_ts=moment(1))))

        [tally] = await store.tallies(since=moment(2))

        assert (tally.successes, tally.failures, tally.last_success) == (0, 0, moment(1))
        assert await store.summary(since=moment(2)) == []

    async def test_spellings_are_summed_up_as_one_model(self, store: Store) -> None:
        """They are told under the newest spelling."""
        spelled = [("Groq", "O3"), ("groq", "o3"), ("GROQ", "o3")]
        made: list[Callable[..., Outcome]] = [sample, failure, sample]
        outcomes = [
            make(run_ts=moment(n), provider=p, model_name=m)
            for n, ((p, m), make) in enumerate(zip(spelled, made, strict=True))
        ]
        await store.put(envelopes(*outcomes))

        [tally], [summary] = await store.tallies(), await store.summary(provider="gROQ", model="O3")

        assert (tally.provider, tally.model_name, tally.successes, tally.failures) == ("GROQ", "o3", 2, 1)
        assert (summary.provider, summary.model_name, summary.n) == ("GROQ", "o3", 3)

    async def test_one_provider_or_model(self, store: Store) -> None:
        """Only those that are asked for are summed up, in the order of provider and model."""
        names = [("openai", "o3"), ("groq", "o3"), ("groq", "llama")]
        await store.put(envelopes(*(sample(provider=p, model_name=m) for p, m in names), failure(provider="openai")))

        async def found(provider: str | None, model: str | None) -> list[tuple[str, str]]:
            summaries = await store.summary(provider=provider, model=model)
            return [(one.provider, one.model_name) for one in summaries]

        assert await found("groq", None) == [("groq", "llama"), ("groq", "o3")]
        assert await found(None, "O3") == [("groq", "o3"), ("openai", "o3")]
        assert await found("openai", "o3") == [("openai", "o3")]
        assert await found("openai", "llama") == []

    async def test_a_window_that_ended(self, store: Store) -> None:
        """A run at its end is not in it, nor is what came later; an end in the future is none."""
        first = [sample(run_ts=moment(n), time_to_first_token=0.1) for n in range(3)]
        later = [sample(run_ts=moment(n), time_to_first_token=9.0) for n in range(3, 6)]
        failures = [failure(run_ts=moment(n), provider="openai", model_name="gpt-4o-mini") for n in (2, 3)]
        new = sample(run_ts=moment(3), model_name="new")
        await store.put(envelopes(*first, *later, *failures, new))

        [before] = await store.summary(since=moment(1), until=moment(3))
        [whole, other] = await store.summary(until=datetime.now(UTC) + timedelta(days=900))

        assert (before.successes, before.failures, before.time_to_first_token_p50) == (2, 1, 0.1)
        assert (whole.successes, whole.failures, other.n) == (6, 2, 1)
        assert await store.summary(since=moment(3), until=moment(3)) == []
        assert await store.summary(since=moment(9), until=moment(3)) == []

    @shares_the_store
    @given(past=runs, start=st.none() | st.integers(0, 30), end=st.none() | st.integers(0, 31))
    async def test_any_runs(self, store: Store, past: list[Run], start: int | None, end: int | None) -> None:
        """Whatever ran and however it went, tally and summary are what the runs in the window give."""
        model_name, since = fresh("model"), None if start is None else moment(start)
        outcomes = [_outcome(model_name, run) for run in past]
        published = [run[-1] for run in past]
        await store.put([envelope(one, publish=p) for one, p in zip(outcomes, published, strict=True)])

        tallies = [one for one in await store.tallies(since=since) if one.model_name == model_name]
        assert tallies == _tally(outcomes, since)
        until = None if end is None else moment(end)
        summaries = await store.summary(since=since, until=until, provider="openai", model=model_name)
        assert summaries == _summary([one for one in outcomes if until is None or one.run_ts < until], since)


def _outcome(model_name: str, run: Run) -> Outcome:
    minute, succeeded, speed, first, role, _publish = run
    if not succeeded:
        return failure(run_ts=moment(minute), provider="openai", model_name=model_name, sample_role=role)
    return sample(
        run_ts=moment(minute),
        provider="openai",
        model_name=model_name,
        tokens_per_second=speed,
        time_to_first_token=first,
        sample_role=role,
    )


def _split(outcomes: Sequence[Outcome], since: datetime | None) -> tuple[list[Sample], list[Failure]]:
    asked = [one for one in outcomes if since is None or one.run_ts >= since]
    return [one for one in asked if isinstance(one, Sample)], [one for one in asked if isinstance(one, Failure)]


def _tally(outcomes: Sequence[Outcome], since: datetime | None) -> list[ModelTally]:
    samples, failures = _split(outcomes, since)
    ever, _ = _split(outcomes, None)
    if not failures and not ever:
        return []
    return [
        ModelTally(
            provider="openai",
            model_name=outcomes[0].model_name,
            successes=len(samples),
            failures=len(failures),
            last_success=max((one.run_ts for one in ever), default=None),
            last_failure=max((one.run_ts for one in failures), default=None),
        )
    ]


def _summary(outcomes: Sequence[Outcome], since: datetime | None) -> list[ModelSummary]:
    samples, failures = _split(outcomes, since)
    n = len(samples) + len(failures)
    if not n:
        return []
    first = [one.time_to_first_token for one in samples if one.time_to_first_token is not None]
    speeds = [one.tokens_per_second for one in samples if one.tokens_per_second is not None]
    return [
        ModelSummary(
            provider="openai",
            model_name=outcomes[0].model_name,
            n=n,
            successes=len(samples),
            failures=len(failures),
            success_rate=len(samples) / n,
            time_to_first_token_p50=_percentile(first, 50),
            time_to_first_token_p95=_percentile(first, 95),
            tokens_per_second_p50=_percentile(speeds, 50),
        )
    ]


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """By Python's own statistics, whose inclusive method is the one that llmbench means."""
    if len(values) < 2:
        return values[0] if values else None
    found: Any = pytest.approx(statistics.quantiles(values, n=100, method="inclusive")[percent - 1])
    return cast("float", found)

"""The part of the store contract about how figures go over time."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest

from llmbench.messages import Outcome, Sample
from llmbench.stores.base import Store
from llmbench.stores.trends import Trend, TrendPoint, TrendQuery
from tests.stores.documents import envelope, envelopes, failure, moment, sample

WIDTH = timedelta(minutes=7)
SINCE = moment(10)


def _outcomes(count: int) -> list[Outcome]:
    """Return runs a minute apart, half of them failures, some of them without a figure."""
    chance = random.Random(3)
    made: list[Outcome] = []
    for n in range(count):
        names = {"provider": chance.choice(["openai", "groq"]), "model_name": chance.choice(["llama-3", "o3"])}
        if chance.random() < 0.5:
            made.append(failure(run_ts=moment(n), **names))
            continue
        first, speed = (None if chance.random() < 0.2 else chance.uniform(0, 9) for _ in range(2))
        made.append(sample(run_ts=moment(n), time_to_first_token=first, tokens_per_second=speed, **names))
    return made


class TrendsContract:
    """The runs of a window come in equal parts of it."""

    async def test_of_every_provider(self, store: Store) -> None:
        """Each has the parts in which it had runs; a part begins where the one before it ends."""
        stored = _outcomes(120)
        await store.put([envelope(one, publish=n % 3 > 0) for n, one in enumerate(stored)])

        found = await store.trends(TrendQuery(since=SINCE, width=WIDTH))

        assert found == [_trend(stored, name, None) for name in ("groq", "openai")]

    async def test_of_one_provider(self, store: Store) -> None:
        """There is a trend for each of its models, or for the one that is asked for."""
        stored = _outcomes(120)
        await store.put(envelopes(*stored))

        expected = [_trend(stored, "groq", model) for model in ("llama-3", "o3")]
        assert await store.trends(TrendQuery(since=SINCE, width=WIDTH, provider="GROQ")) == expected
        assert await store.trends(TrendQuery(since=SINCE, width=WIDTH, provider="groq", model="O3")) == expected[1:]
        assert await store.trends(TrendQuery(since=SINCE, width=WIDTH, provider="absent")) == []

    async def test_an_hour_without_runs(self, store: Store) -> None:
        """A part without runs is not in the answer; nothing stands in its place."""
        await store.put(envelopes(sample(run_ts=moment(10)), sample(run_ts=moment(31))))

        [trend] = await store.trends(TrendQuery(since=SINCE, width=WIDTH))

        assert [point.at for point in trend.points] == [moment(10), moment(31)]

    async def test_spellings(self, store: Store) -> None:
        """They are one provider, and one model."""
        await store.put(
            envelopes(
                sample(run_ts=moment(10), provider="Groq", model_name="O3"),
                failure(run_ts=moment(11), provider="groq", model_name="o3"),
            )
        )

        [by_provider] = await store.trends(TrendQuery(since=SINCE, width=WIDTH))
        [by_model] = await store.trends(TrendQuery(since=SINCE, width=WIDTH, provider="groq"))

        assert [(point.successes, point.failures) for point in by_provider.points] == [(1, 1)]
        assert by_provider.points == by_model.points


def _trend(stored: Sequence[Outcome], provider: str, model: str | None) -> Trend:
    parts: dict[int, list[Outcome]] = {}
    for one in stored:
        if one.run_ts >= SINCE and one.provider == provider and model in (None, one.model_name):
            parts.setdefault((one.run_ts - SINCE) // WIDTH, []).append(one)
    points = tuple(_point(number, parts[number]) for number in sorted(parts))
    return Trend(provider=provider, model_name=model, points=points)


def _point(number: int, runs: Sequence[Outcome]) -> TrendPoint:
    samples = [one for one in runs if isinstance(one, Sample)]
    first = [one.time_to_first_token for one in samples if one.time_to_first_token is not None]
    speeds = [one.tokens_per_second for one in samples if one.tokens_per_second is not None]
    return TrendPoint(
        at=SINCE + number * WIDTH,
        successes=len(samples),
        failures=len(runs) - len(samples),
        time_to_first_token_p50=_median(first),
        tokens_per_second_p50=_median(speeds),
        first_tokens=len(first),
        speeds=len(speeds),
    )


def _median(values: Sequence[float]) -> float | None:
    """By Python's own statistics, which adds before it halves: the last digit may differ."""
    return cast("float", pytest.approx(statistics.median(values))) if values else None

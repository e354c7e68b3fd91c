"""The part of the store contract about which outcomes count: the same ones for every question."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmbench.messages import Failure, Outcome, Sample
from llmbench.stores.base import ErrorQuery, OutcomeQuery, Store
from llmbench.stores.counted import UNDATED
from llmbench.stores.trends import TrendQuery
from tests.stores.documents import envelopes, failure, moment, sample

NAMED: dict[str, Any] = {"provider": "openai", "model_name": "o3"}
MAKERS: list[Callable[..., Outcome]] = [sample, failure]


def _ahead(**how_far: float) -> datetime:
    """Return a time so far ahead, in whole milliseconds."""
    when = datetime.now(UTC) + timedelta(**how_far)
    return when.replace(microsecond=when.microsecond // 1000 * 1000)


async def _counts(store: Store, since: datetime | None) -> list[tuple[int, int]]:
    """Return how many successes and failures each question tells of."""
    outcomes = await store.outcomes(OutcomeQuery(since=since))
    of_one = await store.outcomes(OutcomeQuery(since=since, provider="openai"))
    groups = await store.error_groups(ErrorQuery(since=since))
    by_model = await store.error_groups(ErrorQuery(by="model", since=since, provider="openai"))
    tallies, summaries = await store.tallies(since=since), await store.summary(since=since)
    trends = await store.trends(TrendQuery(since=since or UNDATED, width=timedelta(days=36500)))
    points = [point for trend in trends for point in trend.points]
    failures = sum(one.count for one in groups)
    assert failures == sum(one.count for one in by_model)
    return [
        *(
            (sum(isinstance(one, Sample) for one in told), sum(isinstance(one, Failure) for one in told))
            for told in (outcomes, of_one)
        ),
        (sum(one.successes for one in tallies), sum(one.failures for one in tallies)),
        (sum(one.successes for one in summaries), failures),
        (sum(one.successes for one in points), sum(one.failures for one in points)),
    ]


class CountedContract:
    """An outcome counts that names its model and has a date that is not in the future."""

    @pytest.mark.parametrize("since", [None, moment(-99), datetime(1969, 1, 1, tzinfo=UTC)])
    @pytest.mark.parametrize(
        "odd",
        [
            {"provider": ""},
            {"model_name": ""},
            {"provider": "", "model_name": ""},
            {"run_ts": UNDATED},
            {"run_ts": _ahead(days=30)},
            {"run_ts": _ahead(hours=6)},
        ],
    )
    async def test_what_does_not_count(self, store: Store, odd: dict[str, Any], since: datetime | None) -> None:
        """It is in no answer, however far the window reaches, and only comes by where everything is copied."""
        await store.put(envelopes(*(make(**NAMED) for make in MAKERS), *(make(**{**NAMED, **odd}) for make in MAKERS)))

        assert await _counts(store, since) == [(1, 1)] * 5
        assert await store.outcomes(OutcomeQuery(model="")) == []
        assert await store.counts() == {"samples": 2, "probes": 0, "failures": 2}
        [past] = await store.history()
        assert (past.model_id, past.last_success, past.failures_in_a_row) == ("o3", moment(), 0)

    async def test_limits_are_of_what_counts(self, store: Store) -> None:
        """What does not count takes no place of one that does."""
        counted = sample(**NAMED)
        await store.put(envelopes(counted, sample(run_ts=moment(1), provider=""), sample(run_ts=_ahead(days=1))))

        assert await store.outcomes(OutcomeQuery(limit=1)) == [counted]

    async def test_a_clock_that_is_a_little_ahead(self, store: Store) -> None:
        """Two machines never have quite the same time: a minute ahead counts."""
        await store.put(envelopes(*(make(**NAMED, run_ts=_ahead(minutes=1)) for make in MAKERS)))

        assert await _counts(store, _ahead(hours=-1)) == [(1, 1)] * 5

    async def test_a_success_in_the_future_keeps_no_model_from_being_measured(self, store: Store) -> None:
        """The schedule goes by what is known of the past, whatever a runner with a wrong clock wrote."""
        await store.put(envelopes(*(make(**NAMED, run_ts=_ahead(days=30)) for make in MAKERS)))
        assert await store.history() == []

        await store.put(envelopes(failure(**NAMED, run_ts=moment(3), error_kind="timeout")))
        [past] = await store.history()
        assert (past.last_success, past.last_failure, past.failures_in_a_row) == (None, moment(3), 1)

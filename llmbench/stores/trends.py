"""How figures went over time: the runs of a window in equal parts of it, and what each part came to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from llmbench.naming import fold, folded
from llmbench.quantiles import quantile


class TrendQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Runs since then, in parts of this ``width`` (whole milliseconds, as ``since`` is), of every role.

    Without a ``provider`` there is a trend for each provider, with one for each of its models, or the one ``model``;
    names are without regard to case.
    """

    since: datetime
    width: timedelta
    provider: str | None = None
    model: str | None = None


class TrendPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the window, which begins ``at``. Medians are of the successes that have the figure; seconds, tokens/s.

    ``first_tokens`` and ``speeds`` say how many have it.
    """

    at: datetime
    successes: int
    failures: int
    time_to_first_token_p50: float | None = None
    tokens_per_second_p50: float | None = None
    first_tokens: int = 0
    speeds: int = 0


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that have runs, the earliest first; of one model, or, if there is no ``model_name``, of a provider."""

    provider: str
    model_name: str | None
    points: tuple[TrendPoint, ...]


class Bucket(msgspec.Struct):
    """The runs of one part, while they are collected."""

    successes: int = 0
    failures: int = 0
    speeds: list[float] = []
    first_tokens: list[float] = []

    def point(self, at: datetime) -> TrendPoint:
        return TrendPoint(
            at=at,
            successes=self.successes,
            failures=self.failures,
            time_to_first_token_p50=_median(self.first_tokens),
            tokens_per_second_p50=_median(self.speeds),
            first_tokens=len(self.first_tokens),
            speeds=len(self.speeds),
        )


def _median(values: Sequence[float]) -> float | None:
    return quantile(sorted(values), 0.5) if values else None


class Collected:
    """The runs that a query is about, by what each trend is of and by their part of the window."""

    def __init__(self, query: TrendQuery) -> None:
        self._query = query
        self._buckets: dict[tuple[str, str], defaultdict[int, Bucket]] = {}
        self._spelled: dict[tuple[str, str], tuple[str, str]] = {}

    def wanted(self, provider: str, model: str) -> bool:
        """Say whether the query is about this model's runs."""
        asked = self._query.provider, self._query.model
        return all(name is None or fold(name) == fold(own) for name, own in zip(asked, (provider, model), strict=True))

    def parts(self, provider: str, model: str) -> defaultdict[int, Bucket]:
        """Return the buckets that this model's runs belong to, by their part of the window, counted from 0."""
        name = (provider, "" if self._query.provider is None else model)
        key = folded(*name)
        self._spelled.setdefault(key, name)
        return self._buckets.setdefault(key, defaultdict(Bucket))

    def trends(self) -> list[Trend]:
        """Return the trends that have runs, in the contract's order."""
        return [self._trend(key, parts.items()) for key, parts in sorted(self._buckets.items()) if parts]

    def _trend(self, key: tuple[str, str], buckets: Iterable[tuple[int, Bucket]]) -> Trend:
        provider, model = self._spelled[key]
        since, width = self._query.since, self._query.width
        points = tuple(bucket.point(since + number * width) for number, bucket in sorted(buckets))
        return Trend(provider=provider, model_name=model or None, points=points)

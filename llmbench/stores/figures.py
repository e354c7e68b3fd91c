"""What every store makes of the runs of a model in a window, whatever it collected them from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from llmbench.naming import folded
from llmbench.quantiles import quantile
from llmbench.stores.base import ErrorGroup, ModelSummary, ModelTally

GROUPED_BY = {
    "provider": ("provider",),
    "model": ("provider", "model_name"),
    "kind": ("error_kind",),
    "fingerprint": ("fingerprint",),
}
"""What failures of a group have in common, for each way to count them (`llmbench.stores.base.ErrorQuery.by`)."""


class Last(NamedTuple):
    """The newest run of a sort, and how its model is spelled there."""

    when: datetime
    provider: str
    model_name: str


class Runs(msgspec.Struct):
    """The runs of one model, under all its spellings: counts, the newest, and the figures of successes."""

    successes: int = 0
    failures: int = 0
    success: Last | None = None
    failure: Last | None = None
    speeds: list[float] = []
    first_tokens: list[float] = []

    def succeeded(self, last: Last | None, count: int = 0) -> None:
        """Take in more successes, the newest of which is ``last``."""
        self.successes += count
        self.success = _newer(self.success, last)

    def failed(self, last: Last | None, count: int) -> None:
        """Take in more failures, the newest of which is ``last``."""
        self.failures += count
        self.failure = _newer(self.failure, last)

    @property
    def _newest(self) -> Last:
        newest = _newer(self.success, self.failure)
        assert newest is not None, "whoever collects runs gives the newest of them"
        return newest

    def tally(self) -> ModelTally:
        return ModelTally(
            provider=self._newest.provider,
            model_name=self._newest.model_name,
            successes=self.successes,
            failures=self.failures,
            last_success=self.success.when if self.success else None,
            last_failure=self.failure.when if self.failure else None,
        )

    def summary(self) -> ModelSummary:
        speeds, first_tokens = sorted(self.speeds), sorted(self.first_tokens)
        return ModelSummary(
            provider=self._newest.provider,
            model_name=self._newest.model_name,
            n=self.successes + self.failures,
            successes=self.successes,
            failures=self.failures,
            success_rate=self.successes / (self.successes + self.failures),
            time_to_first_token_p50=_quantile(first_tokens, 0.50),
            time_to_first_token_p95=_quantile(first_tokens, 0.95),
            tokens_per_second_p50=_quantile(speeds, 0.50),
        )


def _newer(one: Last | None, other: Last | None) -> Last | None:
    if one is None or other is None:
        return one or other
    return other if other.when > one.when else one


def _quantile(ordered: list[float], q: float) -> float | None:
    return quantile(ordered, q) if ordered else None


def tallies_of(models: Iterable[Runs]) -> list[ModelTally]:
    """Return the tallies in the contract's order."""
    return sorted((runs.tally() for runs in models), key=_name)


def summaries_of(models: Iterable[Runs]) -> list[ModelSummary]:
    """Return the summaries in the contract's order."""
    return sorted((runs.summary() for runs in models), key=_name)


def _name(one: ModelTally | ModelSummary) -> tuple[str, str]:
    return folded(one.provider, one.model_name)


def in_order(groups: Iterable[ErrorGroup]) -> list[ErrorGroup]:
    """Return the groups in the contract's order."""
    return sorted(groups, key=lambda group: (group.count, group.newest.run_ts, group.newest.id), reverse=True)

"""A past for each of the states that snapshots show: answers that are always the same, from no store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from llmbench.tui.answers import Asked, Catalogue, CatalogueRow, Errors, ModelRuns, SpoolAnswer, Trends
from llmbench.tui.history import History, HistoryError, T
from llmbench.tui.state import Usual
from tests.tui import answers
from tests.tui.answers import FRESH
from tests.tui.states import HOSTILE, HOSTILE_LANE, LONG, MODELS, NOW, at, healthy


class Canned(History):
    """Answers of each question; without one, the trouble."""

    def __init__(
        self, rows: Catalogue | None, errors: Errors | None, trends: Trends | None, spool: SpoolAnswer | None
    ) -> None:
        super().__init__(None, fresh=FRESH, now=lambda: NOW)
        self._rows, self._errors, self._trends, self._storage = rows, errors, trends, spool

    async def usual(self, days: int = 7) -> Mapping[tuple[str, str], Usual]:
        """Return what is usual in the states, which is not to change in the middle of a snapshot."""
        return healthy().usual if self._trends is None or self._trends.trends else {}

    async def models(self, days: int = 7) -> Catalogue:
        return _known(self._rows)

    async def runs_of(self, provider: str, model_id: str, limit: int = 100) -> ModelRuns:
        return ModelRuns(provider=provider, model_id=model_id, runs=(answers.run(1), answers.failed_run(2)), more=False)

    async def errors(self, since: datetime, most: int = 1000) -> Errors:
        return _known(self._errors)

    async def trends(self, window: timedelta, width: timedelta, provider: str | None = None) -> Trends:
        return _known(self._trends)

    async def storage(self, most: int = 100) -> SpoolAnswer:
        return _known(self._storage)


def _known(answer: T | None) -> T:
    if answer is None:
        raise HistoryError("SQLite file '/var/lib/llmbench/llmbench.db' is locked by another program")
    return answer


def _given(asked: Asked[T]) -> T:
    assert asked.answer is not None
    return asked.answer


def _row(n: int, provider: str) -> CatalogueRow:
    return answers.row(
        MODELS[provider],
        provider=provider,
        last_success=at(-3.0 * n - 1),
        time_to_first_token=0.1 + n / 20,
        tokens_per_second=250.0 / (n + 1),
    )


_ROWS = tuple(_row(n, provider) for n, provider in enumerate(MODELS))
_TRENDS = answers.trends(*(answers.trend(provider, without=range(20, 30)) for provider in sorted(MODELS)))
_OLD = answers.disabled("gpt-3.5-turbo")


def _down(row: CatalogueRow) -> CatalogueRow:
    if row.provider != "groq":
        return row
    return msgspec.structs.replace(
        row, last_success=at(-80), failures_in_a_row=3, last_failure=at(-4.5), last_failure_kind="auth"
    )


def _empty() -> Canned:
    return Canned(
        _given(answers.catalogue()), _given(answers.errors()), _given(answers.trends()), _given(answers.spool())
    )


def _healthy() -> Canned:
    past = answers.group(first_seen=at(-600), last_seen=at(-300), count=2)
    return Canned(
        _given(answers.catalogue(*_ROWS, _OLD)),
        _given(answers.errors(past)),
        _given(_TRENDS),
        _given(answers.spool()),
    )


def _one_lane_down() -> Canned:
    rows = answers.catalogue(*map(_down, _ROWS), _OLD)
    return Canned(
        _given(rows),
        _given(answers.errors(answers.group())),
        _given(_TRENDS),
        _given(answers.spool(answers.quarantined())),
    )


def _hostile() -> Canned:
    odd = answers.disabled(HOSTILE)
    rows = answers.catalogue(
        msgspec.structs.replace(odd, provider=HOSTILE_LANE, disabled_reason=HOSTILE + LONG, disabled_by=HOSTILE), *_ROWS
    )
    group = answers.group(provider=HOSTILE_LANE, model_id=HOSTILE, error_kind=HOSTILE, message=HOSTILE + LONG[:3000])
    return Canned(
        _given(rows),
        _given(answers.errors(group)),
        _given(answers.trends(answers.trend(HOSTILE_LANE), answers.trend(LONG))),
        _given(answers.spool(answers.quarantined(model=HOSTILE, reason=HOSTILE, error=HOSTILE + LONG))),
    )


PASTS: Final = {
    "empty": _empty,
    "healthy": _healthy,
    "one_lane_down": _one_lane_down,
    "disconnected": lambda: Canned(None, None, None, None),
    "hostile": _hostile,
}
"""By the names of the states in `tests.tui.test_snapshots`."""

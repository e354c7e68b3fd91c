"""What the viewer asks of the store, and of the spool, in its own process: one question at a time.

Every answer has a bound, so that a thousand models with a million runs are told of as fast as one. The viewer reads
only; what it changes, it asks the engine to change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import anyio
import msgspec

from llmbench.actors.spool_requests import Answer, AskPage, AskRetry, AskStatus, Request
from llmbench.clock import SystemClock
from llmbench.messages import Failure, Model, Sample
from llmbench.naming import folded, key_of
from llmbench.stores.base import (
    ErrorGroup as StoredGroup,
)
from llmbench.stores.base import (
    ErrorQuery,
    ErrorRollup,
    ModelHistory,
    ModelSummary,
    OutcomeQuery,
    Store,
    StoreError,
)
from llmbench.stores.spool import Kept
from llmbench.stores.trends import TrendQuery
from llmbench.tui.answers import Catalogue, CatalogueRow, Errors, ModelRuns, Quarantined, SpoolAnswer, Trends
from llmbench.tui.state import ErrorGroup, Finished, Usual

T = TypeVar("T")

Refusal = Callable[[str | None], str | None]
"""Says why the store tells nothing of an engine that stores there, None if it does; None: it has not told where."""

SpoolAsk = Callable[[Request], Awaitable[Answer]]
"""Puts a request to the spool. Raises `HistoryError` if that can't be asked."""

USUAL_DAYS: Final = 7
USUAL_ENDS: Final = timedelta(hours=1)
"""So long ago ends what "usual" is made of, or what has become slow would soon be as usual."""

RUNS: Final = 100
MOST_GROUPS: Final = 1000
MOST_ROWS: Final = 100

_CLOCK: Final = SystemClock()
_CLOSING_SECONDS: Final = 0.3
_NO_SPOOL = "only where the engine runs can it be asked: by llmbench tui there, or by llmbench spool list"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryError(Exception):
    """The store, or the spool, can't be asked. The message is a sentence."""


class History:
    """The past, from the store; opened when it is first asked, and tried again after each trouble.

    Without a store there is a ``reason_without``. The store is not asked while ``refuses`` gives a reason, and what is
    asked then raises `HistoryError` with it. A success of a model should not be older than ``fresh``. Whoever makes it
    closes it.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        reason_without: str | None = None,
        refuses: Refusal = lambda _place: None,
        spool_ask: SpoolAsk | None = None,
        fresh: timedelta = timedelta(minutes=180),
        now: Callable[[], datetime] = _CLOCK.now,
    ) -> None:
        self._store = store
        self._refuses = refuses
        self.place: str | None = None
        self.refusal = refuses(None)
        self.moved = anyio.Event()
        self._reason_without = reason_without or "there is no store to ask"
        self._spool_ask = spool_ask
        self.fresh = fresh
        self._now = now
        self._turn = anyio.Lock()
        self._is_open = False
        self._abandoned = False

    def told(self, place: str) -> None:
        """Learn where the engine stores that is watched now; ``moved`` is set if that is news, and replaced."""
        if place == self.place:
            return
        self.place, self.refusal = place, self._refuses(place)
        self.moved.set()
        self.moved = anyio.Event()

    @property
    def hangs(self) -> bool:
        """Whether a thread may still wait for the store, although nobody does."""
        return self._abandoned

    async def close(self, seconds: float = _CLOSING_SECONDS) -> None:
        """Close the store, if it was opened; one that hangs is left as it is after so long. Raises nothing."""
        if self._store is None or not self._is_open:
            return
        self._is_open = False
        # A store lets nobody cancel its closing, but by asyncio's own means, when the loop ends.
        closing = asyncio.ensure_future(self._closed(self._store))
        _done, hanging = await asyncio.wait({closing}, timeout=seconds)
        self._abandoned |= bool(hanging)

    async def _closed(self, store: Store) -> None:
        async with self._turn:
            await store.close()

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Store]:
        self._refuse()  # before a wait for its turn, too
        async with self._turn:
            store = self._refuse()
            try:
                if not self._is_open:
                    await store.open()
                    self._is_open = True
                yield store
                self._abandoned = False  # it answers again
            except StoreError as error:
                raise HistoryError(str(error)) from error
            except BaseException:
                self._abandoned = True  # cancelled: what was asked may go on in a thread
                raise

    def _refuse(self) -> Store:
        """Return the store. Raises `HistoryError` if it is not to be asked."""
        if self._store is None:
            raise HistoryError(self._reason_without)
        if self.refusal is not None:
            raise HistoryError(self.refusal)
        return self._store

    async def usual(self, days: int = USUAL_DAYS) -> Mapping[tuple[str, str], Usual]:
        """Return what the successes of so many days came to that ended `USUAL_ENDS` ago, by (provider, model id).

        Raises `HistoryError`.
        """
        until = self._now() - USUAL_ENDS
        async with self._asking() as store:
            summaries = await store.summary(since=until - timedelta(days=days), until=until)
        return {(one.provider, one.model_name): _usual(one) for one in summaries if one.successes}

    async def models(self, days: int = USUAL_DAYS) -> Catalogue:
        """Return the catalogue, with what became of each model. Raises `HistoryError`."""
        async with self._asking() as store:
            models = await store.models()
            pasts = {key_of(one): one for one in await store.history()}
            summaries = await store.summary(since=self._now() - timedelta(days=days))
        sums = {folded(one.provider, one.model_name): one for one in summaries}
        rows = (_row(model, pasts.get(key_of(model)), sums.get(key_of(model))) for model in models)
        return Catalogue(days=days, rows=tuple(rows))

    async def runs_of(self, provider: str, model_id: str, limit: int = RUNS) -> ModelRuns:
        """Return the last runs of one model. Raises `HistoryError`."""
        async with self._asking() as store:
            found = await store.outcomes(OutcomeQuery(provider=provider, model=model_id, limit=limit + 1))
        runs = tuple(finished(one) for one in found[:limit])
        return ModelRuns(provider=provider, model_id=model_id, runs=runs, more=len(found) > limit)

    async def errors(self, since: datetime, most: int = MOST_GROUPS) -> Errors:
        """Return the failures since then, by fingerprint. Raises `HistoryError`."""
        async with self._asking() as store:
            groups = await store.error_groups(ErrorQuery(by="fingerprint", since=since))
            rollups = {one.fingerprint: one for one in await store.rollups(since=since)}
        kept = {one.newest.fingerprint: _group(one, rollups) for one in groups[:most]}
        failures = sum(one.count for one in groups)
        return Errors(since=since, kept=kept, groups=len(groups), failures=failures)

    async def trends(self, window: timedelta, width: timedelta, provider: str | None = None) -> Trends:
        """Return how figures went in the last ``window``, in parts of it. Raises `HistoryError`.

        Parts begin at multiples of their width, so that the same run is always in the same part.
        """
        since = self._now() - window
        since += (_EPOCH - since) % width
        async with self._asking() as store:
            found = await store.trends(TrendQuery(since=since, width=width, provider=provider))
        return Trends(since=since, width=width, provider=provider, trends=tuple(found))

    async def storage(self, most: int = MOST_ROWS) -> SpoolAnswer:
        """Return how the spool is, and its quarantine. Raises `HistoryError`."""
        status = (await self._spool(AskStatus())).status
        if status is None:
            raise HistoryError("the engine that has the spool does not say how it is: is it another version?")
        rows = (await self._spool(AskPage("quarantined", limit=most))).rows
        return SpoolAnswer(
            counts=status.counts,
            damages=tuple(map(str, status.damages)),
            delivery=status.delivery,
            quarantine=tuple(map(_quarantined, rows)),
        )

    async def retry(self, outcome_id: str) -> int:
        """Have an outcome in quarantine be delivered again; return how many that are. Raises `HistoryError`."""
        return (await self._spool(AskRetry([outcome_id]))).count or 0

    async def _spool(self, request: Request) -> Answer:
        if self._spool_ask is None:
            raise HistoryError(_NO_SPOOL)
        async with self._turn:
            return await self._spool_ask(request)


def _usual(one: ModelSummary) -> Usual:
    return Usual(
        n=one.successes, time_to_first_token=one.time_to_first_token_p50, tokens_per_second=one.tokens_per_second_p50
    )


def _row(model: Model, past: ModelHistory | None, summary: ModelSummary | None) -> CatalogueRow:
    row = CatalogueRow(
        provider=model.provider,
        model_id=model.model_id,
        enabled=model.enabled,
        disabled_reason=model.disabled_reason,
        disabled_by=model.disabled_by,
        disabled_at=model.disabled_at,
    )
    return _with_figures(row if past is None else _with_past(row, past), summary)


def _with_past(row: CatalogueRow, past: ModelHistory) -> CatalogueRow:
    return msgspec.structs.replace(
        row,
        last_success=past.last_success,
        failures_in_a_row=past.failures_in_a_row,
        last_failure=past.last_failure,
        last_failure_kind=past.last_failure_kind,
    )


def _with_figures(row: CatalogueRow, summary: ModelSummary | None) -> CatalogueRow:
    if summary is None:
        return row
    return msgspec.structs.replace(
        row,
        n=summary.n,
        success_rate=summary.success_rate,
        time_to_first_token=summary.time_to_first_token_p50,
        tokens_per_second=summary.tokens_per_second_p50,
    )


def finished(outcome: Sample | Failure) -> Finished:
    """Return a stored run as live events tell of one; it is dated by its beginning, as the store is."""
    if isinstance(outcome, Sample):
        return _succeeded(outcome)
    return Finished(
        outcome_id=outcome.id,
        provider=outcome.provider,
        model_id=outcome.model_name,
        at=outcome.run_ts,
        ok=False,
        outcome=outcome.outcome,
        error_kind=outcome.error_kind,
        message=outcome.message,
    )


def _succeeded(sample: Sample) -> Finished:
    return Finished(
        outcome_id=sample.id,
        provider=sample.provider,
        model_id=sample.model_name,
        at=sample.run_ts,
        ok=True,
        outcome=sample.outcome,
        time_to_first_token=sample.time_to_first_token,
        tokens_per_second=sample.tokens_per_second,
        output_tokens=sample.output_tokens,
        gap_p95=sample.inter_token_p95,
        gap_max=sample.inter_token_max,
        coarse=sample.resolution == "coarse",
        clock=sample.clock,
        client_lag=sample.client_lag_max,
    )


def _group(group: StoredGroup, rollups: Mapping[str, ErrorRollup]) -> ErrorGroup:
    newest = group.newest
    rollup = rollups.get(newest.fingerprint)
    return ErrorGroup(
        fingerprint=newest.fingerprint,
        provider=newest.provider,
        model_id=newest.model_name,
        error_kind=newest.error_kind,
        error_cause=newest.error_cause,
        http_status=newest.http_status,
        message=newest.message,
        advice=newest.advice,
        count=group.count,
        first_seen=newest.run_ts if rollup is None else min(rollup.first_seen, newest.run_ts),
        last_seen=newest.run_ts,
    )


class _Named(msgspec.Struct, frozen=True):
    provider: str
    model_name: str


class _Body(msgspec.Struct, frozen=True):
    outcome: _Named


def _quarantined(kept: Kept) -> Quarantined:
    return Quarantined(
        id=kept.id,
        model=_model(kept.body),
        conflicting=kept.conflicting,
        reason=kept.reason,
        error=kept.error,
        tries=kept.tries,
        recorded_at=kept.recorded_at,
    )


def _model(body: bytes) -> str | None:
    try:
        named = msgspec.json.decode(body, type=_Body).outcome
    except ValueError:
        return None
    return f"{named.provider}/{named.model_name}"

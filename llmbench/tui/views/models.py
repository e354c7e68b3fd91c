"""The catalogue: which model is measured, which is failing or stale, and the runs of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

import msgspec

from llmbench.naming import Key, key_of
from llmbench.quantiles import quantile
from llmbench.tui.answers import Asked, Catalogue, CatalogueRow, ModelRuns
from llmbench.tui.cells import name, nothing_matches, number, plural, words
from llmbench.tui.numbers import age, clock_time, count, milliseconds, share, significant, sparkline, time_of_day, top
from llmbench.tui.state import Finished, State
from llmbench.tui.table import Cell, Column, Row, Table, Tone
from llmbench.tui.text import safe
from llmbench.tui.views.answered import matches, nothing

Show = Literal["all", "enabled", "disabled", "stale", "failing"]
SHOWS: Final[tuple[Show, ...]] = get_args(Show)

Condition = Literal["failing", "failed once", "stale", "never ran", "due", "fresh", "disabled"]
CONDITIONS: Final[tuple[Condition, ...]] = get_args(Condition)
"""How a model is, worst first."""

_LOOKS: Final[dict[Condition, tuple[str, Tone]]] = {
    "failing": ("✖", "bad"),
    "failed once": ("▲", "warn"),
    "stale": ("▲", "warn"),
    "never ran": ("▲", "warn"),
    "due": ("●", "plain"),
    "fresh": ("●", "good"),
    "disabled": ("○", "muted"),
}
_STALE_AFTER: Final = 2
"""So many times as old as it should be is the last success of a stale model: what is due once may wait its turn."""

_NAME: Final = 32
_COLUMNS: Final = (
    Column(name="Model", width=_NAME),
    Column(name="State", width=13),
    Column(name="Last ok", width=10, right=True, drop=1),
    Column(name="TTFT ms", width=7, right=True, drop=2),
    Column(name="tok/s", width=6, right=True, drop=3),
    Column(name="ok", width=6, right=True, drop=5),
    Column(name="n", width=5, right=True, drop=4),
    Column(name="Why", width=0, drop=6),
)
_RUN_COLUMNS: Final = (
    Column(name="Begun", width=14),
    Column(name="Outcome", width=18),
    Column(name="TTFT ms", width=7, right=True),
    Column(name="tok/s", width=6, right=True),
    Column(name="tokens", width=6, right=True, drop=3),
    Column(name="gap p95 ms", width=10, right=True, drop=4),
    Column(name="gap max ms", width=10, right=True, drop=5),
    Column(name="What the provider said", width=0),
)
_SPARK: Final = 30


def condition(row: CatalogueRow, now: datetime, fresh: timedelta) -> Condition:
    """Say how a model is, of which a success should not be older than ``fresh``."""
    if not row.enabled:
        return "disabled"
    if row.failures_in_a_row > 0:
        return "failed once" if row.failures_in_a_row == 1 and row.last_success else "failing"
    if row.last_success is None:
        return "never ran"
    old = now - row.last_success
    return "stale" if old > _STALE_AFTER * fresh else "due" if old > fresh else "fresh"


def current(asked: Asked[Catalogue], state: State) -> list[CatalogueRow]:
    """Return the rows with what live events have told since the store's answer."""
    if asked.answer is None or asked.at is None:
        return []
    since: dict[tuple[str, str], list[Finished]] = {}
    for one in state.finished:
        if one.at > asked.at:
            since.setdefault(key_of(one), []).append(one)
    return [_after(row, since.get(key_of(row), ())) for row in asked.answer.rows]


def _after(row: CatalogueRow, runs: Iterable[Finished]) -> CatalogueRow:
    for run in sorted(runs, key=lambda run: run.at):
        if run.ok:
            row = msgspec.structs.replace(row, last_success=run.at, failures_in_a_row=0)
        else:
            failures = row.failures_in_a_row + 1
            row = msgspec.structs.replace(
                row, failures_in_a_row=failures, last_failure=run.at, last_failure_kind=run.error_kind
            )
    return row


def models(
    asked: Asked[Catalogue], state: State, now: datetime, fresh: timedelta, show: Show = "all", text_filter: str = ""
) -> Table:
    """Return the catalogue, worst first. The key of a row is `key_of_row`."""
    rows = [(condition(row, now, fresh), row) for row in current(asked, state)]
    shown = [(how, row) for how, row in rows if _is_shown(show, how)]
    found = [(how, row) for how, row in shown if _matches(row, text_filter)]
    found.sort(key=lambda one: _worst_first(*one))
    running = {key_of(run) for run in state.runs.values()}
    return Table(
        columns=_COLUMNS,
        rows=tuple(Row(key_of_row(row), tuple(_cells(how, row, now, running))) for how, row in found),
        empty=_empty(asked, show, text_filter, there=bool(rows), match=not shown or bool(found)),
        hidden=_hidden(how for how, row in rows if not (_is_shown(show, how) and _matches(row, text_filter))),
    )


def key_of_row(row: CatalogueRow) -> str:
    return f"{row.provider}/{row.model_id}"


def row_of(asked: Asked[Catalogue], key: str | None) -> CatalogueRow | None:
    """Return the row of the catalogue with a key, None if it has none any more."""
    rows = asked.answer.rows if asked.answer is not None else ()
    return next((row for row in rows if key_of_row(row) == key), None)


def _is_shown(show: Show, how: Condition) -> bool:
    match show:
        case "all":
            return True
        case "enabled":
            return how != "disabled"
        case "disabled":
            return how == "disabled"
        case "stale":
            return how in ("stale", "never ran")
        case "failing":
            return how in ("failing", "failed once")


def _matches(row: CatalogueRow, text_filter: str) -> bool:
    return matches(text_filter, key_of_row(row), row.disabled_reason, row.last_failure_kind)


def _worst_first(how: Condition, row: CatalogueRow) -> tuple[int, float, str]:
    since = row.last_success.timestamp() if row.last_success is not None else 0.0
    return CONDITIONS.index(how), -row.failures_in_a_row if how == "failing" else since, key_of_row(row)


def _cells(how: Condition, row: CatalogueRow, now: datetime, running: Collection[Key]) -> Iterator[Cell]:
    glyph, tone = _LOOKS[how]
    yield name(key_of_row(row), _NAME)
    yield Cell(f"{glyph} {how}", tone, sort=CONDITIONS.index(how))
    yield Cell("never" if row.last_success is None else age(row.last_success, now), sort=_seconds(row, now))
    yield number(milliseconds(row.time_to_first_token), row.time_to_first_token)
    yield number(significant(row.tokens_per_second), row.tokens_per_second)
    yield number(share(row.success_rate), row.success_rate)
    yield number(count(row.n), row.n)
    yield words(_why(row, now, running), "muted")


def _seconds(row: CatalogueRow, now: datetime) -> float:
    return float("inf") if row.last_success is None else (now - row.last_success).total_seconds()


def _why(row: CatalogueRow, now: datetime, running: Collection[Key]) -> str:
    if not row.enabled:
        when = f", {age(row.disabled_at, now)} ago" if row.disabled_at is not None else ""
        return f"{row.disabled_reason or 'no reason given'} ({row.disabled_by or 'unknown'}{when})"
    if row.failures_in_a_row > 0:
        return f"{row.failures_in_a_row}× {row.last_failure_kind or 'unknown'}, last {age(row.last_failure, now)} ago"
    return "streaming now" if key_of(row) in running else ""


def _empty(asked: Asked[Catalogue], show: Show, text_filter: str, *, there: bool, match: bool) -> str:
    if asked.answer is None:
        return nothing(asked, "catalogue")
    if not there:
        return "the catalogue is empty: llmbench models add PROVIDER/MODEL adds a model"
    return f"no model is {show}; f shows others" if match else nothing_matches("model", text_filter)


def _hidden(hidden: Iterable[Condition]) -> str | None:
    failing = sum(how == "failing" for how in hidden)
    if not failing:
        return None
    return f"{plural(failing, 'failing model')} hidden by the filter"


# one model


def runs(asked: Asked[ModelRuns], now: datetime, text_filter: str = "") -> Table:
    """Return the runs of one model, the newest first. The key of a row is the outcome's id."""
    found = asked.answer.runs if asked.answer is not None else ()
    shown = [run for run in found if matches(text_filter, run.outcome, run.error_kind, run.message)]
    more = asked.answer is not None and asked.answer.more
    return Table(
        columns=_RUN_COLUMNS,
        rows=tuple(Row(run.outcome_id, tuple(_run_cells(run, now))) for run in shown),
        empty=_no_runs(asked, text_filter, there=bool(found)),
        hidden=f"only the last {len(found)} runs are shown" if more else None,
    )


def _no_runs(asked: Asked[ModelRuns], text_filter: str, *, there: bool) -> str:
    if asked.answer is None:
        return nothing(asked, "runs")
    return nothing_matches("run", text_filter) if there else "no run of this model is stored yet"


def _run_cells(run: Finished, now: datetime) -> Iterator[Cell]:
    when = f"{run.at.astimezone(now.tzinfo):%m-%d} {clock_time(run.at, now)}"
    yield Cell(when, sort=run.at.timestamp())
    yield Cell(f"● {run.outcome}", "good") if run.ok else Cell(safe(f"✖ {run.error_kind}"), "bad")
    yield number(milliseconds(run.time_to_first_token), run.time_to_first_token)
    yield number(significant(run.tokens_per_second), run.tokens_per_second)
    yield number(count(run.output_tokens), run.output_tokens)
    yield number(milliseconds(run.gap_p95), run.gap_p95)
    yield number(milliseconds(run.gap_max), run.gap_max)
    yield words(run.message or ("coarse: several tokens came in one read" if run.coarse else ""), "muted")


def told(asked: Asked[ModelRuns], row: CatalogueRow | None, now: datetime) -> list[Cell]:
    """Return the lines over the runs of one model: how it is, and its figures as sparklines, oldest run first."""
    lines = [] if row is None else [_standing(row, now)]
    if asked.answer is None or not asked.answer.runs:
        return lines
    earliest_first = list(reversed(asked.answer.runs))
    ok = sum(run.ok for run in earliest_first)
    lines.append(Cell(f"{len(earliest_first)} runs since {time_of_day(earliest_first[0].at, now)}: {ok} ok"))
    return [
        *lines,
        _figure("TTFT", "ms", [_scaled(run.time_to_first_token, 1000) for run in earliest_first]),
        _figure("speed", "tok/s", [run.tokens_per_second for run in earliest_first]),
    ]


def _standing(row: CatalogueRow, now: datetime) -> Cell:
    if not row.enabled:
        when = time_of_day(row.disabled_at, now)
        return Cell(
            safe(f"○ disabled {when} by {row.disabled_by or 'unknown'}: {row.disabled_reason or 'no reason'}"), "warn"
        )
    if row.failures_in_a_row:
        since = "ever" if row.last_success is None else f"since its last success {age(row.last_success, now)} ago"
        return Cell(safe(f"✖ {row.failures_in_a_row} failures {since}, now {row.last_failure_kind}"), "bad")
    return Cell("● enabled, the last scheduled run succeeded" if row.last_success else "▲ enabled, never ran")


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


def _figure(what: str, unit: str, values: list[float | None]) -> Cell:
    known = sorted(value for value in values if value is not None)
    if not known:
        return Cell(f"{what:6} — {unit}, no run has it", "muted")
    low, middle, high = known[0], quantile(known, 0.5), known[-1]
    line = sparkline(values, min(_SPARK, len(values)), top([values]))
    figures = f"median {significant(middle)} {unit}, {significant(low)} to {significant(high)}, n = {len(known)}"
    return Cell(f"{what:6} {figures}  {line}", "accent")

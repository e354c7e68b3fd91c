"""A row for each provider, the worst first: how it is and since when, what it does, how fast it is for its ways."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from llmbench.tui import cells, numbers, verdicts
from llmbench.tui.cells import number
from llmbench.tui.pace import Pace, pace
from llmbench.tui.state import Lane, State
from llmbench.tui.table import Cell, Column, Row, Table, Tone
from llmbench.tui.text import safe
from llmbench.tui.verdicts import Verdict

NAME: Final = 13
SPARKLINE: Final = 16
_SLOW: Final = 2.0
_BRISK: Final = 0.5


def overview(state: State, now: datetime, text_filter: str = "") -> Table:
    """Return the table of providers."""
    judged = [(lane, verdicts.verdict(state, lane)) for lane in state.lanes.values()]
    judged.sort(key=_worst_first)
    top = numbers.top([_first_tokens(lane) for lane, _ in judged])
    rows = [_row(state, lane, verdict, top, now) for lane, verdict in judged]
    shown = cells.filtered(rows, text_filter)
    table = Table(
        columns=_columns(top),
        rows=shown,
        empty=cells.nothing_matches("provider", text_filter) if text_filter and rows else waiting(state, now),
        hidden=_hidden(judged, shown),
    )
    return cells.dimmed(table) if verdicts.is_stale(state, now) else table


def waiting(state: State, now: datetime) -> str:
    """Return why there is nothing yet, in words."""
    link = verdicts.link(state, now)
    if link.word == "live":
        return "connected; waiting for the engine to tell of its providers"
    if link.word == "connecting":
        return f"connecting to {state.link.address} …{f' {link.reason}' if link.reason else ''}"
    last = f"; last data {numbers.age(state.link.heard, now)} ago" if state.link.heard is not None else ""
    why = f": {link.reason}" if link.reason else ""
    return f"engine at {state.link.address} {link.word}{why}{last}"


def _worst_first(found: tuple[Lane, Verdict]) -> tuple[int, float, str]:
    lane, verdict = found
    since = verdict.since.timestamp() if verdict.is_trouble and verdict.since is not None else 0.0
    return verdict.rank, since, lane.name


def _hidden(judged: Sequence[tuple[Lane, Verdict]], shown: Sequence[Row]) -> str | None:
    kept = {row.key for row in shown}
    count = sum(verdict.is_trouble for lane, verdict in judged if lane.name not in kept)
    return f"{cells.plural(count, 'provider')} in trouble hidden by the filter" if count else None


def _columns(top: float) -> tuple[Column, ...]:
    return (
        Column(name="provider", width=NAME),
        Column(name="state", width=13),
        Column(name="since", width=6, drop=1),
        Column(name="in flight", width=9, right=True, drop=6),
        Column(name="due", width=4, right=True, drop=7),
        Column(name="ok", width=5, right=True, drop=5),
        Column(name="failed", width=6, right=True, drop=3),
        Column(name="TTFT ms", width=7, right=True, drop=2),
        Column(name="TTFT ×", width=7, right=True, drop=2, title="TTFT × usual"),
        Column(name=f"last, ≤ {numbers.seconds(top)}" if top else "last TTFTs", width=SPARKLINE, drop=8),
        Column(name="tok/s", width=6, right=True, drop=4),
        Column(name="tok/s ×", width=7, right=True, drop=4, title="tok/s × usual"),
        Column(name="pace/min", width=8, right=True, drop=10),
        Column(name="breaker", width=8, drop=11),
        Column(name="why", width=0, drop=9),
    )


def _row(state: State, lane: Lane, verdict: Verdict, top: float, now: datetime) -> Row:
    speed = pace(state, lane)
    since = verdict.since
    return Row(
        lane.name,
        (
            cells.name(lane.name, NAME, "bad" if verdict.rank == 0 else "plain"),
            Cell(verdict.text, verdict.tone, sort=float(verdict.rank)),
            number(numbers.short_time(since, now), since.timestamp() if since is not None else None),
            *_counts(lane),
            *_first_token(speed),
            number(numbers.sparkline(_first_tokens(lane), SPARKLINE, top), speed.time_to_first_token, "accent"),
            *_speed(speed),
            *_limits(lane),
            cells.words(
                _why(verdict, lane, now, verdicts.is_stale(state, now)), verdict.tone if verdict.is_trouble else "muted"
            ),
        ),
    )


def _counts(lane: Lane) -> tuple[Cell, ...]:
    figures = lane.figures
    return (
        number(f"{figures.in_flight}/{figures.concurrency}", figures.in_flight)
        if figures is not None
        else number(numbers.UNKNOWN, None),
        number(numbers.count(figures.due if figures is not None else None), figures.due if figures else None),
        number(numbers.count(lane.ok), lane.ok),
        number(numbers.count(lane.failed), lane.failed, "bad" if lane.failed else "plain"),
    )


def _first_token(speed: Pace) -> tuple[Cell, Cell]:
    value, ratio = speed.time_to_first_token, speed.first_token_ratio
    tone: Tone = "warn" if ratio is not None and ratio >= _SLOW else "plain"
    return number(numbers.milliseconds(value), value, tone), number(numbers.times(ratio), ratio, tone)


def _speed(speed: Pace) -> tuple[Cell, Cell]:
    value, ratio = speed.tokens_per_second, speed.speed_ratio
    tone: Tone = "warn" if ratio is not None and ratio <= _BRISK else "plain"
    return number(numbers.significant(value), value, tone), number(numbers.times(ratio), ratio, tone)


def _limits(lane: Lane) -> tuple[Cell, Cell]:
    figures = lane.figures
    if figures is None:
        return number(numbers.UNKNOWN, None), Cell(numbers.UNKNOWN, "muted")
    pace_now = figures.requests_per_minute / figures.slowdown if figures.slowdown > 0 else None
    slowed: Tone = "warn" if figures.slowdown > 1 else "plain"
    open_tone: Tone = "plain" if figures.breaker == "closed" else "warn"
    return number(numbers.significant(pace_now), pace_now, slowed), Cell(figures.breaker, open_tone)


def about(state: State, provider: str | None, now: datetime) -> tuple[Cell, ...]:
    """Return what is over the runs of a provider, a line each, of any length: its trouble in full, and what to do."""
    lane = state.lanes.get(provider or "")
    if lane is None:
        return (Cell("no provider is chosen", "accent"),)
    heading = Cell(f"What {safe(lane.name, cells.NAME_LIMIT)} did lately", "accent")
    verdict = verdicts.verdict(state, lane)
    if not verdict.is_trouble:
        return (heading,)
    since = f" since {numbers.time_of_day(verdict.since, now)}" if verdict.since is not None else ""
    why = _why(verdict, lane, now, verdicts.is_stale(state, now))
    return (Cell(f"{safe(lane.name, cells.NAME_LIMIT)} {verdict.text}{since}: {why}", verdict.tone), heading)


def _first_tokens(lane: Lane) -> list[float | None]:
    return [run.time_to_first_token for run in lane.recent[-SPARKLINE:]]


def _why(verdict: Verdict, lane: Lane, now: datetime, stale: bool) -> str:
    if verdict.is_trouble or verdict.reason:
        again = f"; looked at again in {numbers.ahead(verdict.until, now)}" if verdict.until is not None else ""
        return f"{verdict.reason or ''}{again}"
    due = lane.figures.next_due if lane.figures is not None and not stale else None
    return f"next run in {numbers.ahead(due, now)}" if due is not None else ""

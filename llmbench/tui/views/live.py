"""What streams now: a row for each stream, and one stream in full, filling, with its gaps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Final

from llmbench.tui import cells, numbers, verdicts
from llmbench.tui.cells import number, plural
from llmbench.tui.state import Finished, Run, State
from llmbench.tui.table import Cell, Column, Row, Table, Tone
from llmbench.tui.text import cut, safe, wrap
from llmbench.tui.views.overview import waiting

_PROVIDER: Final = 13
_MODEL: Final = 20
_SPARKLINE: Final = 20
_TEXT: Final = 160
_SILENT: Final = 3.0
"""Seconds without a new chunk after which a stream is called silent: progress is told ten times a second."""


def live(state: State, now: datetime, text_filter: str = "") -> Table:
    """Return the table of streams in flight, the oldest first."""
    runs = sorted(state.runs.values(), key=lambda run: (run.started_at, run.outcome_id))
    top = numbers.top([gaps(run, _SPARKLINE) for run in runs])
    then = _as_of(state, now)
    rows = [_row(run, top, then) for run in runs]
    shown = cells.filtered(rows, text_filter)
    hidden = len(rows) - len(shown)
    table = Table(
        columns=_columns(top),
        rows=shown,
        empty=cells.nothing_matches("stream", text_filter) if text_filter and rows else _idle(state, now),
        hidden=f"{plural(hidden, 'stream')} hidden by the filter" if hidden and shown else None,
    )
    return cells.dimmed(table) if verdicts.is_stale(state, now) else table


def _columns(top: float) -> tuple[Column, ...]:
    return (
        Column(name="provider", width=_PROVIDER),
        Column(name="model", width=_MODEL, drop=2),
        Column(name="state", width=12),
        Column(name="for s", width=5, right=True),
        Column(name="chunks", width=6, right=True, drop=1),
        Column(name="per s", width=5, right=True, drop=3),
        Column(name=f"gaps, ≤ {numbers.seconds(top)}" if top else "gaps", width=_SPARKLINE, drop=4),
        Column(name="text", width=0, keeps_end=True),
    )


def _row(run: Run, top: float, now: datetime) -> Row:
    word, tone = _how(run, now)
    lasted = _lasted(run, now)
    rate = _rate(run)
    between = gaps(run, _SPARKLINE)
    return Row(
        run.outcome_id,
        (
            cells.name(run.provider, _PROVIDER),
            cells.name(run.model_id, _MODEL),
            Cell(word, tone),
            number(numbers.significant(lasted), lasted),
            number(numbers.count(run.chunks), run.chunks),
            number(numbers.significant(rate), rate),
            number(numbers.sparkline(between, _SPARKLINE, top), max(between, default=None), "accent"),
            Cell(_end(run.text)),
        ),
    )


def _how(run: Run, now: datetime) -> tuple[str, Tone]:
    if not run.chunks:
        return "◌ waiting", "muted"
    silence = _lasted(run, now) - run.elapsed
    return ("● streams", "good") if silence < _SILENT else (f"▲ still {numbers.duration(silence)}", "warn")


def _lasted(run: Run, now: datetime) -> float:
    """Return for how many seconds a stream lasts; clocks of two machines may disagree."""
    return max((now - run.started_at).total_seconds(), run.elapsed)


def _rate(run: Run) -> float | None:
    return run.chunks / run.elapsed if run.chunks and run.elapsed > 0 else None


def _end(text: str) -> str:
    """Return the end of a text in one line; what is left out shows when there is room for more than the rest."""
    line = text[-_TEXT:].replace("\n", " ")
    return line if len(text) <= _TEXT else f"…{line}"


def gaps(run: Run, last: int | None = None) -> list[float]:
    """Return the mean time between two chunks, in seconds, from each of the last steps of a stream to the next."""
    ticks = run.ticks if last is None else run.ticks[-last - 1 :]
    return [
        (later - earlier) / (more - before)
        for (earlier, before), (later, more) in pairwise(ticks)
        if more > before and later >= earlier
    ]


def _idle(state: State, now: datetime) -> str:
    """Return why nothing streams, and when something will."""
    if state.engine is None or verdicts.is_stale(state, now):
        return waiting(state, now)
    if state.engine.hold is not None:
        return f"nothing streams: no new run is started, {state.engine.hold}"
    told = [lane.figures for lane in state.lanes.values() if lane.figures is not None]
    due = sum(figures.due for figures in told)
    if due:
        return f"nothing streams now; {plural(due, 'model is', 'models are')} due, their lanes keep their pace"
    following = min((figures.next_due for figures in told if figures.next_due is not None), default=None)
    return (
        f"nothing streams now; next run due in {numbers.ahead(following, now)}" if following else "nothing streams now"
    )


def stream(state: State, outcome_id: str, now: datetime, width: int = 78, height: int = 20) -> tuple[Cell, ...]:
    """Return one stream in at most ``height`` lines of ``width`` cells: what it is, its gaps, the end of its text.

    Of a stream that has ended, they say how.
    """
    run = state.runs.get(outcome_id)
    if run is not None:
        heading = list(_heading(run, _as_of(state, now), width))
        text = wrap(run.text, width)[-max(height - len(heading), 1) :]
        return (*heading, *map(Cell, text))
    ended = next((run for run in reversed(state.finished) if run.outcome_id == outcome_id), None)
    if ended is not None:
        return tuple(_ending(ended, now))
    return (Cell("this stream is gone: the connection was lost while it ran, or its lane crashed", "muted"),)


def _as_of(state: State, now: datetime) -> datetime:
    """Return the time up to which it is known how streams fill: without news, none of them falls silent."""
    return state.link.heard or now if verdicts.is_stale(state, now) else now


def _heading(run: Run, now: datetime, width: int) -> Iterator[Cell]:
    word, tone = _how(run, now)
    yield Cell(cut(f"{word}  {_title(run)}", width), tone)
    rate = numbers.significant(_rate(run))
    lasted = numbers.seconds(_lasted(run, now))
    yield Cell(f"{lasted}, {plural(run.chunks, 'chunk')}, {rate} chunks/s", "muted")
    yield from _gap_lines(run, width)


def _gap_lines(run: Run, width: int) -> Iterator[Cell]:
    between = gaps(run)
    if not between:
        return
    longest = max(between)
    yield Cell(numbers.sparkline(between, min(width, len(between)), longest), "accent")
    said = f"gaps between chunks, 0 to {numbers.seconds(longest)}, from step to step of what was told here"
    yield Cell(said, "muted")


def _ending(run: Finished, now: datetime) -> Iterator[Cell]:
    ago = f"{numbers.age(run.at, now)} ago"
    if not run.ok:
        yield Cell(f"{_title(run)}  ✖ failed {ago}", "bad")
        yield Cell(f"{run.error_kind}: {run.message}")
        return
    yield Cell(f"{_title(run)}  ● {run.outcome} {ago}", "good")
    yield Cell(
        f"TTFT {numbers.seconds(run.time_to_first_token)}, {numbers.significant(run.tokens_per_second)} tok/s, "
        f"{numbers.count(run.output_tokens)} tokens"
    )
    yield Cell(f"gaps: p95 {numbers.seconds(run.gap_p95)}, longest {numbers.seconds(run.gap_max)}", "muted")
    stamped = "coarse" if run.coarse else "fine"
    yield Cell(f"stamped by the {run.clock or 'unknown'} clock, {stamped}; loop away {numbers.seconds(run.client_lag)}")


def _title(run: Run | Finished) -> str:
    return f"{safe(run.provider, cells.NAME_LIMIT)}  {safe(run.model_id, cells.NAME_LIMIT)}"

"""What a provider did lately, run by run, the newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from llmbench.tui import cells, numbers
from llmbench.tui.cells import number
from llmbench.tui.state import Finished, State
from llmbench.tui.table import Cell, Column, Row, Table
from llmbench.tui.text import safe

_MODEL: Final = 28
_COLUMNS: Final = (
    Column(name="ended", width=8),
    Column(name="outcome", width=10),
    Column(name="model", width=_MODEL, drop=2),
    Column(name="TTFT ms", width=7, right=True),
    Column(name="tok/s", width=6, right=True),
    Column(name="tokens", width=6, right=True, drop=3),
    Column(name="gap p95 ms", width=10, right=True, drop=4),
    Column(name="gap max ms", width=10, right=True, drop=5),
    Column(name="stamps", width=6, drop=6),
    Column(name="what", width=0, drop=1),
)


def attempts(state: State, provider: str, now: datetime, text_filter: str = "") -> Table:
    """Return the last runs of a provider: some from before the viewer began, and those since."""
    lane = state.lanes.get(provider)
    rows = [_row(run, now) for run in reversed(lane.recent)] if lane is not None else []
    empty = cells.nothing_matches("run", text_filter) if rows else "no run has ended here yet"
    return Table(columns=_COLUMNS, rows=cells.filtered(rows, text_filter), empty=empty)


def _row(run: Finished, now: datetime) -> Row:
    return Row(
        run.outcome_id,
        (
            Cell(numbers.clock_time(run.at, now), sort=run.at.timestamp()),
            Cell("● ok" if run.outcome == "ok" else "● budget" if run.ok else "✖ failed", "good" if run.ok else "bad"),
            cells.name(run.model_id, _MODEL),
            number(numbers.milliseconds(run.time_to_first_token), run.time_to_first_token),
            number(numbers.significant(run.tokens_per_second), run.tokens_per_second),
            number(numbers.count(run.output_tokens), run.output_tokens),
            number(numbers.milliseconds(run.gap_p95), run.gap_p95),
            number(numbers.milliseconds(run.gap_max), run.gap_max),
            Cell("coarse" if run.coarse else safe(run.clock), "warn" if run.coarse else "muted"),
            Cell("" if run.ok else f"{run.error_kind}: {run.message}"),
        ),
    )

"""What streams right now: a row for each stream, and the chosen one filling token by token."""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult

from llmbench.tui.commands import Subject
from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.views.live import live, stream
from llmbench.tui.widgets.grid import Grid
from llmbench.tui.widgets.lines import Panel

_NONE = (Cell("no stream is chosen", "muted"),)


class Live(Pane):
    key = "live"
    sentence = "What streams now, the oldest first, and the chosen stream as it fills, with its gaps."
    has_detail = True

    def body(self) -> ComposeResult:
        yield Grid(id="main")
        yield Panel(id="detail")

    def table(self, state: State, now: datetime) -> Table:
        return live(state, now, self.text_filter)

    def paint(self, state: State, now: datetime) -> None:
        panel = self.query_one("#detail", Panel)
        columns, rows = panel.content_size
        chosen = self.grid.chosen
        shown = _NONE if chosen is None else stream(state, chosen, now, columns, rows)
        panel.show([(cell,) for cell in shown])

    def subject(self, state: State) -> Subject | None:
        run = state.runs.get(self.grid.chosen or "")
        return Subject(run.provider, run.model_id, enabled=True) if run is not None else None

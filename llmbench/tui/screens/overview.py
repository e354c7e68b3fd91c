"""Is every lane alive and keeping up? A row for each provider, the worst first, and the engine behind them."""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult
from textual.containers import Vertical

from llmbench.tui.commands import Subject
from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from llmbench.tui.table import Table
from llmbench.tui.views.attempts import attempts
from llmbench.tui.views.engine import engine
from llmbench.tui.views.overview import overview
from llmbench.tui.widgets.grid import Grid


class Overview(Pane):
    key = "overview"
    sentence = "A row for each provider, the worst first: how it is and since when, and how fast for its ways."
    has_detail = True

    def body(self) -> ComposeResult:
        with Vertical(id="rows"):
            yield Grid(id="main")
            yield Grid(id="engine", quiet=True)
        yield Grid(id="detail")

    def table(self, state: State, now: datetime) -> Table:
        return overview(state, now, self.text_filter)

    def paint(self, state: State, now: datetime) -> None:
        self.query_one("#engine", Grid).show(engine(state, now))
        self.query_one("#detail", Grid).show(attempts(state, self.grid.chosen or "", now))

    def subject(self, state: State) -> Subject | None:
        chosen = self.grid.chosen
        return Subject(chosen) if chosen in state.lanes else None

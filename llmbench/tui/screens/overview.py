"""Is every lane alive and keeping up? A row for each provider, the worst first, and the engine behind them."""

from __future__ import annotations

from datetime import datetime

from textual.app import ComposeResult
from textual.containers import Vertical

from llmbench.tui.cells import NAME_LIMIT
from llmbench.tui.commands import Subject
from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.text import safe
from llmbench.tui.views.attempts import attempts
from llmbench.tui.views.engine import engine
from llmbench.tui.views.overview import overview
from llmbench.tui.widgets.grid import Grid
from llmbench.tui.widgets.lines import Lines


class Overview(Pane):
    key = "overview"
    sentence = (
        "A row for each provider, the worst first: how it is, since when, and its speed beside what is usual for it. "
        "Ok and failed count the runs that this view knows: up to 20 from before it began, and all since."
    )
    has_detail = True

    def body(self) -> ComposeResult:
        yield Grid(id="main")
        with Vertical(id="detail"):
            yield Lines(id="about")
            yield Grid(id="attempts")
        yield Grid(id="engine", quiet=True)

    def table(self, state: State, now: datetime) -> Table:
        return overview(state, now, self.text_filter)

    def paint(self, state: State, now: datetime) -> None:
        self.query_one("#engine", Grid).show(engine(state, now))
        chosen = self.grid.chosen
        self.query_one("#attempts", Grid).show(attempts(state, chosen or "", now))
        about = "no provider is chosen" if chosen is None else f"What {safe(chosen, NAME_LIMIT)} did lately"
        self.query_one("#about", Lines).show([(Cell(about, "accent"),)])

    def subject(self, state: State) -> Subject | None:
        chosen = self.grid.chosen
        return Subject(chosen) if chosen is not None and chosen in state.lanes else None

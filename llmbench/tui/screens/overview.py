"""Is every lane alive and keeping up? A row for each provider, the worst first, and the engine behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from textual.app import ComposeResult
from textual.containers import Vertical

from llmbench.tui.commands import Subject
from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.views import frame
from llmbench.tui.views.attempts import attempts
from llmbench.tui.views.engine import engine
from llmbench.tui.views.overview import about, overview
from llmbench.tui.widgets.drawing import Line
from llmbench.tui.widgets.grid import Grid
from llmbench.tui.widgets.lines import Lines

_FEW_ABOUT = 4
_MOST_ABOUT = 20
"""Lines of the chosen provider's trouble: beside the table, and in the panel alone."""


class Overview(Pane):
    key = "overview"
    sentence = (
        "A row for each provider, the worst first: how it is, since when, and its speed. "
        "TTFT × and tok/s × are how many times what is usual for it they are. "
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
        self.query_one("#about", Lines).show(list(self._about(about(state, chosen, now))))

    def _about(self, told: Iterable[Cell]) -> Iterator[Line]:
        """Yield the lines over the runs of the chosen provider; beside the table there is no room for long ones."""
        most = _MOST_ABOUT if self.has_class("-detail") else _FEW_ABOUT
        return ((Cell(line, cell.tone),) for cell in told for line in frame.hanging(cell.text, self.size.width, most))

    def subject(self, state: State) -> Subject | None:
        chosen = self.grid.chosen
        return Subject(chosen) if chosen is not None and chosen in state.lanes else None

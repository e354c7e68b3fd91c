"""What happened, line by line, the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from textual.app import ComposeResult

from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.text import wrap
from llmbench.tui.views.log import Level, log
from llmbench.tui.widgets.grid import Grid
from llmbench.tui.widgets.lines import Panel

_LEVELS: Final[tuple[Level | None, ...]] = (None, "warning", "error")


class Log(Pane):
    key = "log"
    sentence = "What happened, in the words of the engine's own log, the newest first."
    has_detail = True

    def __init__(self) -> None:
        super().__init__()
        self._level: Level | None = None

    def body(self) -> ComposeResult:
        yield Grid(id="main")
        yield Panel(id="detail")

    def table(self, state: State, now: datetime) -> Table:
        return log(state, now, self.text_filter, self._level)

    def notices(self, state: State, now: datetime) -> Iterator[Cell]:
        if self._level is not None:
            yield Cell(f"only {self._level}s and worse are shown; f shows others", "accent")

    def paint(self, state: State, now: datetime) -> None:
        panel = self.query_one("#detail", Panel)
        row = self.grid.chosen_row
        whole = "  ".join(cell.full or cell.text for cell in row.cells) if row is not None else ""
        panel.show([(Cell(line),) for line in wrap(whole, panel.content_size.width)])

    def action_show(self) -> None:
        self._level = _LEVELS[(_LEVELS.index(self._level) + 1) % len(_LEVELS)]
        self.touch()

"""The store, the spool, and what the store would not take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from textual.app import ComposeResult
from textual.containers import VerticalScroll

from llmbench.tui.answers import SpoolAnswer
from llmbench.tui.bindings import Command
from llmbench.tui.history import HistoryError
from llmbench.tui.question import Question
from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.dialogs import Confirm
from llmbench.tui.screens.stored import ask_if_due, ask_now, history_of
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.text import safe, wrap
from llmbench.tui.views import frame
from llmbench.tui.views.answered import standing
from llmbench.tui.views.storage import detail, facts, quarantine, row_of
from llmbench.tui.widgets.drawing import Line
from llmbench.tui.widgets.lines import Lines

_LABEL = 12
_LONGEST = 200
_MOST_LINES = 3
_BESIDES = 4
"""Cells that a text leaves to a border, to padding and to a scrollbar."""


class Storage(Pane):
    """How full the spool is, how the store is, and the quarantine."""

    key = "storage"
    sentence = "Is everything stored that was measured, and what is not, and why?"

    has_detail = True
    DEFAULT_CSS = """
    Storage #facts { height: auto; }
    Storage.-detail #facts { display: none; }
    Storage #detail { display: none; }
    Storage #outcome { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.question: Question[SpoolAnswer] = Question(lambda: history_of(self).storage())

    def body(self) -> ComposeResult:
        yield Lines(id="facts")
        yield from super().body()
        with VerticalScroll(id="detail"):
            yield Lines(id="outcome")

    def frame(self, now: datetime) -> None:
        ask_if_due(self, self.question)

    def table(self, state: State, now: datetime) -> Table:
        return quarantine(state, self.question.standing, now, self.text_filter)

    def notices(self, state: State, now: datetime) -> Iterator[Cell]:
        yield from standing(self.question.standing, now, "spool")

    def paint(self, state: State, now: datetime) -> None:
        told = facts(state, self.question.standing, now)
        self.query_one("#facts", Lines).show([line for fact in told for line in self._fact(*fact)])
        self.query_one("#outcome", Lines).show(list(self._outcome(now)))

    def _fact(self, name: str, cell: Cell) -> Iterator[Line]:
        """Yield a fact as a line, or as some: a reason tells what to do at its end."""
        room = self.size.width - _LABEL
        for nth, line in enumerate(frame.hanging(cell.text, room, _MOST_LINES)):
            yield Cell(("" if nth else name).ljust(_LABEL), "muted"), Cell(line, cell.tone)

    def _outcome(self, now: datetime) -> Iterator[Line]:
        row = row_of(self.question.standing, self.grid.chosen)
        found = [Cell("it is in quarantine no more", "muted")] if row is None else detail(row, now)
        return ((Cell(line, cell.tone),) for cell in found for line in wrap(cell.text, self.size.width - _BESIDES))

    def unfit(self, command: Command) -> str | None:
        return "no outcome is chosen" if command.id == "retry" and self.grid.chosen is None else super().unfit(command)

    def action_retry(self) -> None:
        """Have the chosen outcome delivered again, if a person says yes."""
        row = row_of(self.question.standing, self.grid.chosen)
        if row is None:
            self.dashboard.tell("no outcome is chosen")
            return
        what = safe(f"{row.model or row.id}, {row.reason or 'in quarantine'}", _LONGEST)

        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._retry(row.id))

        self.app.push_screen(Confirm(f"Send it to the store again? {what}", "send it again", "leave it"), answered)

    async def _retry(self, outcome_id: str) -> None:
        try:
            released = await history_of(self).retry(outcome_id)
        except HistoryError as error:
            self.dashboard.tell(str(error), bad=True)
            return
        self.dashboard.tell("it is due again" if released else "it stays: of two with one id only the first is sent")
        await self.question.ask()
        self.touch()

    def action_reload(self) -> None:
        ask_now(self, self.question)

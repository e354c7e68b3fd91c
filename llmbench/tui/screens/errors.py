"""Failures by fingerprint, and all of one group."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import msgspec
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from llmbench.tui.answers import Errors as StoredErrors
from llmbench.tui.question import Question
from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.stored import Remembered, ask_if_due, ask_now, history_of
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.text import wrap
from llmbench.tui.views.answered import standing
from llmbench.tui.views.errors import counted, detail, errors, merged, summed_up
from llmbench.tui.widgets.lines import Lines

WINDOW: Final = timedelta(hours=24)

_BESIDES = 4
"""Cells that the raw text leaves to a border, to padding and to a scrollbar."""


class Errors(Pane):
    """Every sort of failure of a day, what goes on first; of one its raw text and what to do."""

    key = "errors"
    sentence = "What fails, since when, in which words, and what is to be done?"
    has_detail = True
    DEFAULT_CSS = """
    Errors #detail { display: none; }
    Errors #group { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.question: Question[StoredErrors] = Question(self._ask_errors)
        self._fingerprint: str | None = None
        self._table: Remembered[Table] = Remembered()

    def body(self) -> ComposeResult:
        yield from super().body()
        with VerticalScroll(id="detail"):
            yield Lines(id="group")

    def frame(self, now: datetime) -> None:
        ask_if_due(self, self.question)

    async def _ask_errors(self) -> StoredErrors:
        answer = await history_of(self).errors(self.dashboard.clock() - WINDOW)
        return msgspec.structs.replace(answer, live=counted(self.dashboard.state.errors))

    def table(self, state: State, now: datetime) -> Table:
        same = (self.question.version, self.text_filter, now.replace(microsecond=0))
        return self._table.get(
            same, (state.errors,), lambda: errors(self.question.standing, state, now, self.text_filter)
        )

    def notices(self, state: State, now: datetime) -> Iterator[Cell]:
        if summary := summed_up(self.question.standing, now):
            yield Cell(summary)
        yield from standing(self.question.standing, now, alone=bool(state.errors))

    def paint(self, state: State, now: datetime) -> None:
        if self._fingerprint is None:
            return
        groups = merged(self.question.standing, state.errors)
        group = groups.get(self._fingerprint)
        cells = [Cell("it is in the window no more", "muted")] if group is None else detail(group, groups, now)
        room = max(self.size.width - _BESIDES, _BESIDES)
        lines = [(Cell(line, cell.tone),) for cell in cells for line in wrap(cell.text, room)]
        self.query_one("#group", Lines).show(lines)

    def _toggle_detail(self) -> None:
        opened = None if self._fingerprint is not None else self.grid.chosen
        if opened is None and self._fingerprint is None:
            return
        self._fingerprint = opened
        self.set_class(opened is not None, "-detail")
        self.query_one("#detail" if opened is not None else "#main").focus()
        self.touch()

    def action_reload(self) -> None:
        ask_now(self, self.question)

"""The keys of a screen: what is focused first, then the screen's own, then those that every screen has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from llmbench.tui.bindings import PANES, Command
from llmbench.tui.table import Cell
from llmbench.tui.text import width
from llmbench.tui.widgets.drawing import Line
from llmbench.tui.widgets.lines import Lines

Entry = tuple[Command, str, str | None]
"""A command, its keys as they are written, and why it can't be carried out now, if it can't."""


def help_lines(entries: Sequence[Entry], *, table_first: bool) -> Iterator[Line]:
    """Yield the lines of the help; ``table_first``: the table has the focus."""
    widest = max((width(keys) for _command, keys, _why in entries), default=0)
    for heading, wanted in _groups(table_first=table_first):
        yield (Cell(heading, "accent"),)
        for command, keys, why in entries:
            if _group(command) == wanted:
                yield _line(command, keys, why, widest)
        yield ()


def _groups(*, table_first: bool) -> list[tuple[str, str]]:
    groups = [("The table", "table"), ("This screen", "screen"), ("Everywhere", "everywhere")]
    return groups if table_first else [groups[1], groups[0], groups[2]]


def _group(command: Command) -> str:
    if command.table:
        return "table"
    return "everywhere" if command.on == PANES else "screen"


def _line(command: Command, keys: str, why: str | None, widest: int) -> Line:
    tip = Cell(command.tip, "plain" if why is None else "muted")
    blanks = " " * (widest - width(keys))
    line = (Cell(f"  {keys}{blanks}  ", "good" if why is None else "muted"), Cell(f"{command.label:9}", "plain"), tip)
    return line if why is None else (*line, Cell(f" Not now: {why}.", "warn"))


class Help(ModalScreen[None]):
    """Help for a screen; any of its own keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,f1,q,enter", "leave", "Close")]

    def __init__(self, sentence: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self._sentence = sentence
        self._shown = lines

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._sentence, classes="question", markup=False)
            with VerticalScroll():
                yield Lines(self._shown)
            yield Static("↑ ↓ scroll · esc closes", classes="foot", markup=False)

    def action_leave(self) -> None:
        self.dismiss()

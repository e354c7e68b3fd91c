"""The keys at the foot of a screen, one line. Textual's own footer makes its widgets anew whenever a key changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from textual import events
from textual.message import Message

from llmbench.tui.table import Cell
from llmbench.tui.text import width
from llmbench.tui.widgets.drawing import Line
from llmbench.tui.widgets.lines import Lines

_GAP: Final = 2
_KEPT: Final = 2
"""The last ones, help and quitting, stay however narrow it is."""


class Hint(NamedTuple):
    """A command's key as it is written, and its label; ``grey`` if it can't be carried out now."""

    command: str
    key: str
    label: str
    grey: bool = False

    @property
    def width(self) -> int:
        return width(self.key) + width(self.label) + 1


def fitting(hints: Sequence[Hint], columns: int) -> list[Hint]:
    """Return the hints that fit: grey ones go first, then those at the end."""
    kept = list(hints)
    while sum(hint.width + _GAP for hint in kept) - _GAP > columns and len(kept) > _KEPT:
        grey = [place for place, hint in enumerate(kept[:-_KEPT]) if hint.grey]
        del kept[grey[-1] if grey else -_KEPT - 1]
    return kept


class KeyBar(Lines):
    """A line of hints; a click on one is as its key."""

    class Pressed(Message):
        """A hint was clicked."""

        def __init__(self, command: str) -> None:
            super().__init__()
            self.command = command

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._told: tuple[Hint, ...] = ()
        self._hints: list[Hint] = []

    def hint(self, hints: Sequence[Hint]) -> None:
        """Show these hints from now on, those that fit."""
        self._told = tuple(hints)
        self._fit()

    def on_resize(self) -> None:
        self._fit()

    def _fit(self) -> None:
        self._hints = fitting(self._told, self.size.width)
        self.show([[cell for nth, hint in enumerate(self._hints) for cell in _cells(hint, _GAP if nth else 0)]])

    def on_click(self, event: events.Click) -> None:
        end = 0
        for hint in self._hints:
            end += hint.width + _GAP
            if event.x < end:
                self.post_message(self.Pressed(hint.command))
                return


def _cells(hint: Hint, gap: int) -> Line:
    key = f"{' ' * gap}{hint.key}"
    label = f" {hint.label}"
    return (Cell(key, "muted"), Cell(label, "muted")) if hint.grey else (Cell(key, "accent"), Cell(label))

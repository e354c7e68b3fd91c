"""What is around every screen: its title, the banner as far as there is room, and what is said if there is none."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from llmbench.tui import verdicts
from llmbench.tui.bindings import BY_ID, PANES
from llmbench.tui.numbers import clock_time, time_of_day, zone
from llmbench.tui.state import State
from llmbench.tui.table import Cell
from llmbench.tui.text import cut, safe, shorten, width, wrap

LEAST_WIDTH: Final = 60
LEAST_HEIGHT: Final = 15

_SHORT: Final = 20
_TALL: Final = 30
_MOST_LINES: Final = 2
_ROOM_FOR_BOTH: Final = 4
"""Rows from which on what is needed may take two."""

"""Lines that one trouble gets at most."""

_INDENT: Final = "  "


def title(state: State, now: datetime, pane: str, columns: int) -> tuple[Cell, ...]:
    """Return the line on top: the screens with their digits, the connection, the time and the zone of all times."""
    link = verdicts.link(state, now)
    said = Cell(link.text, link.tone)
    time, minutes = (Cell(f" {text} {zone(now)}", "muted") for text in (clock_time(now, now), time_of_day(now, now)))
    wide, narrow, digits = _names(pane, "  "), _names(pane, " "), _digits(pane)
    ways = ((wide, [said, time]), (narrow, [said, time]), (narrow, [said, minutes]), (narrow, [said]))
    left, right = next((way for way in ways if _width(way[0]) + _width(way[1]) < columns), (digits, [said, time]))
    blanks = max(columns - _width(left) - _width(right), 1)
    return (*left, Cell(" " * blanks), *right)


def _width(line: list[Cell]) -> int:
    return sum(width(cell.text) for cell in line)


def _names(pane: str, gap: str) -> list[Cell]:
    return [_tab(name, f"{number} {BY_ID[name].label}", pane, gap) for number, name in enumerate(PANES, 1)]


def _digits(pane: str) -> list[Cell]:
    return [
        _tab(name, f"{number} {BY_ID[name].label}" if name == pane else str(number), pane, " ")
        for number, name in enumerate(PANES, 1)
    ]


def _tab(name: str, text: str, pane: str, gap: str) -> Cell:
    return Cell(f"[{text}]{gap}", "accent") if name == pane else Cell(f"{text}{gap}", "muted")


def laid_out(banner: tuple[Cell, ...], columns: int, rows: int) -> tuple[Cell, ...]:
    """Return of a banner the lines that there is room for on such a screen.

    Each trouble has one, the worst have a second one as long as there are some left; how many are left out is said.
    What is too long is told as in ``full``, which leaves out when it is looked at again.
    """
    most = 3 if rows < _SHORT else 4 if rows < _TALL else 8
    shown = _shortened(banner, most)
    spare = most - len(shown)
    found: list[Cell] = []
    for trouble in shown:
        most_here = min(1 + spare, _MOST_LINES)
        whole = len(_hung(trouble.text, columns)) <= most_here
        lines = hanging(trouble.text if whole else trouble.full or trouble.text, columns, most_here)
        spare -= len(lines) - 1
        found += (Cell(line, trouble.tone) for line in lines)
    return tuple(found)


def _shortened(banner: tuple[Cell, ...], most: int) -> tuple[Cell, ...]:
    if len(banner) <= most:
        return banner
    left_out = len(banner) - most + 1
    return (*banner[: most - 1], Cell(f"… and {left_out} more", banner[most - 1].tone))


def hanging(text: str, columns: int, most: int) -> list[str]:
    """Return a text in at most so many lines, the later ones indented.

    If it is too long it loses its middle: who it is about is at its beginning, and what to do at its end.
    """
    room = columns * most
    lines = _hung(text, columns)
    while len(lines) > most and most > 1:
        lines = _hung(shorten(text, room), columns)
        room -= max(sum(map(width, lines[most:])) // 3, 1)  # in big steps while there is much too much
    return lines if len(lines) <= most else [cut(text, columns)]


def _hung(text: str, columns: int) -> list[str]:
    first = wrap(text, columns)[0]
    rest = text[len(first) :].lstrip()
    return [first, *(f"{_INDENT}{line}" for line in wrap(rest, columns - len(_INDENT)))] if rest else [first]


def is_too_small(columns: int, rows: int) -> bool:
    return columns < LEAST_WIDTH or rows < LEAST_HEIGHT


def too_small(columns: int, rows: int, banner: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Return what is shown on a terminal that is too small for anything else: what it needs, and the worst news."""
    need = f"terminal too small ({columns}×{rows}), need {LEAST_WIDTH}×{LEAST_HEIGHT}"
    worst = banner[0] if banner else Cell("● nothing is known to be wrong", "good")
    needed = hanging(need, columns, 2 if rows >= _ROOM_FOR_BOTH else 1)
    told = hanging(worst.text, columns, max(rows - len(needed), 1))
    return (*(Cell(line, "warn") for line in needed), *(Cell(line, worst.tone) for line in told))


def filtering(text_filter: str, shown: int) -> Cell:
    """Return the line that tells of a filter."""
    rows = "1 row" if shown == 1 else f"{shown} rows"
    return Cell(f"only what holds {safe(text_filter, 60)!r} is shown: {rows}; esc clears the filter", "accent")


def paused(now: datetime) -> Cell:
    """Return the line that tells of a view that was held still at ``now``."""
    return Cell(f"‖ this view is as of {clock_time(now, now)}; measuring goes on; p lets the view go on", "accent")

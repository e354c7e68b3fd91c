"""A plot in cells: steps over time, as braille or as ASCII. A gap in the data is a gap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import msgspec

from llmbench.tui.numbers import significant

GUTTER: Final = 7
"""Cells to the left for the figures of the axis."""

_BRAILLE: Final = 0x2800
_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""What each of the two columns of four dots adds to the character (Unicode, Braille Patterns)."""

_QUARTERS: Final = 4
_ROWS_OF_QUARTERS: Final = 13
"""With fewer rows only the half has a figure, besides both ends."""

_CELLS_OF_A_LABEL: Final = 16
_LEAST: Final = 1e-12
"""Below this is nothing that could be told from 0."""

_END: Final = "now"
_SHORT: Final = timedelta(days=2)
"""A window up to this long has times of day under it. An answer of before makes it longer than it was chosen."""

_STEPS: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """What is plotted: values by the part of the window that they are of, counted from 0; parts may be missing.

    ``n`` is how many runs are behind them; the heading names the unit.
    """

    heading: str
    since: datetime
    width: timedelta
    parts: int
    values: tuple[tuple[int, float], ...]
    n: int
    empty: str


def drawn(plot: Plot, columns: int, rows: int, now: datetime, *, ascii_only: bool = False) -> list[tuple[str, str]]:
    """Return lines of at most ``columns`` cells, ``rows`` in all: the axis with its figures, and what is beside it."""
    cells, height = columns - GUTTER, _whole_quarters(rows - 3)
    if cells < _CELLS_OF_A_LABEL or height < 2:
        return [("", "too small for a plot")]
    heading = ("", plot.heading[: columns - 1])
    if not plot.values:
        return [heading, ("", plot.empty)]
    highest = ceiling(max(value for _part, value in plot.values))
    canvas = _Canvas(cells, height, 1 if ascii_only else 2, 1 if ascii_only else 4)
    _draw(canvas, plot, highest)
    lines = list(canvas.lines())
    axis = ["+" if ascii_only else "└", "-" if ascii_only else "─"]
    return [
        heading,
        *zip(_figures(height, highest, ascii_only=ascii_only), lines, strict=True),
        (axis[0].rjust(GUTTER), axis[1] * cells),
        ("", " " * GUTTER + _times(plot, cells, now)),
    ]


def _whole_quarters(rows: int) -> int:
    """Return the height at which every quarter of the axis has a row of its own, so that its figure is a round one."""
    return rows - (rows - 1) % _QUARTERS if rows > _QUARTERS else rows


def ceiling(highest: float) -> float:
    """Return a round figure that is not below the highest value: where the axis ends."""
    if not _LEAST < highest < math.inf:
        return 1.0
    size = 10.0 ** math.floor(math.log10(highest))
    return next(step * size for step in _STEPS if step * size >= highest * (1 - 1e-9))


class _Canvas:
    """Dots in cells, ``across`` by ``down`` of them in each. The first row is the lowest."""

    def __init__(self, cells: int, height: int, across: int, down: int) -> None:
        self.columns, self.rows = cells * across, height * down
        self._across, self._down = across, down
        self._cells = [[0] * cells for _ in range(height)]

    def dot(self, x: int, y: int) -> None:
        below_top = self.rows - 1 - min(max(y, 0), self.rows - 1)
        column, row = min(max(x, 0), self.columns - 1), below_top
        bit = _DOTS[column % self._across][row % self._down]
        self._cells[row // self._down][column // self._across] |= bit

    def lines(self) -> Iterator[str]:
        for row in self._cells:
            yield "".join(map(self._char, row))

    def _char(self, dots: int) -> str:
        if self._across == 1:
            return "*" if dots else " "
        return chr(_BRAILLE + dots) if dots else " "


def _draw(canvas: _Canvas, plot: Plot, highest: float) -> None:
    for part, value in plot.values:
        start, end = _edge(canvas, plot, part), _edge(canvas, plot, part + 1)
        for x in range(start, max(end, start + 1)):
            canvas.dot(x, _height(canvas, value, highest))
    for (part, value), (following, other) in pairwise(plot.values):
        if following == part + 1:
            low, high = sorted((_height(canvas, value, highest), _height(canvas, other, highest)))
            for y in range(low, high + 1):
                canvas.dot(_edge(canvas, plot, following), y)


def _edge(canvas: _Canvas, plot: Plot, part: int) -> int:
    return part * canvas.columns // plot.parts


def _height(canvas: _Canvas, value: float, highest: float) -> int:
    return round(value / highest * (canvas.rows - 1))


def _figures(height: int, highest: float, *, ascii_only: bool) -> Iterator[str]:
    ticks = _QUARTERS if height >= _ROWS_OF_QUARTERS else 2 if height > _QUARTERS else 1
    every = (height - 1) // ticks
    for row in range(height):
        above_bottom = height - 1 - row
        ticked = above_bottom % every == 0
        figure = significant(highest * above_bottom / (height - 1)) if ticked else ""
        tick = ("+" if ascii_only else "┤") if ticked else ("|" if ascii_only else "│")
        yield figure.rjust(GUTTER - 1)[: GUTTER - 1] + tick


def _times(plot: Plot, cells: int, now: datetime) -> str:
    """Return the labels under the axis, each under the beginning of what it names; a plot ends now.

    The first of a day is that day's date, too.
    """
    span = plot.width * plot.parts
    count = max(1, cells // _CELLS_OF_A_LABEL)
    times = [(plot.since + span * n / count).astimezone(now.tzinfo) for n in range(count)]
    labels = [f"{at:%m-%d}" for at in times]
    if span <= _SHORT:
        anew = [True, *(before.date() != at.date() for before, at in pairwise(times))]
        labels = [f"{at:%m-%d %H:%M}" if new else f"{at:%H:%M}" for at, new in zip(times, anew, strict=True)]
    line = "".join(label.ljust(cells // count) for label in labels)
    return line[: cells - len(_END)].ljust(cells - len(_END)) + _END


def series(values: Sequence[tuple[int, float]], parts: int) -> list[float | None]:
    """Return a value for each part, None where there is none: as a sparkline takes it."""
    known = dict(values)
    return [known.get(part) for part in range(parts)]

"""Which columns of a table fit, how its rows are sorted, and where its cursor is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from llmbench.tui.table import Cell, Column, Row, Table

GAP: Final = 1
LEAST_REST: Final = 18
"""Cells that the column which takes what is left gets at least, as long as another one can go."""


class Fitted(NamedTuple):
    """A column that is drawn: its place in the table, and its width in cells."""

    place: int
    width: int
    right: bool
    keeps_end: bool = False


class Order(NamedTuple):
    """By which column (its place in the table) rows are sorted, None for the table's own order."""

    column: int | None = None
    reverse: bool = False


def fitted(columns: Sequence[Column], width: int) -> tuple[Fitted, ...]:
    """Return the columns that fit into ``width`` cells, in their order; what may never go is cut at the edge."""
    kept = list(range(len(columns)))
    while _needed(columns, kept) > width and (droppable := [index for index in kept if columns[index].drop]):
        worst = max(columns[index].drop for index in droppable)
        kept = [index for index in kept if columns[index].drop != worst]
    return tuple(_widths(columns, kept, width))


def _needed(columns: Sequence[Column], kept: Sequence[int]) -> int:
    return sum(columns[index].width or LEAST_REST for index in kept) + GAP * (len(kept) - 1)


def _widths(columns: Sequence[Column], kept: Sequence[int], width: int) -> list[Fitted]:
    rest = width - GAP * (len(kept) - 1) - sum(columns[index].width for index in kept)
    found, left = [], width
    for index in kept:
        wanted = min(columns[index].width or max(rest, 1), left)
        if wanted > 0:
            found.append(Fitted(index, wanted, columns[index].right, columns[index].keeps_end))
        left -= wanted + GAP
    return found


def ordered(table: Table, order: Order) -> tuple[Row, ...]:
    """Return a table's rows as sorted by a column. What has no number comes after what has one, either way round."""
    index = order.column
    if index is None or index >= len(table.columns):
        return tuple(reversed(table.rows)) if order.reverse else table.rows
    numbers = [row for row in table.rows if isinstance(row.cells[index].sort, int | float)]
    texts = [row for row in table.rows if not isinstance(row.cells[index].sort, int | float)]
    numbers.sort(key=lambda row: float(row.cells[index].sort or 0), reverse=order.reverse)
    texts.sort(key=lambda row: _text(row.cells[index]), reverse=order.reverse)
    return (*numbers, *texts)


def _text(cell: Cell) -> str:
    return str(cell.text if cell.sort is None else cell.sort).casefold()


class Cursor(NamedTuple):
    """Where the cursor is. It follows its row's key once somebody has moved it; before that it stays on top."""

    place: int = 0
    key: str | None = None
    moved: bool = False

    def on(self, rows: Sequence[Row]) -> Cursor:
        """Return where it is among these rows."""
        if not rows:
            return Cursor(0, None, self.moved)
        if not self.moved:
            return Cursor(0, rows[0].key)
        if self.place < len(rows) and rows[self.place].key == self.key:
            return self
        found = next((index for index, row in enumerate(rows) if row.key == self.key), None)
        return self.at(rows, self.place if found is None else found)

    def at(self, rows: Sequence[Row], index: int) -> Cursor:
        """Return it moved to the row with this index, or to the nearest one."""
        if not rows:
            return Cursor(0, None, True)
        index = min(max(index, 0), len(rows) - 1)
        return Cursor(index, rows[index].key, True)

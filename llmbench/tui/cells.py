"""Cells of tables, made of numbers and of names. Whatever is foreign is made safe to draw here, at the latest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from llmbench.tui.numbers import is_known
from llmbench.tui.table import Cell, Row, Table, Tone
from llmbench.tui.text import safe, shorten

NAME_LIMIT: Final = 200
_CACHED: Final = 1024


@lru_cache(_CACHED)
def name(text: str, width: int, tone: Tone = "plain") -> Cell:
    """Return a name in a column, without its middle if it is too long."""
    whole = safe(text, NAME_LIMIT)
    short = shorten(whole, width)
    return Cell(short, tone, sort=whole, full=None if short == whole else whole)


def words(text: str, tone: Tone = "plain") -> Cell:
    """Return foreign text in a column that takes what is left."""
    return Cell(safe(text), tone)


def number(text: str, value: float | None, tone: Tone = "plain") -> Cell:
    """Return a number as it is written, to be sorted by its value if it is known."""
    known = is_known(value)
    return Cell(text, tone if known else "muted", sort=value if known else None)


def matches(row: Row, text_filter: str) -> bool:
    """Say whether a cell of a row has a text in it, in upper or lower case."""
    wanted = text_filter.casefold()
    return any(wanted in (cell.full or cell.text).casefold() for cell in row.cells)


def filtered(rows: Iterable[Row], text_filter: str) -> tuple[Row, ...]:
    """Return the rows that match a filter; all if it is empty."""
    return tuple(row for row in rows if not text_filter or matches(row, text_filter))


def nothing_matches(what: str, text_filter: str) -> str:
    """Return what is shown instead of rows that a filter hides."""
    return f"no {what} matches {safe(text_filter, 60)!r}; esc clears the filter"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its word."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def dimmed(table: Table) -> Table:
    """Return a table in muted tones: what it shows is old."""
    rows = tuple(Row(row.key, _muted(row.cells)) for row in table.rows)
    return msgspec.structs.replace(table, rows=rows)


def _muted(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    return tuple(Cell(cell.text, "muted", cell.sort, cell.full) for cell in cells)

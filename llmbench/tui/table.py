"""What a screen shows, as plain data: made by pure functions of the state, drawn by a widget that knows no state.

Text in a cell is data. It is cleaned where it enters the state (`llmbench.tui.text`), and is never read as markup.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Tone = Literal["plain", "good", "warn", "bad", "muted", "accent"]
"""What a cell means; themes make colours of it, and a glyph and a word always say it, too."""


class Cell(msgspec.Struct, frozen=True):
    """``sort`` is what a column is sorted by, the text if None; ``full`` is what is copied where ``text`` is short."""

    text: str
    tone: Tone = "plain"
    sort: float | str | None = None
    full: str | None = None


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """``width`` is in cells, 0 for the one that takes what is left.

    Of columns that don't fit, those with the highest ``drop`` go first; 0 stays always. Where a text is too long, its
    end is left out, or with ``keeps_end`` its beginning. ``title`` is the name in full, where ``name`` is short.
    """

    name: str
    width: int
    right: bool = False
    keeps_end: bool = False
    drop: int = 0
    title: str | None = None


class Row(msgspec.Struct, frozen=True):
    """``key`` stays the same while its row is about the same thing: the cursor follows it."""

    key: str
    cells: tuple[Cell, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in their own order, worst first where there is one. ``empty`` is shown where there are none: words.

    ``hidden`` says what a filter hides that should be known ("2 failing providers hidden by the filter").
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: str
    hidden: str | None = None

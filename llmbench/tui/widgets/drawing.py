"""Cells and lines as Textual draws them: text is never markup, and a tone becomes what the theme has for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, get_args

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from llmbench.tui.table import Cell, Tone
from llmbench.tui.text import cut, tail, width

TONE_CLASSES: Final = frozenset(f"tone--{tone}" for tone in get_args(Tone))

Line = Sequence[Cell]
"""Cells beside each other, with nothing between them."""


def tone_style(widget: Widget, tone: Tone) -> Style:
    """Return a tone's style; the widget has `TONE_CLASSES` among its component classes."""
    return widget.get_component_rich_style(f"tone--{tone}", partial=True)


def padded(text: str, cells: int, *, right: bool = False, keeps_end: bool = False) -> str:
    """Return a text in exactly so many cells; if it is too long, without its end, or without its beginning."""
    shown = tail(text, cells) if keeps_end else cut(text, cells)
    blanks = " " * (cells - width(shown))
    return blanks + shown if right else shown + blanks


def line_strip(widget: Widget, line: Line, cells: int, base: Style) -> Strip:
    """Return a line in exactly so many cells."""
    segments = []
    left = cells
    for cell in line:
        shown = cut(cell.text, left)
        segments.append(Segment(shown, base + tone_style(widget, cell.tone)))
        left -= width(shown)
    return filled(segments, cells - left, cells, base)


def filled(segments: Iterable[Segment], taken: int, cells: int, base: Style) -> Strip:
    """Return segments that take ``taken`` cells as a strip, with blanks after them."""
    rest = max(cells - taken, 0)
    return Strip([*segments, Segment(" " * rest, base)], taken + rest)

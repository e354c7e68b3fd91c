"""The only writer to stdout (data) and stderr (narration). Tables fit the terminal; foreign text stays text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from llmbench.errors import clean


def line(text: str = "") -> None:
    """Write a line of data to stdout."""
    _write(text + "\n")


def json_line(document: Any) -> None:
    """Write one JSON object on one line: dates as RFC 3339, the keys of free-form parts sorted, as stores keep them."""
    _write(msgspec.json.encode(document, order="deterministic").decode() + "\n")


def _write(text: str) -> None:
    """Write to stdout at once: whether anybody reads it has to show while the command runs."""
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line for the person at the terminal to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[int] = (),
    wrap: int | Sequence[int] = (),
) -> None:
    """Write a table to stdout, as wide as the terminal at most, 80 columns where there is none.

    ``right`` names the columns with numbers; ``wrap`` the one or those that may be folded, all others are kept whole if
    they fit. NO_COLOR is honoured.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    numeric = set(right)
    folded = {wrap} if isinstance(wrap, int) else set(wrap)
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False, soft_wrap=False)
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        grid.add_column(
            name,
            justify="right" if index in numeric else "left",
            no_wrap=index not in folded,
            overflow="fold" if index in folded else "ellipsis",
        )
    for row in rows:
        grid.add_row(*(Text(clean(cell, 400)) for cell in row))
    with console.capture() as capture:  # rich would end the program itself, with code 1, if nobody read its output
        console.print(grid)
    _write(capture.get())


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds with three significant digits, or a dash for what is not known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with fixed decimals, or a dash for what is not known."""
    return "-" if value is None else f"{value:.{digits}f}"

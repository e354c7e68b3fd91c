"""The only writer to stdout (data) and stderr (narration). Tables fit the terminal; foreign text stays text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any, TextIO

import msgspec

from llmbench.errors import clean

_NARROW = 80
"""Columns; a table on a narrower terminal may be folded anywhere."""


class OutputError(OSError):
    """Standard output can't be written; the message is a sentence for a person."""


def line(content: str = "") -> None:
    """Write a line of data to stdout."""
    text(content + "\n")


def json_line(document: Any) -> None:
    """Write one JSON object on one line: dates as RFC 3339, the keys of free-form parts sorted, as stores keep them."""
    text(msgspec.json.encode(document, order="deterministic").decode() + "\n")


def text(whole: str) -> None:
    """Write to stdout at once: whether anybody reads it has to show while the command runs.

    Raises BrokenPipeError once nobody reads it, OutputError if it can't be written for another reason.
    """
    if not _is_open(sys.stdout):
        raise OutputError("standard output can't be written: it is closed")
    try:
        sys.stdout.write(whole)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        forget_stdout()
        raise OutputError(f"standard output can't be written: {error.strerror}") from error


def forget_stdout() -> None:
    """Keep the interpreter from complaining, when it flushes at the end, of what could not be written."""
    if _is_open(sys.stdout):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Write a line for the person at the terminal to stderr; with stderr closed there is nobody to tell."""
    if _is_open(sys.stderr):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def status(text: str) -> None:
    """Show this to the person at the terminal in the place of the last one; nothing takes the line back."""
    if _is_open(sys.stderr):
        sys.stderr.write(f"\r\x1b[2K{text}" if sys.stderr.isatty() else f"{text}\n" if text else "")
        sys.stderr.flush()


def _is_open(stream: TextIO | None) -> bool:
    """Python has None for a stream that was closed before the program began (``>&-``)."""
    return stream is not None


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[int] = (),
    wrap: int | Sequence[int] = (),
) -> None:
    """Write a table to stdout, as wide as the terminal at most, 80 columns where there is none.

    ``right`` names the columns with numbers; ``wrap`` the one or those that may be folded, all others are kept whole if
    they fit. On a terminal of less than 80 columns any may be folded. NO_COLOR is honoured.
    """
    cleaned = [[clean(cell, 400) for cell in row] for row in rows]
    numeric = set(right)
    on_terminal = _is_open(sys.stdout) and sys.stdout.isatty()
    if on_terminal or not _fits(columns, cleaned):
        shown = _laid_out(columns, cleaned, numeric, {wrap} if isinstance(wrap, int) else set(wrap))
    else:
        shown = _aligned(columns, cleaned, numeric)
    for shown_line in shown:
        line(shown_line.rstrip())


def _fits(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table needs no folding, and a character is a column wide."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1) < _NARROW and all(cell.isascii() for row in rows for cell in row)


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Container[int]) -> list[str]:
    """Return the lines of a table that fits, as rich would lay them out, which takes milliseconds for each row."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    heading, *lines = [
        "  ".join(
            cell.rjust(width) if index in numeric else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in [columns, *rows]
    ]
    return [heading, "─" * len(heading), *lines]


def _laid_out(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: Container[int], folded: set[int]
) -> list[str]:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Into memory first: rich would end the program itself, with code 1, if nobody read its output.
    shown = io.StringIO()
    on_terminal = _is_open(sys.stdout) and sys.stdout.isatty()
    console = Console(
        file=shown, force_terminal=on_terminal or None, width=None if on_terminal else _NARROW, highlight=False
    )
    if console.width < _NARROW:
        folded = set(range(len(columns)))
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        grid.add_column(
            name,
            justify="right" if index in numeric else "left",
            no_wrap=index not in folded,
            overflow="fold" if index in folded else "ellipsis",
        )
    for row in rows:
        grid.add_row(*map(Text, row))
    console.print(grid)
    return shown.getvalue().splitlines()


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds with three significant digits, or a dash for what is not known."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with fixed decimals, or a dash for what is not known."""
    return "-" if value is None else f"{value:.{digits}f}"

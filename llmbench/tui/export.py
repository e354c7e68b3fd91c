"""A screen as a file in the current folder: its table as CSV, or its picture as SVG. No file is ever replaced."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from llmbench.tui.table import Table

Ending = Literal["csv", "svg"]

_MOST_NAMES: Final = 100
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""With these, spreadsheets take a cell for a formula: OWASP, «CSV Injection»."""


class ExportError(Exception):
    """The file could not be written. The message is a sentence."""


def csv_of(table: Table) -> str:
    """Return a table as CSV (RFC 4180), texts in full; what a spreadsheet would take for a formula begins with «'»."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_harmless(column.title or column.name) for column in table.columns)
    for row in table.rows:
        writer.writerow(_harmless(cell.text if cell.full is None else cell.full) for cell in row.cells)
    return text.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def save(text: str, folder: Path, screen: str, ending: Ending, now: datetime) -> Path:
    """Write a new file for its owner alone and return its path; a name that is taken gets a number.

    Raises `ExportError`. It blocks: call it in a thread.
    """
    for name in _names(screen, ending, now):
        path = folder / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            raise _refused(path, error) from error
        _write(path, descriptor, text)
        return path
    raise ExportError(f"there are {_MOST_NAMES} files named like '{path}' already: move them away")


def _names(screen: str, ending: Ending, now: datetime) -> list[str]:
    stem = f"llmbench-{screen.lower()}-{now:%Y%m%d-%H%M%S}"
    return [f"{stem}.{ending}", *(f"{stem}-{n}.{ending}" for n in range(2, _MOST_NAMES + 1))]


def _write(path: Path, descriptor: int, text: str) -> None:
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> ExportError:
    return ExportError(f"'{path}' can't be written: {error.strerror}; start llmbench tui in a folder of your own")

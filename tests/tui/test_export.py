"""Screens as files: tables as CSV, new files only."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmbench.tui.export import ExportError, csv_of, save
from llmbench.tui.table import Cell, Column, Row, Table

NOW = datetime(2026, 3, 14, 12, 5, 9, tzinfo=UTC)


def table(*rows: tuple[Cell, ...]) -> Table:
    columns = (Column(name="Model", width=0), Column(name="What it said", width=20))
    return Table(columns=columns, rows=tuple(Row(str(n), cells) for n, cells in enumerate(rows)), empty="")


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_texts_are_whole() -> None:
    """What a cell shows short is in the file in full; quotes, commas and lines come back as they were."""
    text = csv_of(table((Cell("gro…q", full="groq/llama"), Cell('said "no", then\nnothing'))))

    assert read(text) == [["Model", "What it said"], ["groq/llama", 'said "no", then\nnothing']]


def test_a_short_name_of_a_column_is_whole() -> None:
    short = Table(columns=(Column(name="TTFT ×", title="TTFT × usual", width=7),), rows=(), empty="")

    assert read(csv_of(short)) == [["TTFT × usual"]]


@pytest.mark.parametrize("formula", ['=HYPERLINK("http://evil")', "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(formula: str) -> None:
    """What a spreadsheet would carry out is text there."""
    assert read(csv_of(table((Cell(formula), Cell("short", full=formula)))))[1] == [f"'{formula}", f"'{formula}"]


def test_the_file_is_named_after_screen_and_time(tmp_path: Path) -> None:
    path = save("a,b\r\n", tmp_path, "Errors", "csv", NOW)

    assert path == tmp_path / "llmbench-errors-20260314-120509.csv"
    assert path.read_bytes() == b"a,b\r\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_replaced(tmp_path: Path) -> None:
    """The second file of one second gets a number, a link at its name is left alone."""
    paths = [save(text, tmp_path, "log", "svg", NOW) for text in ("first", "second")]
    (tmp_path / "llmbench-log-20260314-120509-3.svg").symlink_to(tmp_path / "elsewhere")
    paths.append(save("third", tmp_path, "log", "svg", NOW))

    assert [path.read_text() for path in paths] == ["first", "second", "third"]
    assert [path.name[-5:-4] for path in paths[1:]] == ["2", "4"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_takes_no_file(tmp_path: Path) -> None:
    """It is a sentence that says what to do."""
    with pytest.raises(ExportError, match=r"can't be written: .*; start llmbench tui in a folder of your own"):
        save("a", tmp_path / "gone", "log", "csv", NOW)


def test_a_full_disk(tmp_path: Path) -> None:
    """What could not be written whole is not left behind."""
    import errno
    import os
    from unittest.mock import patch

    with (
        patch("llmbench.tui.export.os.fdopen", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        pytest.raises(ExportError, match="No space left on device"),
    ):
        save("a", tmp_path, "log", "csv", NOW)

    assert list(tmp_path.iterdir()) == []

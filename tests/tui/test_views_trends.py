"""Figures over time, as rows and as a plot."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.tui.answers import Asked, Trends
from llmbench.tui.views.plot import GUTTER, Plot, ceiling, drawn
from llmbench.tui.views.trends import MEASURES, WINDOWS, Measure, plot, trends
from tests.tui import answers
from tests.tui.answers import DAY, trend
from tests.tui.states import HOSTILE, NOW

ASKED = answers.trends(trend("groq", first=lambda n: 0.1), trend("openai", first=lambda n: 0.1 * (1 + n % 4)))
PARTS = DAY.span // DAY.width


@pytest.mark.parametrize(
    ("measure", "first", "cells"),
    [
        ("TTFT", "openai", ["400", "now", "100", "400", "648"]),
        ("speed", "groq", ["41.0", "now", "40.0", "46.0", "576"]),
        ("errors", "groq", ["0.00", "now", "0.00", "10.0", "666"]),
    ],
)
def test_a_row_for_each_provider(measure: Measure, first: str, cells: list[str]) -> None:
    """It has the last part, the range of all, and n, which is of the runs that have the figure; worst now first."""
    table = trends(ASKED, measure, DAY, NOW)

    assert table.rows[0].key == first
    assert [cell.text for cell in table.rows[0].cells[1:6]] == cells


@pytest.mark.parametrize(
    ("measure", "now", "line"), [("TTFT", "now ms", "0 to 400 ms"), ("errors", "now %", "0 to 10.0 %")]
)
def test_units_are_in_the_headings(measure: Measure, now: str, line: str) -> None:
    """The scale that sparklines share is there, too."""
    names = [column.name for column in trends(ASKED, measure, DAY, NOW).columns]
    assert (names[0], names[1], names[-1]) == ("Provider", now, line)


def test_models_of_one_provider() -> None:
    asked = answers.trends(trend("groq", "llama"), trend("groq", "mixtral"), provider="groq")
    table = trends(asked, "TTFT", DAY, NOW, "mix")

    assert [one.key for one in table.rows] == ["groq/mixtral"]
    assert table.columns[0].name == "Model"
    assert table.hidden == "1 hidden by the filter"


def test_a_provider_that_went_silent() -> None:
    """What is told as "now" says when it was; the sparkline ends in blanks."""
    silent = trend("groq", without=range(60, PARTS))
    [one] = trends(answers.trends(silent), "TTFT", DAY, NOW).rows

    assert (one.cells[2].text, one.cells[2].tone) == ("4 h 00 min", "warn")
    assert one.cells[6].text.endswith("    ")
    assert not one.cells[6].text.startswith(" ")


@pytest.mark.parametrize(
    ("asked", "text_filter", "words"),
    [
        (Asked[Trends](), "", "asking the store for trends …"),
        (Asked[Trends](trouble="it is locked"), "", "no trends: it is locked;"),
        (answers.trends(), "", "no run is stored from the last 24 h; w looks further back"),
        (ASKED, "zzz", "no trend matches 'zzz'; esc clears the filter"),
    ],
)
def test_words_in_place_of_rows(asked: Asked[Trends], text_filter: str, words: str) -> None:
    table = trends(asked, "TTFT", DAY, NOW, text_filter)
    assert table.rows == ()
    assert table.empty.startswith(words)


def test_windows_have_whole_parts() -> None:
    """Each has between 60 and 90 of them, which a plot in 80 columns can tell apart."""
    assert all(window.span % window.width == timedelta(0) for window in WINDOWS)
    assert [window.span // window.width for window in WINDOWS] == [60, 72, 84, 90]


class TestPlot:
    """One trend, drawn."""

    def lines(self, measure: Measure = "TTFT", *, ascii_only: bool = False, key: str = "openai") -> list[str]:
        made = plot(ASKED, key, measure, DAY, NOW)
        return ["".join(parts) for parts in drawn(made, 80, 15, NOW, ascii_only=ascii_only)]

    def test_heading_and_axes(self) -> None:
        """The heading has unit, window and n; figures go from 0 to a round one, times from the window's beginning."""
        lines = self.lines()

        assert lines[0] == "openai: median time to first token, ms · 24 h · n = 648"
        assert lines[1].startswith("   400┤")
        assert lines[-3].startswith("  0.00┤")
        assert lines[-1].split()[:2] == ["03-13", "12:07"]
        assert lines[-1].endswith(" now")
        assert len(lines) == 12
        assert all(len(line) <= 80 for line in lines)

    def test_figures_of_the_axis(self) -> None:
        """They are round, and evenly spaced: every quarter where there is room, else the half."""
        made = plot(ASKED, "openai", "TTFT", DAY, NOW)

        def figures(rows: int) -> list[str]:
            return [gutter.strip(" ┤") for gutter, _ in drawn(made, 80, rows, NOW) if "┤" in gutter]

        assert figures(20) == figures(16) == ["400", "300", "200", "100", "0.00"]
        assert figures(15) == figures(8) == ["400", "200", "0.00"]
        assert figures(6) == ["400", "0.00"]

    def test_ascii(self) -> None:
        """Where a terminal has no braille, nothing but ASCII is drawn, the heading aside."""
        lines = self.lines(ascii_only=True)
        assert all(line.isascii() for line in lines[1:])
        assert any("*" in line for line in lines)

    def test_a_gap_is_a_gap(self) -> None:
        """Where there were no runs nothing is drawn, and no line leads across."""
        made = plot(answers.trends(trend("groq", without=range(24, 48))), "groq", "TTFT", DAY, NOW)
        body = [line[GUTTER:] for line in ("".join(parts) for parts in drawn(made, GUTTER + 72, 12, NOW))][1:-2]
        columns = ["".join(column).strip() for column in zip(*(line.ljust(72) for line in body), strict=True)]

        assert [bool(column) for column in columns] == [not 24 <= n < 48 for n in range(72)]

    def test_nothing_to_draw(self) -> None:
        """It says so; a window that is too small for a plot says that."""
        none = msgspec.structs.replace(plot(ASKED, "openai", "TTFT", DAY, NOW), values=())
        assert drawn(none, 80, 15, NOW)[1] == ("", "no run has this figure")
        assert drawn(none, 20, 15, NOW) == drawn(none, 80, 4, NOW) == [("", "too small for a plot")]
        assert plot(ASKED, None, "TTFT", DAY, NOW).values == plot(Asked(), "x", "TTFT", DAY, NOW).values == ()

    def test_days_on_the_axis(self) -> None:
        """A window of several days is labelled with dates."""
        week = Plot(
            heading="",
            since=NOW - timedelta(days=7),
            width=timedelta(hours=2),
            parts=84,
            values=((0, 1.0),),
            n=1,
            empty="",
        )
        assert drawn(week, 80, 10, NOW)[-1][1].split()[0] == "03-07"

    @given(
        values=st.dictionaries(st.integers(0, 59), st.floats(0, 1e9, allow_nan=False), max_size=60),
        columns=st.integers(1, 200),
        rows=st.integers(1, 60),
        ascii_only=st.booleans(),
    )
    def test_it_never_leaves_its_place(
        self, values: dict[int, float], columns: int, rows: int, ascii_only: bool
    ) -> None:
        """Whatever the values and the room are, there are no more cells than there is room for."""
        made = Plot(
            heading="h" * 300,
            since=NOW,
            width=timedelta(minutes=6),
            parts=60,
            values=tuple(sorted(values.items())),
            n=len(values),
            empty="nothing",
        )
        lines = drawn(made, columns, rows, NOW, ascii_only=ascii_only)
        assert len(lines) <= max(rows, 1)
        if columns >= 22:
            assert all(len(gutter) + len(body) <= columns for gutter, body in lines)


@given(st.floats(1e-9, 1e12))
def test_the_axis_ends_at_a_round_figure(highest: float) -> None:
    """It is not below the highest value, and not far above it."""
    assert highest * 0.999 <= ceiling(highest) <= highest * 1.51


@pytest.mark.parametrize("measure", MEASURES)
def test_foreign_text_is_made_safe(measure: Measure) -> None:
    asked = answers.trends(trend(HOSTILE))
    [one] = trends(asked, measure, DAY, NOW).rows
    texts = [cell.text for cell in one.cells] + [plot(asked, one.key, measure, DAY, NOW).heading]
    assert all(text.isprintable() for text in texts)

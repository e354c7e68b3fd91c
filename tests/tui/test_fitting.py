"""Widgets have the height of what they show, whenever the screen happens to be laid out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from textual.app import App, ComposeResult
from textual.scroll_view import ScrollView
from textual.widget import Widget

from llmbench.tui.table import Cell, Column, Row, Table
from llmbench.tui.widgets.grid import Grid
from llmbench.tui.widgets.lines import Lines


@pytest.fixture
def anyio_backend() -> str:
    """Textual runs on asyncio's own loop."""
    return "asyncio"


class Two(App[None]):
    """Lines and a table, as high as what is in them."""

    CSS = "Lines, Grid { height: auto; }"

    def compose(self) -> ComposeResult:
        yield Lines(id="other")
        yield Lines(id="lines")
        yield Grid()

    def fill(self, count: int) -> None:
        cells = [(Cell(str(n)),) for n in range(count)]
        self.query_one("#lines", Lines).show(cells)
        rows = tuple(Row(key=cell.text, cells=(cell,)) for (cell,) in cells)
        self.query_one(Grid).show(Table(columns=(Column(name="n", width=0),), rows=rows, empty="nothing"))

    def lay_out(self, count: int) -> None:
        """Lay the screen out now, for another widget's sake."""
        other = self.query_one("#other", Lines)
        other.show([(Cell("something else"),)] * count)
        other._check_refresh()
        self.screen._refresh_layout()

    def heights(self) -> Iterator[int]:
        for widget in self.query("#lines, Grid").results(Widget):
            yield widget.size.height - (1 if isinstance(widget, ScrollView) else 0)


SIZES = [(1, 0, 4), (1, 2, 4), (1, 3, 4), (2, 5, 2), (3, 1, 3), (0, 3, 1), (9, 7, 2)]


@pytest.mark.parametrize(("before", "between", "after"), SIZES)
async def test_what_is_shown_twice_before_it_is_laid_out_once(before: int, between: int, after: int) -> None:
    """A layout that something else asked for, between two changes, does not make the first one's height stay."""
    app = Two()
    async with app.run_test() as pilot:
        app.fill(before)
        await pilot.pause()
        app.fill(between)
        app.lay_out(2)
        app.fill(after)
        await pilot.pause()

        assert list(app.heights()) == [after, after]

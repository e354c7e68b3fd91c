"""What is around every screen."""

from __future__ import annotations

import pytest

from llmbench.tui.bindings import PANES
from llmbench.tui.table import Cell
from llmbench.tui.text import width
from llmbench.tui.views import frame
from tests.tui import states
from tests.tui.states import NOW


def line(cells: tuple[Cell, ...]) -> str:
    return "".join(cell.text for cell in cells)


@pytest.mark.parametrize("columns", [60, 79, 80, 100, 200])
@pytest.mark.parametrize("pane", PANES)
@pytest.mark.parametrize("state", [states.healthy, states.disconnected, states.empty])
def test_the_title_fits_and_names_the_screen_and_the_connection(state: object, pane: str, columns: int) -> None:
    assert callable(state)
    text = line(frame.title(state(), NOW, pane, columns))

    assert width(text) == columns
    assert f"[{PANES.index(pane) + 1} {pane.capitalize()}]" in text
    assert any(word in text for word in ("● live", "✖ not reachable", "◌ connecting"))


def test_all_screens_are_named_on_an_ordinary_terminal() -> None:
    text = line(frame.title(states.disconnected(), NOW, "log", 80))

    assert all(pane.capitalize() in text for pane in PANES)


@pytest.mark.parametrize(("rows", "shown"), [(15, 2), (24, 4), (50, 8)])
def test_a_long_banner_leaves_room_and_says_so(rows: int, shown: int) -> None:
    troubles = tuple(Cell(f"✖ lane {n}", "bad") for n in range(30))

    found = frame.shortened(troubles, rows)

    assert found[:-1] == troubles[: shown - 1]
    assert found[-1].text == f"… and {30 - shown + 1} more"
    assert frame.shortened(troubles[:shown], rows) == troubles[:shown]


def test_a_small_terminal_is_told_its_size_and_the_worst() -> None:
    told = frame.too_small(58, 12, (Cell("✖ groq down", "bad"), Cell("▲ together slow", "warn")))

    assert [cell.text for cell in told] == ["terminal too small (58×12), need 60×15", "✖ groq down"]
    assert frame.is_too_small(58, 24)
    assert frame.is_too_small(80, 14)
    assert not frame.is_too_small(60, 15)
    assert all(width(cell.text) <= 10 for cell in frame.too_small(10, 2, told))

"""What is around every screen."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from llmbench.messages import LaneState
from llmbench.tui.bindings import PANES
from llmbench.tui.table import Cell
from llmbench.tui.text import width, wrap
from llmbench.tui.views import frame
from llmbench.tui.views.banner import banner
from tests.tui import states
from tests.tui.states import NOW, after, at


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


@pytest.mark.parametrize(("rows", "shown"), [(15, 3), (24, 4), (50, 8)])
def test_a_long_banner_leaves_room_and_says_so(rows: int, shown: int) -> None:
    troubles = tuple(Cell(f"✖ lane {n}", "bad") for n in range(30))

    found = frame.laid_out(troubles, 80, rows)

    assert found[:-1] == troubles[: shown - 1]
    assert found[-1].text == f"… and {30 - shown + 1} more"
    assert frame.laid_out(troubles[:shown], 80, rows) == troubles[:shown]


def test_what_is_wrong_and_what_to_do_is_read_whole_on_an_ordinary_terminal() -> None:
    """A line for each trouble, then a second one for the worst as long as there are some left."""
    found = frame.laid_out(banner(states.one_lane_down(), NOW), 80, 24)

    assert [cell.text for cell in found] == [
        "✖ groq down since 12:03 (4 min): auth: key refused (401): Invalid API Key; check",
        "  the variable GROQ_API_KEY; looked at again in 10 min",
        "▲ together slow since 12:05 (2 min): TTFT 3.9 × its usual, speed 0.5 × its usual",
        "  (last 5 runs; usual of 412 runs)",
    ]
    assert [cell.tone for cell in found] == ["bad", "bad", "warn", "warn"]


def test_what_to_do_matters_more_than_when_it_is_looked_at_again() -> None:
    advice = "check the key in the variable that providers.groq.api_key_env names, and what it may do"
    blocked = LaneState(lane="groq", status="blocked", at=at(-3), reason=f"auth: no; {advice}", until=at(12))
    troubles = banner(after(states.healthy(), [blocked]), NOW)

    assert " ".join(cell.text.strip() for cell in frame.laid_out(troubles, 80, 24)).endswith(advice)
    assert " ".join(cell.text.strip() for cell in frame.laid_out(troubles, 120, 36)).endswith("again in 12 min")


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("most", [2, 3])
def test_of_a_trouble_that_is_too_long_both_ends_are_kept(columns: int, most: int) -> None:
    """Who it is about is at the beginning, what to do at the end."""
    lines = frame.hanging("✖ groq down: " + "blah " * 100 + "check the key", columns, most)

    assert len(lines) == most
    assert (lines[0].startswith("✖ groq down: "), lines[-1].endswith("check the key")) == (True, True)
    assert all(width(line) <= columns for line in lines)


@pytest.mark.parametrize("word", ["x" * 39, "漢" * 20, "é" * 27])
def test_a_trouble_that_is_far_too_long_is_soon_laid_out(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is laid out with each frame: in a few tries, not in one for each cell that it loses."""
    tries: list[int] = []

    def counted(text: str, cells: int) -> list[str]:
        tries.append(cells)
        return wrap(text, cells)

    monkeypatch.setattr(frame, "wrap", counted)
    lines = frame.hanging(" ".join([word] * 100), 200, 4)

    assert len(lines) <= 4
    assert len(tries) < 40


def test_the_zone_of_all_times_is_named_where_there_is_room() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=2), "EET"))

    assert line(frame.title(states.healthy(), there, "overview", 120)).endswith("● live 14:07:30 EET")
    assert line(frame.title(states.healthy(), there, "overview", 80)).endswith("● live 14:07 EET")
    assert line(frame.title(states.healthy(), there, "overview", 60)).endswith("● live 14:07:30 EET")


def test_a_small_terminal_is_told_its_size_and_the_worst() -> None:
    worst = Cell("✖ groq down since 12:03: key refused; check the variable GROQ_API_KEY", "bad")
    assert frame.too_small(30, 6, (worst,))[-1].text.strip().endswith("GROQ_API_KEY")
    told = frame.too_small(58, 12, (Cell("✖ groq down", "bad"), Cell("▲ together slow", "warn")))

    assert [cell.text for cell in told] == ["terminal too small (58×12), need 60×15", "✖ groq down"]
    assert frame.is_too_small(58, 24)
    assert frame.is_too_small(80, 14)
    assert not frame.is_too_small(60, 15)
    assert all(width(cell.text) <= 10 for cell in frame.too_small(10, 2, told))

"""What every screen shows, at three sizes and in five states, compared with what a person has looked at.

`pytest tests/tui/test_snapshots.py --update-snapshots` takes what is shown now for right; look at the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest
from textual.color import Color

from llmbench.tui.bindings import PANES
from llmbench.tui.screens.registry import SCREENS
from llmbench.tui.state import State
from llmbench.tui.widgets.drawing import tone_style
from llmbench.tui.widgets.lines import Lines
from tests.tui import states
from tests.tui.canned import PASTS
from tests.tui.dashboards import Driven, Size, driven
from tests.tui.stores import press

SNAPSHOTS: Final = Path(__file__).with_name("snapshots")
CONSTRAINTS: Final = Path(__file__).parents[2] / "constraints.txt"
SIZES: Final[tuple[Size, ...]] = ((80, 24), (120, 36), (200, 50))
STATES: Final[dict[str, Callable[[], State]]] = {
    "empty": states.empty,
    "healthy": states.healthy,
    "one_lane_down": states.one_lane_down,
    "disconnected": states.disconnected,
    "hostile": states.hostile,
}


@pytest.fixture(scope="session")
def updates(request: pytest.FixtureRequest) -> bool:
    """Whether what is shown now is right; only the Textual that is pinned may say so."""
    if not request.config.getoption("--update-snapshots"):
        return False
    pinned = re.search(r"^textual==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if pinned is None or pinned[1] != version("textual"):
        pytest.fail(f"snapshots are of the textual in constraints.txt, not of {version('textual')}: install that one")
    return True


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", STATES)
async def test_screens_show_what_a_person_has_looked_at(state: str, size: Size, updates: bool) -> None:
    """Every screen is drawn as its snapshot, with alarming colours in the same places."""
    wrong: list[str] = []
    async with driven(STATES[state](), size=size, history=PASTS[state]()) as dashboard:
        for number, pane in enumerate(PANES, 1):
            if pane in SCREENS:
                await press(dashboard, str(number))
                path = SNAPSHOTS / f"{pane}-{size[0]}x{size[1]}-{state}.txt"
                wrong += _compared(path, _picture(dashboard), updates=updates)

    assert wrong == []


def test_every_snapshot_is_of_a_screen_that_there_is() -> None:
    """No snapshot is left behind by a screen, a size or a state that is gone."""
    wanted = {f"{pane}-{w}x{h}-{state}.txt" for pane in SCREENS for w, h in SIZES for state in STATES}

    assert {path.name for path in SNAPSHOTS.iterdir()} == wanted


def _compared(path: Path, picture: str, *, updates: bool) -> Iterator[str]:
    """Yield the name of a snapshot that is not as what is shown, and what is; or make it so."""
    if updates:
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture, encoding="utf-8")
    elif not path.exists() or path.read_text(encoding="utf-8") != picture:
        yield f"{path.name} differs:\n{picture}"


def _picture(dashboard: Driven) -> str:
    """Return what is shown as text, and which cells have a tone that alarms."""
    tones = "\n".join(_alarms(dashboard))
    return "\n".join(dashboard.text()) + f"\n--- alarming, line: cells\n{tones}\n"


def _alarms(dashboard: Driven) -> Iterator[str]:
    """Yield a line for each stretch of cells that is drawn as bad or as a warning."""
    lines = dashboard.pane.query_one("#title", Lines)
    tones = {_colour(tone_style(lines, tone).color): tone for tone in ("bad", "warn")}
    for number, strip in enumerate(dashboard.app.screen._compositor.render_strips()):
        column = 0
        for tone, segments in groupby(strip, lambda one: tones.get(_colour(one.style.color if one.style else None))):
            width = sum(segment.cell_length for segment in segments)
            if tone is not None:
                yield f"{number} {tone}: {column}-{column + width - 1}"
            column += width


def _colour(colour: object) -> str | None:
    return None if colour is None else Color.from_rich_color(colour).hex

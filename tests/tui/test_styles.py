"""When the style sheet is read."""

from __future__ import annotations

import pytest

from tests.tui.dashboards import Driven, driven


@pytest.fixture
def anyio_backend() -> str:
    """Textual runs on asyncio's own loop."""
    return "asyncio"


def _rules(dashboard: Driven) -> dict[int, object]:
    """Return every rule that was read, by its identity."""
    return {id(rule): rule for rule in dashboard.app.stylesheet.rules}


async def test_a_screen_that_is_shown_for_the_first_time_has_no_rule_read_again() -> None:
    async with driven() as dashboard:
        before = _rules(dashboard)
        await dashboard.press("2", "3")

        assert before.items() <= _rules(dashboard).items()


async def test_other_colours_are_read_and_shown() -> None:
    """Every rule is read anew, on all screens, and what is shown is drawn in them."""
    async with driven(keys=["2", "1"]) as dashboard:
        before, screen = _rules(dashboard), dashboard.app.screen
        dark = screen.styles.background
        dashboard.app.theme = "light"
        await dashboard.settled()
        light = dashboard.app.theme_variables["background"]

        assert before.keys().isdisjoint(_rules(dashboard))
        assert dark != screen.styles.background == type(dark).parse(light)
        await dashboard.press("2")
        assert dashboard.app.screen.styles.background == screen.styles.background

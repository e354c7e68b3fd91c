"""How the dashboard is left, and what becomes of an engine that was started for it."""

from __future__ import annotations

from textual.screen import ModalScreen

from llmbench.tui.app import STOP_ENGINE
from llmbench.tui.screens.dialogs import Confirm
from tests.tui.dashboards import driven

_ASKS = "stop the engine that this window started?"


async def test_ctrl_c_twice_stops_the_engine() -> None:
    async with driven(quit_asks=_ASKS, keys=["ctrl+c"]) as dashboard:
        assert dashboard.shows(_ASKS)
        await dashboard.pilot.press("ctrl+c")
        assert dashboard.app.return_value == STOP_ENGINE


async def test_ctrl_c_over_another_question_is_no_answer_to_one_that_was_not_asked() -> None:
    answers: list[bool | None] = []
    async with driven(quit_asks=_ASKS) as dashboard:
        dashboard.app.push_screen(Confirm("Send it to the store again?", "send it", "leave it"), answers.append)
        await dashboard.pilot.press("ctrl+c")
        await dashboard.pilot.pause()

        assert (dashboard.app.return_value, answers) == (None, [])
        assert isinstance(dashboard.app.screen, ModalScreen)
        assert dashboard.shows(_ASKS)

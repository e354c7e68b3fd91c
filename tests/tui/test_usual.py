"""What is usual reaches the dashboard's state, however long the store takes to tell it."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from llmbench.tui.history import USUAL_DAYS, History
from llmbench.tui.state import Usual
from tests.tui.dashboards import driven

USUAL = {("groq", "llama"): Usual(n=36, time_to_first_token=0.06, tokens_per_second=250.0)}


class SlowHistory(History):
    """Answers when a test lets it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def usual(self, days: int = USUAL_DAYS) -> Mapping[tuple[str, str], Usual]:
        self.asked.set()
        await self.may_answer.wait()
        return USUAL


async def test_an_answer_that_takes_several_frames_is_not_lost() -> None:
    history = SlowHistory()
    async with driven(history=history) as dashboard:
        await history.asked.wait()
        await dashboard.pilot.pause(0.3)  # several frames
        history.may_answer.set()
        with anyio.fail_after(10):
            while dashboard.app.state.usual != USUAL:
                await dashboard.pilot.pause(0.01)

"""What a person has the engine do, about the row that is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.screen import Screen

from llmbench.actors.engine_requests import DisableModel, EnableModel, EngineRequest, Pause, Resume, RunNow
from llmbench.tui.commands import Subject
from llmbench.tui.screens.dialogs import Prompt
from llmbench.tui.state import State
from llmbench.tui.text import safe

if TYPE_CHECKING:
    from llmbench.tui.app import Dashboard

LONGEST_REASON = 500


class Asking(Screen[None]):
    """A screen with the engine's commands; what they are about is its `subject`."""

    @property
    def dashboard(self) -> Dashboard:
        return cast("Dashboard", self.app)

    def subject(self, state: State) -> Subject | None:
        """Return what the chosen row is about, None if there is none."""
        return None

    def stay(self) -> None:
        """Keep what is chosen chosen: the next key is about the same, also if this one's order changes the rows'."""

    def carried_out(self, request: EngineRequest) -> None:
        """The engine has done what was asked of it: what is shown may be of before that."""

    def action_run_now(self) -> None:
        subject = self._acted_on()
        if subject is not None:
            self._ask(RunNow(subject.provider, subject.model_id))

    def action_pause_lane(self) -> None:
        subject = self._acted_on()
        if subject is not None:
            self._ask(pausing(self.dashboard.state, subject.provider))

    def action_enable(self) -> None:
        subject = self._acted_on()
        if subject is not None and subject.model_id is not None:
            self._ask(EnableModel(subject.provider, subject.model_id))

    def action_disable(self) -> None:
        subject = self._acted_on()
        if subject is None or subject.model_id is None:
            return
        provider, model_id = subject.provider, subject.model_id

        def disable(reason: str | None) -> None:
            if reason is not None:
                self._ask(DisableModel(provider, model_id, reason))

        question = f"Why is {safe(f'{provider}/{model_id}', 200)} to be measured no more?"
        self.app.push_screen(Prompt(question, "the reason, as others will read it", LONGEST_REASON), disable)

    def _acted_on(self) -> Subject | None:
        self.stay()
        return self.subject(self.dashboard.state)

    def _ask(self, request: EngineRequest) -> None:
        self.dashboard.ask(request)


def pausing(state: State, provider: str) -> Pause | Resume:
    """Return the request that turns a lane's pause around."""
    lane = state.lanes.get(provider)
    is_paused = lane is not None and lane.paused_since is not None
    return Resume(provider) if is_paused else Pause(provider)

"""Questions over a screen: yes or no, and a line of text."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class Confirm(ModalScreen[bool | None]):
    """A question. The answer is None if there is none; ``otherwise`` says what «no» does, where it does something."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n", "answer(False)", "No"),
        Binding("escape", "answer(None)", "Back"),
    ]

    def __init__(self, question: str, yes: str, no: str) -> None:
        super().__init__()
        self._question = question
        self._answers = f"y  {yes}\nn  {no}\nesc  back"

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._question, classes="question", markup=False)
            yield Static(self._answers, markup=False)

    def action_answer(self, answer: bool | None) -> None:
        self.dismiss(answer)


class Leaving(Confirm):
    """The question that is asked before the dashboard is left."""


class Prompt(ModalScreen[str | None]):
    """A question that is answered with a line of text; None if it is not."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, question: str, placeholder: str, longest: int) -> None:
        super().__init__()
        self._question = question
        self._placeholder = placeholder
        self._longest = longest

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._question, classes="question", markup=False)
            yield Input(placeholder=self._placeholder, max_length=self._longest)
            yield Static("enter  do it\nesc  back", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).cursor_blink = False

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if text := event.value.strip():
            self.dismiss(text)
        else:
            self.notify("write a reason, or press esc", severity="warning", markup=False)

    def action_leave(self) -> None:
        self.dismiss(None)

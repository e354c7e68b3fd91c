"""What screens share that show answers of the store: asking when it is time, and not drawing the same anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from llmbench.tui.history import History
from llmbench.tui.question import Question
from llmbench.tui.screens.base import Pane

T = TypeVar("T")


def history_of(pane: Pane) -> History:
    """Return what answers; without a store, what says so."""
    return pane.dashboard.history or History(None)


def ask_if_due(pane: Pane, question: Question[Any]) -> None:
    """Ask, if it is time; the screen is drawn when the question is out, and when there is an answer.

    What was answered goes when the store turns out not to be the engine's, and the other way round.
    """
    question.about(history_of(pane).refusal)
    if question.due():
        ask_now(pane, question)


def ask_now(pane: Pane, question: Question[Any]) -> None:
    """Ask, whether it is time or not; what is being asked already is not asked twice.

    What was forgotten meanwhile is waited for no longer, so that it keeps nothing waiting.
    """

    async def ask() -> None:
        await question.ask()
        pane.touch()

    if not question.standing.asking:
        pane.run_worker(ask(), group=f"question {id(question)}", exclusive=True)


class Remembered(Generic[T]):
    """The last thing made, for as long as what it was made of is the same: ``same`` is compared, ``held`` by identity.

    A table of a thousand rows takes 20 ms to make, and events come ten times a second.
    """

    def __init__(self) -> None:
        self._same: tuple[object, ...] | None = None
        self._held: tuple[object, ...] = ()
        self._made: T | None = None

    def get(self, same: tuple[object, ...], held: tuple[object, ...], make: Callable[[], T]) -> T:
        alike = same == self._same and all(one is other for one, other in zip(held, self._held, strict=True))
        if self._made is None or not alike:
            self._same, self._held, self._made = same, held, make()
        return self._made

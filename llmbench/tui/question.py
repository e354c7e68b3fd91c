"""A question that a screen asks again and again: its last answer stays until there is a newer one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec

from llmbench.clock import Clock, SystemClock
from llmbench.tui.answers import Asked
from llmbench.tui.history import HistoryError

T = TypeVar("T")


class Question(Generic[T]):
    """Asks by ``ask``, which raises `HistoryError` if there is no answer, and knows how that stands."""

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Clock | None = None) -> None:
        self._ask = ask
        self._clock = clock or SystemClock()
        self.standing: Asked[T] = Asked()
        self.version = 0
        self._subject: object = None

    def due(self) -> bool:
        """Say whether it is time to ask."""
        return self.standing.due(self._clock.now())

    def about(self, subject: object) -> None:
        """Begin anew if what is asked is about something else than before."""
        if subject != self._subject:
            self._subject = subject
            self.forget()

    def forget(self) -> None:
        """Begin anew: what is asked is another thing now, and an answer that is on its way is of no use."""
        self._becomes(Asked())

    async def ask(self) -> None:
        """Ask, and keep the answer, or the trouble beside the answer before; if cancelled, nothing of it.

        If it is being asked already, nothing is done.
        """
        if self.standing.asking:
            return
        begun = self._clock.monotonic_ns()
        self._becomes(msgspec.structs.replace(self.standing, asking=True, tried=self._clock.now()))
        asked = self.standing
        after = msgspec.structs.replace(asked, asking=False)
        try:
            answer = await self._ask()
            after = Asked(answer=answer, at=self._clock.now(), tried=asked.tried)
        except HistoryError as error:
            after = msgspec.structs.replace(after, trouble=str(error))
        finally:
            if self.standing is asked:  # else it was forgotten meanwhile
                took = (self._clock.monotonic_ns() - begun) / 1e9
                self._becomes(msgspec.structs.replace(after, took=took))

    def _becomes(self, standing: Asked[T]) -> None:
        self.standing = standing
        self.version += 1

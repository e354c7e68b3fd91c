"""What is usual, asked of the store again and again: soon after a trouble, and at once if another engine is watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from llmbench.tui.history import History, HistoryError
from llmbench.tui.items import UsualLoaded

PAUSE: Final = 600.0
FIRST_RETRY: Final = 5.0
_DOUBLINGS: Final = 10


class Learning:
    """Asks ``history`` until cancelled: ``take`` is given what is usual, ``tell`` a sentence if that is not known.

    The same sort of trouble is told once. What the store of another engine says is usual is taken back.
    """

    def __init__(
        self, history: History, take: Callable[[UsualLoaded], None], tell: Callable[[str], None], pause: float = PAUSE
    ) -> None:
        self._history = history
        self._take = take
        self._tell = tell
        self._pause = pause
        self._failures = 0
        self._told: set[str | None] = set()

    async def run(self) -> None:
        while True:
            moved = self._history.moved
            await self._ask()
            with anyio.move_on_after(pause_after(self._failures, self._pause)):
                await moved.wait()

    async def _ask(self) -> None:
        try:
            usual = await self._history.usual()
        except HistoryError as error:
            self._failures += 1
            self._not_known(error)
        else:
            self._failures = 0
            self._take(UsualLoaded(usual=usual))

    def _not_known(self, error: HistoryError) -> None:
        refusal = self._history.refusal
        if refusal is not None:
            self._take(UsualLoaded(usual={}))
        waits = refusal is not None and self._history.place is None
        if not waits and refusal not in self._told:
            self._told.add(refusal)
            self._tell(f"what is usual is not known: {error}")


def pause_after(failures: int, longest: float = PAUSE) -> float:
    """Return for how many seconds nothing is asked after so many failures in a row."""
    return longest if not failures else min(longest, FIRST_RETRY * 2.0 ** min(failures - 1, _DOUBLINGS))

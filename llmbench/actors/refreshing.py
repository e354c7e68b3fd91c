"""The catalogue's actor: takes over what has changed in the catalogue, once in a while.

Apart from the scheduler, so that lanes get their jobs while a store takes its time to answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from llmbench.actors.scheduler import Scheduler

NAME = "catalogue"
"""What this actor is called in `LaneState`."""

_EVERY_SECONDS = 30.0


class Refreshing:
    """Calls ``refresh``, which brings the plan up to date, and has the scheduler look at it again. Never ends."""

    def __init__(self, refresh: Callable[[], Awaitable[None]], scheduler: Scheduler) -> None:
        self._refresh = refresh
        self._scheduler = scheduler

    async def run(self) -> None:
        while True:
            await anyio.sleep(_EVERY_SECONDS)
            await self._refresh()
            self._scheduler.look_again()

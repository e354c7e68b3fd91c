"""A dashboard without an engine, a terminal or a clock of its own: what tests drive, and what it shows, as text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from textual.pilot import Pilot
from textual.widget import Widget

from llmbench.actors.engine_requests import EngineAnswer, EngineRequest
from llmbench.config.tables import TuiTable
from llmbench.tui.app import Dashboard
from llmbench.tui.feed import FeedError
from llmbench.tui.items import FeedItem
from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from tests.tui import states

Size = tuple[int, int]

_QUIET_TURNS = 3
"""What is due by the clock, or was handed over by a thread, is taken up between two turns of a loop."""

_QUIET_ROUNDS = 3
"""What a round sets off may be on no queue yet at its end: a task of the loop that has not begun."""


class SilentFeed:
    """A feed that hands on what a test puts into it, and notes what it is asked."""

    def __init__(self, answer: EngineAnswer | FeedError | None = None) -> None:
        self.address = states.ADDRESS
        self.items: list[FeedItem] = []
        self.asked: list[EngineRequest] = []
        self.is_running = anyio.Event()
        self._answer = answer or EngineAnswer(done="the engine did it")

    def take(self) -> list[FeedItem]:
        items, self.items = self.items, []
        return items

    async def run(self) -> None:
        self.is_running.set()
        await anyio.sleep_forever()

    async def command(self, request: EngineRequest) -> EngineAnswer:
        self.asked.append(request)
        if isinstance(self._answer, FeedError):
            raise self._answer
        return self._answer


class Driven(msgspec.Struct):
    """A dashboard that a test drives."""

    app: Dashboard
    pilot: Pilot[int]
    feed: SilentFeed

    @property
    def pane(self) -> Pane:
        assert isinstance(self.app.screen, Pane)
        return self.app.screen

    async def press(self, *keys: str) -> None:
        """Press keys, and wait until what they did is shown."""
        for key in keys:
            await self.pilot.press(key)
        await self.settled()

    async def settled(self) -> list[str]:
        """Wait until nothing is left to be handled, laid out or drawn; return what is shown.

        Whether the processor is busy tells nothing of that: others may keep it so, or keep it from us.
        """
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            self.app.draw()
            await self.pilot.pause(0)
            quiet = 0 if self._is_busy() else quiet + 1
        return self.text()

    def _is_busy(self) -> bool:
        screen = self.app.screen
        widgets = list(screen.walk_children(Widget, with_self=True))
        return bool(
            any(pump.message_queue_size or pump._next_callbacks for pump in (self.app, *widgets))
            or any(one._layout_required or one._scroll_required or one._repaint_required for one in widgets)
            or screen._dirty_widgets
            or screen._callbacks
        )

    async def told(self, *items: FeedItem) -> list[str]:
        """Have the feed tell these items, and wait until they are shown."""
        self.feed.items.extend(items)
        while self.feed.items:
            await self.pilot.pause(0.01)
        return await self.settled()

    async def exported(self) -> None:
        """Wait until what is being saved is saved."""
        saving = [worker for worker in self.app.workers if worker.group == "export"]
        if saving:  # none would mean all of them, of which some never end
            await self.app.workers.wait_for_complete(saving)

    @property
    def folder(self) -> Path:
        return self.app.folder

    def text(self) -> list[str]:
        """Return what is on the screen, a text for each line."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.text())

    def notices(self) -> list[str]:
        return [notice.message for notice in self.app._notifications]

    def row(self, text: str) -> int:
        """Return the number of the first line with a text in it."""
        return next(number for number, line in enumerate(self.text()) if text in line)


@asynccontextmanager
async def driven(
    state: State | None = None,
    *,
    size: Size = (120, 36),
    feed: SilentFeed | None = None,
    settings: TuiTable | None = None,
    now: datetime = states.NOW,
    folder: Path | None = None,
    keys: Iterable[str] = (),
    **options: Any,
) -> AsyncIterator[Driven]:
    """Run a dashboard that shows a state, after some keys."""
    feed = feed or SilentFeed()
    options.setdefault("history", None)
    app = Dashboard(feed, settings=settings or TuiTable(), clock=lambda: now, folder=folder, **options)
    app.state = states.healthy() if state is None else state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("textual.app.wait_for_idle", idle)
        async with app.run_test(size=size, notifications=True) as pilot:
            dashboard = Driven(app, pilot, feed)
            await dashboard.settled()
            await dashboard.press(*keys)
            yield dashboard


async def idle(_min_sleep: float = 0.0, _max_sleep: float = 0.0) -> None:
    """Wait until nothing is left to be run on the event loop but what a time or a thread will bring.

    It is in the place of what Textual does after each key, twice: wait until the process needs less of a processor, for
    a fiftieth of a second at least.
    """
    loop: Any = asyncio.get_running_loop()
    quiet = 0
    while quiet < _QUIET_TURNS:
        await asyncio.sleep(0)
        quiet = 0 if loop._ready else quiet + 1

"""The dashboard: takes what came from its feed once a frame, makes the next state of it, and has a screen draw that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio
from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import Provider

from llmbench.actors.engine_requests import EngineRequest
from llmbench.config.tables import TuiTable
from llmbench.tui.bindings import Command
from llmbench.tui.commands import bindings_of_app
from llmbench.tui.export import Ending, ExportError, csv_of, save
from llmbench.tui.feed import Feed, FeedError
from llmbench.tui.history import History
from llmbench.tui.items import UsualLoaded
from llmbench.tui.learning import Learning
from llmbench.tui.palette import Palette
from llmbench.tui.reduce import begin, reduce
from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.dialogs import Leaving
from llmbench.tui.screens.help import Help, help_lines
from llmbench.tui.screens.registry import SCREENS
from llmbench.tui.state import State
from llmbench.tui.styles import Styles
from llmbench.tui.text import safe
from llmbench.tui.themes import THEMES
from llmbench.tui.widgets.grid import Grid

STOP_ENGINE: Final = 1
"""What the app returns if the engine that was started with it is to be stopped."""

_LONGEST_NOTICE: Final = 500
_REST: Final = 3.0
"""So many times as long as it took is from the beginning of a frame to that of the next, or longer."""


class Dashboard(App[int], inherit_bindings=False):
    """The whole dashboard. ``quit_asks`` is asked before it is left: yes makes it return `STOP_ENGINE`."""

    TITLE = "llmbench"
    CSS_PATH = "styles.tcss"
    ALLOW_SELECT = False
    MODES: ClassVar[dict[str, Any]] = dict(SCREENS)
    DEFAULT_MODE = "overview"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {Palette}
    BINDINGS: ClassVar[list[BindingType]] = bindings_of_app()

    def __init__(
        self,
        feed: Feed,
        *,
        history: History | None,
        settings: TuiTable,
        clock: Callable[[], datetime],
        quit_asks: str | None = None,
        folder: Path | None = None,
    ) -> None:
        without_colours = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if without_colours else None)
        self.stylesheet = Styles(variables=self.get_css_variables())
        self.feed = feed
        self.history = history
        self.quit_asks = quit_asks
        self.settings = settings
        self.clock = clock
        self.state: State = begin(feed.address, clock())
        self._still: tuple[State, datetime] | None = None
        self._learned: list[UsualLoaded] = []
        self.folder = folder or Path()
        self._rests_until = 0.0
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = "ansi" if without_colours else settings.theme

    def on_mount(self) -> None:
        self.set_keymap(dict(self.settings.keys))
        self.run_worker(self.feed.run(), name="feed")
        if self.history is not None:
            self.run_worker(Learning(self.history, self._learn, self.tell).run(), name="usual")
        self.set_interval(1 / self.settings.frames_per_second, self._frame)

    # frames

    def _frame(self) -> None:
        """Take what came, make a state of it, and have the screen draw what has changed."""
        started = time.perf_counter()
        if not self.is_running or started < self._rests_until:
            return
        now = self.clock()
        learned, self._learned = self._learned, []
        self.state = reduce(self.state, [*self.feed.take(), *learned], now)
        if self.history is not None and self.state.engine is not None:
            self.history.told(self.state.engine.store)
        if isinstance(self.screen, Pane):
            self.screen.frame(now)
        self.draw()
        self._rests_until = started + _REST * (time.perf_counter() - started)

    def draw(self) -> None:
        """Have the screen draw what has changed; one that is covered waits."""
        if self.is_running and isinstance(self.screen, Pane):
            self.screen.show(self.state, self.clock(), self._still)

    def hold_view(self) -> None:
        """Hold what screens show as it is, or let it go on."""
        self._still = (self.state, self.clock()) if self._still is None else None
        if isinstance(self.screen, Pane):
            self.screen.touch()

    def _learn(self, usual: UsualLoaded) -> None:
        """Take in what is usual with the next frame, which puts another list in the place of this one."""
        self._learned.append(usual)

    # what a person asks for

    def tell(self, text: str, *, bad: bool = False) -> None:
        """Show a sentence for some seconds."""
        self.notify(safe(text, _LONGEST_NOTICE), severity="error" if bad else "information", markup=False)

    def ask(self, request: EngineRequest) -> None:
        """Have the engine do something, and tell what it says."""
        self.run_worker(self._asked(request), group="asking")

    async def _asked(self, request: EngineRequest) -> None:
        try:
            answer = await self.feed.command(request)
        except FeedError as error:
            self.tell(str(error), bad=True)
            return
        if answer.error is not None:
            self.tell(answer.error, bad=True)
            return
        self.tell(answer.done or "done")
        if isinstance(self.screen, Pane):
            self.screen.carried_out(request)

    def export(self, pane: Pane) -> None:
        """Save a screen as CSV and as SVG."""
        table = pane.grid.table
        texts: dict[Ending, str] = {"csv": csv_of(table), "svg": self.export_screenshot(title="llmbench")}
        self.run_worker(self._exported(pane.key, texts), group="export")

    async def _exported(self, name: str, texts: dict[Ending, str]) -> None:
        now = self.clock()
        for ending, text in texts.items():
            try:
                path = await anyio.to_thread.run_sync(save, text, self.folder, name, ending, now)
            except ExportError as error:
                self.tell(str(error), bad=True)
                return
            self.tell(f"saved {path}")

    # keys

    def keys_of(self, command: Command) -> tuple[str, ...]:
        """Return a command's keys as events name them."""
        return command.keys_with(self.settings.keys)

    def written_keys(self, command: Command) -> str:
        """Return a command's keys as they are written."""
        return " ".join(self.get_key_display(Binding(key, "")) for key in self.keys_of(command))

    def written_key(self, command: Command) -> str:
        """Return the first of a command's keys, as it is written."""
        return self.get_key_display(Binding(self.keys_of(command)[0], ""))

    def show_help(self, pane: Pane) -> None:
        entries = [(command, self.written_keys(command), why) for command, why in pane.commands()]
        lines = list(help_lines(entries, table_first=isinstance(pane.focused, Grid)))
        self.push_screen(Help(pane.sentence, lines))

    # leaving

    async def action_quit(self) -> None:
        """Leave, and ask before that if there is something to ask."""
        if self.quit_asks is None:
            self.exit(0)
            return
        self.push_screen(Leaving(self.quit_asks, "stop it, and leave", "leave it running"), self._answered)

    def _answered(self, stop: bool | None) -> None:
        if stop is not None:
            self.exit(STOP_ENGINE if stop else 0)

    async def action_leave(self) -> None:
        """Leave from anywhere; while that is asked about, it is a yes, as Ctrl-C is elsewhere."""
        if isinstance(self.screen, Leaving):
            self._answered(stop=True)
        else:
            await self.action_quit()

"""What every screen of the dashboard has: a title, the banner, notices, a table, a filter, and its keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import Input

from llmbench.tui.bindings import BY_ID, PANES, Command, commands_of
from llmbench.tui.commands import Subject, action_of, bindings_of_pane, refusal
from llmbench.tui.screens.asking import Asking
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.views import frame
from llmbench.tui.views.banner import banner
from llmbench.tui.widgets.grid import Grid
from llmbench.tui.widgets.keybar import Hint, KeyBar
from llmbench.tui.widgets.lines import Lines, Panel

_LONGEST_FILTER = 100
_WIDTHS: list[tuple[int, str]] = [(0, "-narrow"), (100, "-normal"), (160, "-wide")]
_HEIGHTS: list[tuple[int, str]] = [(0, "-short"), (30, "-tall")]


class Pane(Asking):
    """A screen: ``key`` is its name among `PANES`, ``sentence`` what it answers.

    One that asks the store overrides `frame`, which is called ten times a second while it is shown, and calls `touch`
    when something else than the state has changed.
    """

    key: ClassVar[str]
    sentence: ClassVar[str]
    has_detail: ClassVar[bool] = False
    AUTO_FOCUS = "#main"
    HORIZONTAL_BREAKPOINTS = _WIDTHS
    VERTICAL_BREAKPOINTS = _HEIGHTS

    def __init_subclass__(cls, **options: Any) -> None:
        cls.BINDINGS = bindings_of_pane(cls.key)
        super().__init_subclass__(**options)

    def __init__(self) -> None:
        super().__init__()
        self.text_filter = ""
        self._painted: tuple[int, datetime] | None = None

    # what screens override

    def table(self, state: State, now: datetime) -> Table:
        """Return what the main table shows."""
        raise NotImplementedError

    def body(self) -> ComposeResult:
        """Yield what is between notices and footer; the main table is ``#main``."""
        yield Grid(id="main")

    def paint(self, state: State, now: datetime) -> None:
        """Draw the rest of the body, after the main table."""

    def notices(self, state: State, now: datetime) -> Iterator[Cell]:
        """Yield lines to be shown over the table."""
        yield from ()

    def frame(self, now: datetime) -> None:
        """Do what is due by now, such as asking the store."""

    def stay(self) -> None:
        self.grid.stay()

    # how it is made

    @property
    def grid(self) -> Grid:
        """The main table."""
        return self.query_one("#main", Grid)

    def compose(self) -> ComposeResult:
        yield Lines(id="title")
        yield Lines(id="banner")
        yield Lines(id="notices")
        with Container(id="body"):
            yield from self.body()
        yield Input(id="filter", placeholder="show only rows that hold …", max_length=_LONGEST_FILTER)
        yield KeyBar()
        yield Lines(id="small")

    def on_mount(self) -> None:
        self.query_one("#filter", Input).cursor_blink = False

    # how it is drawn

    def touch(self) -> None:
        """Draw anew: something else than the state has changed."""
        self._painted = None
        self.dashboard.draw()

    def show(self, state: State, now: datetime, still: tuple[State, datetime] | None) -> None:
        """Draw what has changed. ``still``: the view was held then; title and banner are never."""
        if not self.is_mounted or self._painted == (state.version, now.replace(microsecond=0)):
            return
        self._painted = state.version, now.replace(microsecond=0)
        troubles = banner(state, now)
        columns, rows = self.size
        self._lines("#title", [frame.title(state, now, self.key, columns)])
        self._lines("#banner", [(cell,) for cell in frame.laid_out(troubles, columns, rows)])
        self._lines("#small", [(cell,) for cell in frame.too_small(columns, rows, troubles)])
        self._show_body(*(still or (state, now)), held=still is not None)
        self.query_one(KeyBar).hint(list(self._hints()))

    def _show_body(self, state: State, now: datetime, *, held: bool) -> None:
        table = self.table(state, now)
        self.grid.show(table)
        said = [frame.paused(now)] if held else []
        if self.text_filter:
            said.append(frame.filtering(self.text_filter, len(table.rows)))
        if table.hidden:
            said.append(Cell(f"▲ {table.hidden}", "warn"))
        self._lines("#notices", [(cell,) for cell in (*said, *self.notices(state, now))])
        self.paint(state, now)

    def _lines(self, selector: str, lines: Sequence[Sequence[Cell]]) -> None:
        self.query_one(selector, Lines).show(lines)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(frame.is_too_small(*event.size), "-small")
        self.touch()

    @on(events.ScreenResume)
    def _resumed(self) -> None:
        self.touch()

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    @on(Grid.Chosen)
    @on(Panel.Resized)
    def _changed(self) -> None:
        self.touch()

    @on(Grid.Opened)
    def _opened(self) -> None:
        self.action_open()

    # which commands apply

    def commands(self) -> Iterator[tuple[Command, str | None]]:
        """Yield this screen's commands, each with the reason for which it can't be carried out now, if there is one."""
        subject = self.subject(self.dashboard.state)
        return ((command, self._refusal(command, subject)) for command in commands_of(self.key))

    def unfit(self, command: Command) -> str | None:
        """Return why a command does nothing here as things are, None if it does: a sentence."""
        nothing = command.id == "open" and not self.is_open and self.grid.chosen is None
        return "no row is chosen" if nothing else None

    @property
    def is_open(self) -> bool:
        """Whether it shows more about one row, so that there is a way back."""
        return self.has_class("-detail")

    def _hints(self) -> Iterator[Hint]:
        """Yield what is told at the foot of the screen."""
        if self.query_one("#filter", Input).has_focus:
            yield from (Hint("open", "⏎", "Keep"), Hint("back", "esc", "Clear"))
            return
        for command, why in self.commands():
            if command.id == "open" and self.is_open:
                yield Hint("back", self.dashboard.written_key(BY_ID["back"]), BY_ID["back"].label)
            elif command.footer:
                yield Hint(command.id, self.dashboard.written_key(command), command.label, why is not None)

    @on(KeyBar.Pressed)
    async def _key_pressed(self, event: KeyBar.Pressed) -> None:
        await self.run_command(BY_ID[event.command])

    async def run_command(self, command: Command) -> None:
        """Do what a command's key does."""
        why = self._why_not(command)
        if why is not None:
            self.notify(f"{command.label}: {why}", severity="warning", markup=False)
        else:
            await self.app.run_action(action_of(command), self.grid if command.table else self)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        command = BY_ID.get(action)
        if command is None or not self.is_mounted:
            return True
        return None if self._why_not(command) else True

    def _why_not(self, command: Command) -> str | None:
        """Return why a command can't be carried out now, None if it can, or if it is none of this screen's."""
        if self.key not in command.on:
            return None
        return self._refusal(command, self.subject(self.dashboard.state) if command.engine else None)

    def _refusal(self, command: Command, subject: Subject | None) -> str | None:
        return refusal(command, self.dashboard.state, subject) or self.unfit(command)

    async def on_key(self, event: events.Key) -> None:
        """Say why a key does nothing."""
        for command, why in self.commands():
            if why is not None and event.key in self.dashboard.keys_of(command):
                event.stop()
                await self.run_command(command)

    # commands

    def action_pane(self, key: str) -> None:
        assert key in PANES
        self.app.switch_mode(key)

    def action_filter(self) -> None:
        self.query_one("#filter", Input).display = True
        self.query_one("#filter", Input).focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        self.text_filter = event.value.strip()
        self.touch()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.query_one("#filter", Input).display = False
        self.grid.focus()

    def action_back(self) -> None:
        """Close what is open, or else clear the filter."""
        field = self.query_one("#filter", Input)
        if self.has_class("-detail"):
            self._toggle_detail()
        elif field.display or self.text_filter:
            field.value = ""
            field.display = False
            self.grid.focus()

    def action_open(self) -> None:
        if self.has_detail:
            self._toggle_detail()

    def _toggle_detail(self) -> None:
        """Show the panel alone, or all as before."""
        self.toggle_class("-detail")
        alone = self.has_class("-detail")
        focusable = [widget for widget in self.query("#detail, #detail *") if widget.can_focus]
        if alone and focusable:
            focusable[0].focus()
        elif not alone:
            self.grid.focus()
        self.touch()

    def action_pause_view(self) -> None:
        self.dashboard.hold_view()

    def action_export(self) -> None:
        self.dashboard.export(self)

    def action_help(self) -> None:
        self.dashboard.show_help(self)

    async def action_quit(self) -> None:
        await self.app.action_quit()

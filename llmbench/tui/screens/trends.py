"""How figures went over time: a row for each provider or model, and a plot of the chosen one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime

from textual.app import ComposeResult

from llmbench.tui.answers import Trends as StoredTrends
from llmbench.tui.bindings import Command
from llmbench.tui.question import Question
from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.stored import Remembered, ask_if_due, ask_now, history_of
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table, Tone
from llmbench.tui.text import safe
from llmbench.tui.views.answered import standing
from llmbench.tui.views.plot import drawn
from llmbench.tui.views.trends import MEASURES, WINDOWS, Measure, plot, trends
from llmbench.tui.widgets.lines import Panel


def has_no_braille(env: Mapping[str, str]) -> bool:
    """Say whether a terminal is known to have no glyphs for braille: Linux's own console."""
    return env.get("TERM") in ("linux", "dumb")


class Trends(Pane):
    """Time to first token, speed or errors of a window: of providers, or of one provider's models."""

    key = "trends"
    sentence = "How did times, speeds and errors go in the last hours or days?"
    has_detail = True
    DEFAULT_CSS = """
    Trends #main { height: 2fr; }
    Trends #plot { height: 3fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.measure: Measure = MEASURES[0]
        self.window = WINDOWS[1]
        self.provider: str | None = None
        self.question: Question[StoredTrends] = Question(self._ask_trends)
        self._table: Remembered[Table] = Remembered()
        self._ascii = has_no_braille(os.environ)

    def body(self) -> ComposeResult:
        yield from super().body()
        yield Panel(id="plot")

    def frame(self, now: datetime) -> None:
        ask_if_due(self, self.question)

    async def _ask_trends(self) -> StoredTrends:
        return await history_of(self).trends(self.window.span, self.window.width, self.provider)

    def table(self, state: State, now: datetime) -> Table:
        asked = self.question.standing
        same = (self.question.version, self.measure, self.text_filter, now.replace(microsecond=0))
        return self._table.get(same, (), lambda: trends(asked, self.measure, self.window, now, self.text_filter))

    def notices(self, state: State, now: datetime) -> Iterator[Cell]:
        of = "every provider" if self.provider is None else f"each model of {safe(self.provider)}"
        more = "enter shows its models" if self.provider is None else "esc goes back"
        yield Cell(f"{self.measure} of {of}, last {self.window.name} · {more}", "accent")
        yield from standing(self.question.standing, now)

    def paint(self, state: State, now: datetime) -> None:
        widget = self.query_one("#plot", Panel)
        columns, rows = widget.size
        made = plot(self.question.standing, self.grid.chosen, self.measure, self.window, now)
        lines = drawn(made, columns, rows, now, ascii_only=self._ascii)
        widget.show([(Cell(gutter, "muted"), Cell(line, _tone(gutter))) for gutter, line in lines])

    def _toggle_detail(self) -> None:
        """Go from providers to the models of the chosen one, or back."""
        provider = self.grid.chosen if self.provider is None else None
        if provider is None and self.provider is None:
            return
        self.provider = provider
        self._ask_anew()

    @property
    def is_open(self) -> bool:
        return self.provider is not None

    def unfit(self, command: Command) -> str | None:
        if command.id == "open" and self.is_open:
            return "these are the models already; esc goes back"
        return super().unfit(command)

    def action_open(self) -> None:
        if self.provider is None:
            self._toggle_detail()

    def action_back(self) -> None:
        """Clear the filter, or else go back to providers."""
        if self.provider is not None and not self.text_filter and not self.query_one("#filter").display:
            self._toggle_detail()
        else:
            super().action_back()

    def _ask_anew(self) -> None:
        self.question.forget()
        ask_now(self, self.question)
        self.touch()

    def action_measure(self) -> None:
        self.measure = MEASURES[(MEASURES.index(self.measure) + 1) % len(MEASURES)]
        self.touch()

    def action_window(self) -> None:
        self.window = WINDOWS[(WINDOWS.index(self.window) + 1) % len(WINDOWS)]
        self._ask_anew()

    def action_reload(self) -> None:
        ask_now(self, self.question)


def _tone(gutter: str) -> Tone:
    return "accent" if gutter.strip() else "plain"

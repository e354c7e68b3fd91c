"""The command palette: the same commands as keys and help, and the themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from llmbench.tui.screens.base import Pane
from llmbench.tui.themes import THEMES

if TYPE_CHECKING:
    from llmbench.tui.app import Dashboard


_IN_TIP = 0.1
"""How well a command matches by its explanation, compared with its name."""


class Entry(NamedTuple):
    """What the palette offers; ``why`` it can't be done now, if it can't."""

    name: str
    tip: str
    do: Callable[[], object]
    why: str | None = None


class Palette(Provider):
    """Offers what the screen that it lies over can do."""

    @property
    def _dashboard(self) -> Dashboard:
        return cast("Dashboard", self.app)

    def _entries(self) -> Iterator[Entry]:
        pane = self.screen
        if not isinstance(pane, Pane):
            return
        for command, why in pane.commands():
            if command.app or command.moves:
                continue
            name = f"{command.label}  {self._dashboard.written_keys(command)}"
            yield Entry(name, command.tip, partial(pane.run_command, command), why)
        for theme in THEMES:
            yield Entry(
                f"Theme {theme.name}", "Use these colours for now.", partial(setattr, self.app, "theme", theme.name)
            )

    async def discover(self) -> Hits:
        for entry in self._entries():
            yield DiscoveryHit(_shown(entry), entry.do, text=entry.name, help=_help(entry))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for entry in self._entries():
            score = matcher.match(entry.name) or _IN_TIP * (query.casefold() in entry.tip.casefold())
            if score > 0:
                yield Hit(score, _shown(entry), entry.do, text=entry.name, help=_help(entry))


def _shown(entry: Entry) -> Content:
    return Content.styled(entry.name, "dim") if entry.why else Content(entry.name)


def _help(entry: Entry) -> str:
    return entry.tip if entry.why is None else f"Not now: {entry.why}."

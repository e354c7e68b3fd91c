"""Every command of the dashboard, once: keys, footer, help and command palette are made of this list. Pure data.

A command's id never changes: a user's configuration names it. Keys are named as Textual names them; several are
separated by commas.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from typing import Final

import msgspec

PANES: Final = ("overview", "live", "models", "errors", "trends", "storage", "log")
"""The screens, in the order of their digits."""

_OF_MODELS: Final = ("live", "models")
_OF_LANES: Final = ("overview", *_OF_MODELS)
_OF_STORE: Final = ("models", "errors", "trends", "storage")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """``label`` is one word, ``tip`` a sentence. ``on`` are the screens that have it; ``footer``: it is shown there.

    ``engine``: it asks something of the engine. ``table``: it is about the table, and works where that has the focus.
    ``moves``: it only moves the cursor. ``app``: the app itself has it, whatever lies over the screen.
    """

    id: str
    key: str
    label: str
    tip: str
    on: tuple[str, ...] = PANES
    footer: bool = False
    engine: bool = False
    table: bool = False
    moves: bool = False
    app: bool = False

    def keys_with(self, remapped: Mapping[str, str]) -> tuple[str, ...]:
        """Return its keys, as a person has remapped them by id, each by its name."""
        return tuple(named(key) for key in remapped.get(self.id, self.key).split(","))


def _screen(number: int, name: str, tip: str) -> Command:
    return Command(id=name, key=str(number), label=name.capitalize(), tip=tip)


COMMANDS: Final = (
    _screen(1, "overview", "Show a row for each provider, the worst first."),
    _screen(2, "live", "Show what streams now."),
    _screen(3, "models", "Show the catalogue."),
    _screen(4, "errors", "Show failures, grouped."),
    _screen(5, "trends", "Show how figures went over time."),
    _screen(6, "storage", "Show the spool, the store and the quarantine."),
    _screen(7, "log", "Show what happened, line by line."),
    Command(id="up", key="up,k", label="Up", tip="Choose the row above.", table=True, moves=True),
    Command(id="down", key="down,j", label="Down", tip="Choose the row below.", table=True, moves=True),
    Command(id="left", key="left", label="Left", tip="Choose the cell to the left.", table=True, moves=True),
    Command(id="right", key="right", label="Right", tip="Choose the cell to the right.", table=True, moves=True),
    Command(id="page_up", key="pageup", label="Backward", tip="Go back by a page.", table=True, moves=True),
    Command(id="page_down", key="pagedown", label="Forward", tip="Go on by a page.", table=True, moves=True),
    Command(
        id="first", key="home,g", label="First", tip="Go to the first row, and stay there.", table=True, moves=True
    ),
    Command(id="last", key="end,G", label="Last", tip="Go to the last row.", table=True, moves=True),
    Command(id="sort", key="s", label="Sort", tip="Sort by the next column; after the last, as it was.", table=True),
    Command(id="reverse", key="S", label="Reverse", tip="Sort the other way round.", table=True),
    Command(id="copy", key="c", label="Copy", tip="Copy the chosen cell, in full, to the clipboard.", table=True),
    Command(id="open", key="enter", label="Open", tip="Show more about the chosen row.", footer=True),
    Command(id="filter", key="slash", label="Filter", tip="Show only rows that hold a text.", footer=True),
    Command(id="show", key="f", label="Show", tip="Show all, or only some.", on=("models", "log"), footer=True),
    Command(id="measure", key="t", label="Figure", tip="Plot another figure.", on=("trends",), footer=True),
    Command(id="window", key="w", label="Window", tip="Look further back, or less far.", on=("trends",), footer=True),
    Command(id="retry", key="r", label="Retry", tip="Deliver an outcome again.", on=("storage",), footer=True),
    Command(id="reload", key="ctrl+r", label="Reload", tip="Ask the store again now.", on=_OF_STORE),
    Command(id="run_now", key="r", label="Run", tip="Have it measured now.", on=_OF_LANES, footer=True, engine=True),
    Command(
        id="pause_lane",
        key="P",
        label="Pause",
        tip="Start nothing new in this lane, or go on with it.",
        on=_OF_LANES,
        footer=True,
        engine=True,
    ),
    Command(
        id="disable",
        key="x",
        label="Disable",
        tip="Measure this model no more; a reason is asked for.",
        on=_OF_MODELS,
        footer=True,
        engine=True,
    ),
    Command(
        id="enable", key="E", label="Enable", tip="Measure this model again.", on=("models",), footer=True, engine=True
    ),
    Command(id="pause_view", key="p", label="Freeze", tip="Hold the view still; measuring goes on.", footer=True),
    Command(id="export", key="e", label="Export", tip="Save this view as CSV and SVG in the current folder."),
    Command(id="help", key="question_mark,f1", label="Help", tip="Show the keys of what is focused.", footer=True),
    Command(id="back", key="escape", label="Back", tip="Close, or clear the filter."),
    Command(id="palette", key="ctrl+p", label="Commands", tip="Find a command by its name.", app=True),
    Command(id="quit", key="q", label="Quit", tip="Leave this view; an engine of its own goes on.", footer=True),
    Command(id="leave", key="ctrl+c", label="Leave", tip="Leave this view from anywhere.", app=True),
)

BY_ID: Final[Mapping[str, Command]] = {command.id: command for command in COMMANDS}
_MODIFIERS: Final = ("ctrl+", "alt+", "shift+", "super+")
_MOVES: Final = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown")
_EDITS: Final = ("insert", "delete", "backspace", "tab", "enter", "escape", "space")
_WORDS: Final = frozenset((*_MOVES, *_EDITS, *(f"f{number}" for number in range(1, 25))))
_SAME: Final = {
    "return": "enter",
    "esc": "escape",
    "ctrl+m": "enter",
    "ctrl+i": "tab",
    "ctrl+left_square_brace": "escape",
}
"""Other names of a key. What a terminal can't tell apart is the same key."""

_SIGNS: Final = {
    "solidus": "slash",
    "reverse_solidus": "backslash",
    "commercial_at": "at",
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "low_line": "underscore",
}
"""Textual's names of signs, where they are not Unicode's."""


def commands_of(pane: str) -> Iterator[Command]:
    """Yield the commands that a screen has."""
    return (command for command in COMMANDS if pane in command.on)


def named(key: str) -> str:
    """Return a key's name as it is compared: ``/`` is ``slash``."""
    key = key.strip()
    if len(key) == 1 and not key.isalnum():
        name = unicodedata.name(key, key).lower().replace("-", "_").replace(" ", "_")
        return _SIGNS.get(name, name)
    return _SAME.get(key, key)


def is_key(text: str) -> bool:
    """Say whether a text names keys that a terminal can tell of, separated by commas."""
    return all(_is_one(named(key)) for key in text.split(","))


def _is_one(key: str) -> bool:
    bare = key
    while (modifier := next((one for one in _MODIFIERS if bare.startswith(one)), None)) is not None:
        bare = bare.removeprefix(modifier)
    return bare in _WORDS or bare in _signs() or (len(bare) == 1 and bare.isalnum())


@cache
def _signs() -> frozenset[str]:
    return frozenset(named(chr(point)) for point in range(0x21, 0x7F) if not chr(point).isalnum())


def conflicts(remapped: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (id, key, the other's id) for each remapped command that would share a key with another on some screen."""
    for one, other in combinations(sorted(COMMANDS, key=lambda command: command.id not in remapped), 2):
        shared = set(one.keys_with(remapped)) & set(other.keys_with(remapped))
        if shared and one.id in remapped and set(one.on) & set(other.on):
            yield one.id, min(shared), other.id

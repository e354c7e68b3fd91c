"""The list of commands: one place for keys, foot, help, palette, configuration and document."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.keys import _character_to_key

from llmbench.tui.bindings import BY_ID, COMMANDS, PANES, Command, conflicts, is_key, named
from llmbench.tui.screens.registry import SCREENS
from llmbench.tui.widgets.grid import Grid

DOCUMENT = Path(__file__).parents[2] / "docs/dashboard.md"
WRITTEN = {"slash": "/", "question_mark": "?", "escape": "esc"}


def test_commands_are_told_apart() -> None:
    """Each has an id, a label of one word and a sentence of its own kind."""
    assert len(BY_ID) == len(COMMANDS)
    for command in COMMANDS:
        assert re.fullmatch(r"[a-z_]+", command.id)
        assert re.fullmatch(r"[A-Z][a-z]+", command.label)
        assert re.fullmatch(r"[A-Z].*\.", command.tip)
        assert set(command.on) <= set(PANES)


def test_no_two_commands_of_a_screen_share_a_key() -> None:
    for one, other in combinations(COMMANDS, 2):
        if set(one.on) & set(other.on):
            assert not set(one.keys_with({})) & set(other.keys_with({})), (one.id, other.id)


@pytest.mark.parametrize("pane", PANES)
def test_every_command_of_a_screen_can_be_carried_out(pane: str) -> None:
    """What a key is bound to is there: on the table, on the screen, or on the app."""
    for command in COMMANDS:
        if pane in command.on and not command.app:
            owner = Grid if command.table else SCREENS[pane]
            action = "pane" if command.id in PANES else command.id
            assert callable(getattr(owner, f"action_{action}", None)), command.id


@pytest.mark.parametrize(
    "key", ["x", "X", "7", "/", "?", "+", "-", "_", "@", "\\", "[", "~", "ctrl+x", "f12", "pageup"]
)
def test_keys_are_named_as_the_toolkit_names_them(key: str) -> None:
    expected = _character_to_key(key) if len(key) == 1 else key

    assert named(key) == expected
    assert is_key(key)
    assert is_key(named(key))


@pytest.mark.parametrize("text", ["", "hello", "ctrl+", "ctrl+hello", "f25", "x,", "x y", "\x1b", "é́", "up+ctrl"])
def test_what_is_no_key(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize(
    ("remapped", "found"),
    [
        ({}, []),
        ({"sort": "o"}, []),
        ({"sort": "o", "open": "s"}, []),
        ({"sort": "q"}, [("sort", "q", "quit")]),
        ({"quit": "s", "sort": "s"}, [("quit", "s", "sort")]),
        ({"help": "/"}, [("help", "slash", "filter")]),
        ({"help": "esc"}, [("help", "escape", "back")]),
        ({"retry": "t"}, []),
        ({"sort": "t"}, [("sort", "t", "measure")]),
        ({"open": "ctrl+m"}, []),
    ],
)
def test_conflicts(remapped: dict[str, str], found: list[tuple[str, str, str]]) -> None:
    """A key that two commands of one screen would have is found, however it is written; others are no matter."""
    assert {(key, *sorted((one, other))) for one, key, other in conflicts(remapped)} == {
        (key, *sorted((one, other))) for one, key, other in found
    }


def test_what_is_bound_is_what_is_listed() -> None:
    """No screen and no table has a key besides."""
    for pane in SCREENS.values():
        assert all(isinstance(binding, Binding) and binding.id in BY_ID for binding in pane.BINDINGS)
    assert all(isinstance(binding, Binding) and BY_ID[binding.id or ""].table for binding in Grid.BINDINGS)


def test_the_document_lists_every_command() -> None:
    """As it is: its id, keys, screens and sentence."""
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (.*) \| (.*) \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert rows == [(one.id, _keys(one), _screens(one), one.tip) for one in COMMANDS]


def _keys(command: Command) -> str:
    return " ".join(f"`{WRITTEN.get(key, key)}`" for key in command.key.split(","))


def _screens(command: Command) -> str:
    return "everywhere" if command.on == PANES else ", ".join(name.capitalize() for name in command.on)

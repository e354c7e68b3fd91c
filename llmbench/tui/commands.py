"""Commands as Textual binds them, and when each applies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from textual.binding import Binding, BindingType

from llmbench.tui.bindings import BY_ID, COMMANDS, PANES, Command, commands_of
from llmbench.tui.state import State

_ONLY_WATCHED = "this engine can only be watched from here: run llmbench tui on its machine"
_NOT_CONNECTED = "there is no connection to the engine"


class Subject(NamedTuple):
    """What the chosen row is about: a lane, or a model of it. ``enabled``: None if that is not known."""

    provider: str
    model_id: str | None = None
    enabled: bool | None = None


def bindings_of_pane(pane: str) -> list[BindingType]:
    return _bound(command for command in commands_of(pane) if not (command.table or command.app))


def bindings_of_table() -> list[BindingType]:
    return _bound(command for command in COMMANDS if command.table)


def bindings_of_app() -> list[BindingType]:
    return [
        Binding(BY_ID["palette"].key, "command_palette", BY_ID["palette"].label, show=False, id="palette"),
        Binding(BY_ID["leave"].key, "leave", BY_ID["leave"].label, show=False, id="leave", priority=True),
    ]


def _bound(commands: Iterable[Command]) -> list[BindingType]:
    return [
        Binding(
            command.key,
            action_of(command),
            command.label,
            tooltip=command.tip,
            id=command.id,
        )
        for command in commands
    ]


def action_of(command: Command) -> str:
    """Return the action that carries a command out, as its widget or screen names it."""
    return f"pane('{command.id}')" if command.id in PANES else command.id


def refusal(command: Command, state: State, subject: Subject | None) -> str | None:
    """Return why a command of this screen can't be carried out now, None if it can: a sentence."""
    if not command.engine:
        return None
    if state.link.status != "live":
        return _NOT_CONNECTED
    if not state.link.commands:
        return _ONLY_WATCHED
    return _unfit(command, subject)


def _unfit(command: Command, subject: Subject | None) -> str | None:
    if subject is None:
        return "no row is chosen"
    if command.id == "enable" and subject.enabled is True:
        return "it is enabled already"
    if command.id == "disable" and subject.enabled is False:
        return "it is disabled already"
    return None

"""The dashboard: takes what came from its feed once a frame, makes the next state of it, and has a screen draw that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import anyio
from textual.app import App, SystemCommandsProvider
from textual.binding import Binding, BindingType
from textual.command import Provider

from llmbench.actors.engine_requests import EngineRequest
from llmbench.config.tables import TuiTable
from llmbench.tui import export
from llmbench.tui.bindings import BY_ID, Command
from llmbench.tui.commands import written
from llmbench.tui.feed import Feed, FeedError
from llmbench.tui.history import History, HistoryError
from llmbench.tui.items import UsualLoaded
from llmbench.tui.palette import Palette
from llmbench.tui.reduce import begin, reduce
from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.dialogs import Confirm
from llmbench.tui.screens.help import Help, help_lines
from llmbench.tui.screens.registry import SCREENS
from llmbench.tui.state import State
from llmbench.tui.text import safe
from llmbench.tui.themes import THEMES
from llmbench.tui.widgets.grid import Grid

STOP_ENGINE: Final = 1
"""What the app returns if the engine that was started with it is to be stopped."""

_USUAL_SECONDS: Final = 600.0
_LONGEST_NOTICE: Final = 500


class Dashboard(App[int], inherit_bindings=False):
    """The whole dashboard. ``quit_asks`` is asked before it is left: yes makes it return `STOP_ENGINE`."""

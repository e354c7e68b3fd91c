"""Which screen has which digit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.errors import Errors
from llmbench.tui.screens.live import Live
from llmbench.tui.screens.log import Log
from llmbench.tui.screens.models import Models
from llmbench.tui.screens.overview import Overview
from llmbench.tui.screens.storage import Storage
from llmbench.tui.screens.trends import Trends

_SCREENS: Final = (Overview, Live, Models, Errors, Trends, Storage, Log)
SCREENS: Final[Mapping[str, type[Pane]]] = {pane.key: pane for pane in _SCREENS}

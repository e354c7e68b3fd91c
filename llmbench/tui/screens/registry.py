"""Which screen has which digit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.live import Live
from llmbench.tui.screens.log import Log
from llmbench.tui.screens.overview import Overview

SCREENS: Final[Mapping[str, type[Pane]]] = {pane.key: pane for pane in (Overview, Live, Log)}

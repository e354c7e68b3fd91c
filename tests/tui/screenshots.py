"""Pictures of every screen for the documents, from a simulated day: `make screenshots`.

Nothing is random and no clock is asked, so a picture changes only if its screen does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import anyio

from llmbench.tui.bindings import PANES
from tests.tui import canned, states
from tests.tui.dashboards import driven
from tests.tui.stores import press

FOLDER: Final = Path(__file__).parents[2] / "docs" / "screenshots"
SIZE: Final = (120, 36)
STATE: Final = "one_lane_down"


async def pictures() -> dict[str, str]:
    """Return each screen, by its name, as SVG."""
    found = {}
    async with driven(states.one_lane_down(), size=SIZE, history=canned.PASTS[STATE]()) as dashboard:
        for number, pane in enumerate(PANES, 1):
            await press(dashboard, str(number))
            found[pane] = without_fonts(dashboard.app.export_screenshot(title="llmbench tui"))
    return found


def without_fonts(svg: str) -> str:
    """Take out the fonts that a picture would load from elsewhere; it then has the reader's own."""
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, svg in (await pictures()).items():
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    anyio.run(main)

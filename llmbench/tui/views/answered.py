"""How a question to the store stands, in words: asked, answered, or not, and how old what is shown is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from llmbench.tui.answers import Asked
from llmbench.tui.numbers import age
from llmbench.tui.table import Cell
from llmbench.tui.text import safe

_OLD_SECONDS = 120


def standing(asked: Asked[Any], now: datetime, whom: str = "store", *, alone: bool = False) -> Iterator[Cell]:
    """Yield a line for over a table: whose answer is shown, and how old it is.

    What stands in place of rows says why there is no answer (`nothing`); ``alone``: there are rows without one.
    """
    if asked.at is not None:
        yield _old(asked, asked.at, now, whom)
    elif alone and asked.trouble is not None:
        yield Cell(f"▲ without what the {whom} has: {safe(asked.trouble)}", "warn")
    elif alone:
        yield Cell(f"asking the {whom} …", "muted")


def _old(asked: Asked[Any], at: datetime, now: datetime, whom: str) -> Cell:
    if asked.trouble is not None:
        return Cell(f"▲ shown is what it told {age(at, now)} ago: {safe(asked.trouble)}", "warn")
    old = (now - at).total_seconds() > _OLD_SECONDS and not asked.asking
    again = " · asking again …" if asked.asking else ""
    return Cell(f"the {whom} told this {age(at, now)} ago{again}", "warn" if old else "muted")


def nothing(asked: Asked[Any], what: str, whom: str = "store") -> str:
    """Return what is shown in place of rows while there is no answer; ``what`` was asked for."""
    if asked.trouble is not None:
        return f"no {what}: {safe(asked.trouble)}; it is asked again by itself, and now with ctrl+r"
    return f"asking the {whom} for {what} …"


def matches(text_filter: str, *texts: str | None) -> bool:
    """Say whether a text that a person typed is in one of these, without regard to case."""
    wanted = text_filter.casefold()
    return any(wanted in text.casefold() for text in texts if text)

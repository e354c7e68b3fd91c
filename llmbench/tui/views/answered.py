"""How a question to the store stands, in words: asked, answered, or not, and how old what is shown is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from llmbench.tui.answers import Asked
from llmbench.tui.numbers import age
from llmbench.tui.table import Cell
from llmbench.tui.text import safe

_OLD_SECONDS = 120


def standing(asked: Asked[Any], now: datetime, whom: str = "store") -> Cell:
    """Return a line for under a screen's title: whose answer is shown, and how old it is."""
    if asked.trouble is not None:
        return _troubled(asked, now)
    if asked.at is None:
        return Cell(f"asking the {whom} …", "muted")
    old = (now - asked.at).total_seconds() > _OLD_SECONDS and not asked.asking
    again = " · asking again …" if asked.asking else ""
    return Cell(f"the {whom} told this {age(asked.at, now)} ago{again}", "warn" if old else "muted")


def _troubled(asked: Asked[Any], now: datetime) -> Cell:
    trouble = safe(asked.trouble or "")
    if asked.at is None:
        return Cell(f"✖ {trouble}", "bad")
    return Cell(f"▲ shown is what it told {age(asked.at, now)} ago: {trouble}", "warn")


def nothing(asked: Asked[Any], what: str, whom: str = "store") -> str:
    """Return what is shown in place of rows while there is no answer; ``what`` was asked for."""
    if asked.trouble is not None:
        return f"no {what}: {safe(asked.trouble)}; it is asked again by itself, and now with ctrl+r"
    return f"asking the {whom} for {what} …"


def matches(text_filter: str, *texts: str | None) -> bool:
    """Say whether a text that a person typed is in one of these, without regard to case."""
    wanted = text_filter.casefold()
    return any(wanted in text.casefold() for text in texts if text)

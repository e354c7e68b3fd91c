"""The themes: the only place with colours of its own. Everything else names what a colour means."""

from __future__ import annotations

from typing import Final

from textual.theme import BUILTIN_THEMES, Theme

_ANSI = BUILTIN_THEMES["ansi-dark"]

THEMES: Final = (
    Theme(
        name="dark",
        primary="#5fafff",
        secondary="#4a7fb5",
        accent="#7fd1c7",
        success="#6fc276",
        warning="#f0b94d",
        error="#ff6b6b",
        foreground="#e4e4e4",
        background="#14171a",
        surface="#1b1f24",
        panel="#252b32",
        variables={"tone-muted": "#a5afb9"},
    ),
    Theme(
        name="light",
        primary="#005fa3",
        secondary="#3d6f99",
        accent="#00695c",
        success="#1b7a2f",
        warning="#8f5800",
        error="#b3122a",
        foreground="#1d2227",
        background="#fbfbf8",
        surface="#f1f1ec",
        panel="#e2e3dd",
        dark=False,
        variables={"tone-muted": "#4f585f"},
    ),
    Theme(
        name="ansi",
        ansi=True,
        primary=_ANSI.primary,
        secondary=_ANSI.secondary,
        accent="ansi_cyan",
        success=_ANSI.success,
        warning=_ANSI.warning,
        error=_ANSI.error,
        foreground=_ANSI.foreground,
        background=_ANSI.background,
        surface=_ANSI.surface,
        panel=_ANSI.panel,
        boost=_ANSI.boost,
        variables=_ANSI.variables | {"tone-muted": "ansi_default"},
    ),
)

"""Foreign text for a grid of cells: one line, nothing that acts or hides, and as wide as it is said to be.

`llmbench.error_text` makes controls and bidirectional marks visible. Here, what is left of invisible and doubtful
characters goes the same way, so that the width of a text is a sum over its characters, on every terminal.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final, Literal

from llmbench.error_text import visible

LINE_LIMIT: Final = 4000
"""Characters of one line, escapes included."""

_ELLIPSIS: Final = "…"
_MOST_MARKS: Final = 3
_BARE_MARK: Final = "◌"
"""What a mark without a letter is put on, as it would else sit on whatever is drawn before it."""

_CACHED: Final = 4096
_JOINERS: Final = frozenset("\u200c\u200d")
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
"""Letters of Hangul that are drawn as nothing."""

_MARKS: Final = ("Mn", "Me", "Mc")
_UNKNOWN: Final = ("Cf", "Cn", "Co")
_VARIATIONS: Final = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_JAMO: Final = (range(0x1160, 0x1200), range(0xD7B0, 0xD800))
"""Vowels and final consonants, drawn into the syllable before them."""

_SKIN_TONES: Final = range(0x1F3FB, 0x1F400)
_WIDENED: Final = (range(0x2630, 0x2638), range(0x268A, 0x2690), range(0x4DC0, 0x4E00), range(0x1D300, 0x1D377))
"""Symbols that are two cells wide since Unicode 16."""


def safe(text: str, limit: int = LINE_LIMIT) -> str:
    r"""Return foreign text as one line of at most ``limit`` characters that is safe to draw.

    What is invisible becomes an escape such as ``\u200b``, unless it only joins or varies its neighbours and goes
    without a loss; a letter has three marks at most. Applied twice, it changes nothing more.
    """
    return _limited(_drawn(visible(text[: limit + 1])), limit)


def streamed(text: str) -> str:
    """Return a piece of a streamed text, safe to draw, with its line breaks."""
    return "\n".join(_drawn(visible(line)) for line in text.replace("\r\n", "\n").replace("\t", "  ").split("\n"))


def continued(before: str, piece: str, limit: int) -> str:
    """Return the last ``limit`` characters of a streamed text, of which ``before`` is clean already, with a new piece.

    A mark at the start of a piece belongs to the letter before it, so the last ones are looked at again.
    """
    kept = len(before) - _MOST_MARKS - 1
    return (before[: max(kept, 0)] + streamed(before[max(kept, 0) :] + piece[-limit:]))[-limit:]


def _limited(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + _ELLIPSIS[:limit]


def _drawn(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    drawn: list[str] = []
    marks = 0
    for shown, is_mark in map(_shown, text):
        marks = marks + 1 if is_mark else marks if not shown else 0
        if is_mark and not drawn:
            drawn.append(_BARE_MARK)
        if marks <= _MOST_MARKS:
            drawn.append(shown)
    return "".join(drawn)


@lru_cache(_CACHED)
def _shown(char: str) -> tuple[str, bool]:
    """Return what is drawn of a character, and whether it is a mark on the one before."""
    kind = unicodedata.category(char)
    if char in _JOINERS or _is_among(char, _VARIATIONS):
        return "", False
    if kind in _UNKNOWN or char in _FILLERS:
        return _escaped(char), False
    if kind == "Zs":
        return " ", False
    return char, kind in _MARKS


def _escaped(char: str) -> str:
    point = ord(char)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _is_among(char: str, ranges: tuple[range, ...]) -> bool:
    return any(ord(char) in found for found in ranges)


def width(text: str) -> int:
    """Return how many cells a text takes that `safe` or `streamed` returned."""
    return len(text) if text.isascii() else sum(map(_cells, text))


@lru_cache(_CACHED)
def _cells(char: str) -> Literal[0, 1, 2]:
    if unicodedata.category(char) in _MARKS or _is_among(char, (*_JAMO, _SKIN_TONES)):
        return 0
    wide = unicodedata.east_asian_width(char) in "WF" or _is_among(char, _WIDENED)
    return 2 if wide else 1


def cut(text: str, cells: int) -> str:
    """Return a text in at most so many cells, without its end if need be."""
    if width(text) <= cells:
        return text
    return _head(text, cells - 1) + _ELLIPSIS if cells > 0 else ""


def tail(text: str, cells: int) -> str:
    """Return a text in at most so many cells, without its beginning if need be."""
    if width(text) <= cells:
        return text
    return _ELLIPSIS + _end(text, cells - 1) if cells > 0 else ""


def shorten(text: str, cells: int) -> str:
    """Return a text in at most so many cells, without its middle if need be: both ends of a name tell names apart."""
    if width(text) <= cells:
        return text
    if cells <= 0:
        return ""
    kept = cells - 1
    return _head(text, kept - kept // 2) + _ELLIPSIS + _end(text, kept // 2)


def _head(text: str, cells: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += _cells(char)
        if taken > cells:
            return text[:index]
    return text


def _end(text: str, cells: int) -> str:
    taken = 0
    start = len(text)
    for index in range(len(text) - 1, -1, -1):
        wide = _cells(text[index])
        taken += wide
        if taken > cells:
            break
        if wide:
            start = index
    return text[start:]


def wrap(text: str, cells: int) -> list[str]:
    """Return a streamed text in lines of at most ``cells`` (two at least) cells, broken after a space where it can."""
    return [line for paragraph in text.split("\n") for line in _wrapped(paragraph, max(cells, 2))]


def _wrapped(text: str, cells: int) -> list[str]:
    lines = []
    while len(head := _head(text, cells)) < len(text):
        space = head.rfind(" ") + 1
        if text[len(head)] != " " and space > cells // 2:
            head = head[:space]
        lines.append(head.rstrip())
        text = text[len(head) :].removeprefix(" ")
    return [*lines, text]

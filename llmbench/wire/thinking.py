"""Reasoning that comes inside of the visible text, between ``<think>`` and ``</think>``.

Servers of open models that do not split it off send a reasoning model's output as it is: it begins with the one tag
(after white space, at times), and behind the other the answer follows. Both tags may be cut anywhere into any number
of deltas.
"""

from __future__ import annotations

from typing import Final, Literal

_BEGIN: Final = "<think>"
_END: Final = "</think>"
_MOST_SPACE: Final = 256
"""Characters of white space before the tag: where more come, they are the text."""


class ThinkingSplitter:
    """Splits one text into its reasoning and what is visible; feed it the text until it is `decided`.

    What could be the beginning of a tag is held back. White space before a possible ``<think>`` is, too, so that it is
    not taken for the first visible token; it stays part of a text that begins otherwise.
    """

    __slots__ = ("_held", "_stage", "decided")

    def __init__(self) -> None:
        self.decided = False
        """All that follows is visible: there was no tag, or the reasoning is over."""
        self._held = ""
        self._stage: Literal["before", "inside", "behind"] = "before"

    def split(self, text: str) -> tuple[str, str]:
        """Return the next reasoning and the next visible text, either of which may be empty; reasoning comes first."""
        text = self._held + text
        self._held = ""
        match self._stage:
            case "before":
                return self._before(text)
            case "inside":
                return self._inside(text)
            case "behind":
                return "", self._behind(text)

    def release(self) -> tuple[str, str]:
        """Return what is held back, as `split` does, when no more is to come."""
        held, self._held = self._held, ""
        return (held, "") if self._stage == "inside" else ("", held)

    def _before(self, text: str) -> tuple[str, str]:
        begin = text.lstrip()
        if len(text) - len(begin) <= _MOST_SPACE:
            if begin.startswith(_BEGIN):
                self._stage = "inside"
                return self._inside(begin[len(_BEGIN) :])
            if _BEGIN.startswith(begin):
                self._held = text
                return "", ""
        self.decided = True
        return "", text

    def _inside(self, text: str) -> tuple[str, str]:
        reasoning, end, rest = text.partition(_END)
        if end:
            self._stage = "behind"
            return reasoning, self._behind(rest)
        tag = text.rfind("<", -len(_END) + 1)
        if tag >= 0 and _END.startswith(text[tag:]):
            self._held = text[tag:]
            return text[:tag], ""
        return text, ""

    def _behind(self, text: str) -> str:
        visible = text.lstrip("\r\n")
        self.decided = visible != ""
        return visible

"""Lines of cells, drawn as they are: only what changed is drawn again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from llmbench.tui.widgets.drawing import TONE_CLASSES, Line, line_strip
from llmbench.tui.widgets.fitting import resized


class Lines(Widget):
    """Lines of cells; what does not fit is cut with an ellipsis. Its height is theirs unless a style says otherwise."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(TONE_CLASSES)
    ALLOW_SELECT = False

    def __init__(self, lines: Sequence[Line] = (), **options: Any) -> None:
        super().__init__(**options)
        self._drawn: tuple[Line, ...] = tuple(lines)

    @property
    def lines(self) -> tuple[Line, ...]:
        return self._drawn

    def show(self, lines: Sequence[Line]) -> None:
        """Draw these lines from now on."""
        before, self._drawn = self._drawn, tuple(tuple(line) for line in lines)
        if len(before) != len(self._drawn):
            resized(self)
            return
        changed = [y for y, line in enumerate(self._drawn) if line != before[y]]
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._drawn)

    def render_line(self, y: int) -> Strip:
        line = self._drawn[y] if y < len(self._drawn) else ()
        return line_strip(self, line, self.size.width, self.rich_style)


class Panel(Lines):
    """Lines that are made to fill it; it says when it has another size, as they then have to be made anew."""

    class Resized(Message):
        """A panel has another size."""

    def on_resize(self, _event: events.Resize) -> None:
        self.post_message(self.Resized())

"""Sizes that follow what is shown."""

from __future__ import annotations

from textual.widget import Widget


def resized(widget: Widget) -> None:
    """Have a widget drawn: what is in it has another size. If its own follows that, it is measured at the next layout.

    Textual remembers a size for as long as nobody asks for another layout, and between two idle moments of a widget it
    notes only the first who asks: laid out in the middle of that, the widget would keep the size that it had then.
    """
    follows = widget.styles.auto_dimensions
    if follows:
        widget._layout_updates += 1  # noqa: SLF001  nothing public forgets it
    widget.refresh(layout=follows)

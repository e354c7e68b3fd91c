"""Sizes that follow what is shown."""

from __future__ import annotations

from textual.widget import Widget


def measure_anew(widget: Widget) -> None:
    """Have a widget measured at the next layout: what is in it has another size.

    Textual remembers a size for as long as nobody asks for another layout, and between two idle moments of a widget it
    notes only the first who asks: laid out in the middle of that, the widget would keep the size that it had then.
    """
    widget._layout_updates += 1  # noqa: SLF001  nothing public forgets it
    widget.refresh(layout=True)

"""Draws a `Table`: a heading that stays, rows of which one is chosen, columns that go where there is no room.

Only lines that changed are drawn again. Text in cells is drawn as it is, never as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from llmbench.tui.arrange import GAP, Cursor, Fitted, Order, fitted, ordered
from llmbench.tui.commands import bindings_of_table
from llmbench.tui.table import Cell, Row, Table
from llmbench.tui.text import shorten, wrap
from llmbench.tui.widgets.drawing import TONE_CLASSES, filled, padded, tone_style
from llmbench.tui.widgets.fitting import resized

_TOLD_CELLS: Final = 60
_NOTHING: Final = Table(columns=(), rows=(), empty="")


class Grid(ScrollView, can_focus=True, inherit_bindings=False):
    """A table. ``quiet``: nothing can be chosen in it, and it has no heading."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--heading",
        "grid--cursor",
        "grid--cell",
        "grid--empty",
        *TONE_CLASSES,
    }
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = bindings_of_table()

    class Chosen(Message):
        """Another row is chosen; its key is None if there is no row."""

        def __init__(self, grid: Grid, key: str | None) -> None:
            super().__init__()
            self.grid = grid
            self.key = key

        @property
        def control(self) -> Grid:
            return self.grid

    class Opened(Message):
        """A row was clicked twice."""

    def __init__(self, *, quiet: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.can_focus = not quiet
        self._heading = 0 if quiet else 1
        self._table = _NOTHING
        self._rows: tuple[Row, ...] = ()
        self._fitted: tuple[Fitted, ...] = ()
        self._order = Order()
        self._cursor = Cursor()
        self._column = 0
        self._width = 0

    # what it shows

    @property
    def table(self) -> Table:
        """The table with its rows in the order in which they are shown."""
        return Table(columns=self._table.columns, rows=self._rows, empty=self._table.empty, hidden=self._table.hidden)

    @property
    def chosen(self) -> str | None:
        """The key of the row that the cursor is on."""
        return self._cursor.key

    @property
    def chosen_row(self) -> Row | None:
        return self._rows[self._cursor.place] if self._rows else None

    @property
    def chosen_cell(self) -> Cell | None:
        row = self.chosen_row
        return row.cells[self._fitted[self._column].place] if row is not None and self._fitted else None

    @property
    def order(self) -> Order:
        return self._order

    def show(self, table: Table) -> None:
        """Draw this table from now on; the cursor stays on its row."""
        before, columns = self._rows, self._table.columns
        self._table = table
        self._rows = ordered(table, self._order)
        self._move(self._cursor.on(self._rows))
        self._fit()
        if len(before) != len(self._rows) or columns != table.columns or not self._rows:
            self._resized()
        else:
            self._redraw(index for index, row in enumerate(self._rows) if row != before[index])

    def _fit(self) -> None:
        self._width = self.scrollable_content_region.width
        self._fitted = fitted(self._table.columns, self._width)
        self._column = min(self._column, max(len(self._fitted) - 1, 0))

    def _resized(self) -> None:
        self.virtual_size = Size(0, len(self._rows) + self._heading)
        resized(self)

    def _redraw(self, indexes: Iterator[int]) -> None:
        top = self.scroll_offset.y
        seen = range(top, top + self.size.height - self._heading)
        lines = [Region(0, index - top + self._heading, self.size.width, 1) for index in indexes if index in seen]
        if lines:
            self.refresh(*lines)

    def on_resize(self) -> None:
        self._fit()
        self.refresh()

    # drawing

    def render_line(self, y: int) -> Strip:
        if self._width != self.scrollable_content_region.width:
            self._fit()  # a scrollbar came or went
        if y < self._heading:
            return self._heading_strip()
        index = self.scroll_offset.y + y - self._heading
        if not self._rows:
            return self._empty_strip(y - self._heading)
        return self._row_strip(index) if index < len(self._rows) else Strip.blank(self._width, self.rich_style)

    def _heading_strip(self) -> Strip:
        style = self.get_component_rich_style("grid--heading")
        mark = "↓" if self._order.reverse else "↑"

        def name(column: Fitted) -> str:
            text = self._table.columns[column.place].name
            return f"{mark}{text}" if column.place == self._order.column else text

        return self._strip(name, lambda _nth, _column: style, style)

    def _row_strip(self, index: int) -> Strip:
        cells = self._rows[index].cells
        chosen = index == self._cursor.place and self.can_focus
        base = self.get_component_rich_style("grid--cursor") if chosen else self.rich_style

        def style(nth: int, column: Fitted) -> Style:
            found = base + tone_style(self, cells[column.place].tone)
            pointed = chosen and self.has_focus and nth == self._column
            return found + self.get_component_rich_style("grid--cell", partial=True) if pointed else found

        return self._strip(lambda column: cells[column.place].text, style, base)

    def _strip(self, text: Callable[[Fitted], str], style: Callable[[int, Fitted], Style], base: Style) -> Strip:
        segments, taken = [], 0
        for nth, column in enumerate(self._fitted):
            gap = GAP if nth else 0
            segments.append(Segment(" " * gap, base))
            shown = padded(text(column), column.width, right=column.right, keeps_end=column.keeps_end)
            segments.append(Segment(shown, style(nth, column)))
            taken += gap + column.width
        return filled(segments, taken, self._width, base)

    def _empty_strip(self, line: int) -> Strip:
        style = self.get_component_rich_style("grid--empty")
        lines = wrap(self._table.empty, self._width - 4)
        text = lines[line - 1] if 0 < line <= len(lines) else ""
        return Strip([Segment(padded(f"  {text}", self._width), style)], self._width)

    # the cursor

    def _move(self, cursor: Cursor) -> None:
        before, self._cursor = self._cursor, cursor
        if before.key != cursor.key:
            self.post_message(self.Chosen(self, cursor.key))
        if before.place != cursor.place:
            self._redraw(iter((before.place, cursor.place)))

    def stay(self) -> None:
        """Keep the cursor on its row from now on, wherever that goes."""
        self._cursor = self._cursor.at(self._rows, self._cursor.place)

    def _go(self, index: int) -> None:
        self._move(self._cursor.at(self._rows, index))
        self._follow()

    def _follow(self) -> None:
        """Scroll as little as shows the cursor."""
        height = self.size.height - self._heading
        top = min(max(self.scroll_offset.y, self._cursor.place - height + 1), self._cursor.place)
        if top != self.scroll_offset.y:
            self.scroll_to(y=top, animate=False)

    def action_up(self) -> None:
        self._go(self._cursor.place - 1)

    def action_down(self) -> None:
        self._go(self._cursor.place + 1)

    def action_page_up(self) -> None:
        self._go(self._cursor.place - self._page)

    def action_page_down(self) -> None:
        self._go(self._cursor.place + self._page)

    @property
    def _page(self) -> int:
        return max(self.size.height - self._heading - 1, 1)

    def action_first(self) -> None:
        """Go to the first row, whichever that is from now on."""
        self._move(Cursor().on(self._rows))
        self.scroll_to(y=0, animate=False)

    def action_last(self) -> None:
        self._go(len(self._rows) - 1)

    def action_left(self) -> None:
        self._point(self._column - 1)

    def action_right(self) -> None:
        self._point(self._column + 1)

    def _point(self, column: int) -> None:
        self._column = min(max(column, 0), max(len(self._fitted) - 1, 0))
        self._redraw(iter((self._cursor.place,)))

    # the order

    def action_sort(self) -> None:
        """Sort by the next column that is shown; after the last one, as the table itself is."""
        shown = [None, *(column.place for column in self._fitted)]
        place = shown.index(self._order.column) if self._order.column in shown else 0
        self.order_by(Order(shown[(place + 1) % len(shown)]))

    def action_reverse(self) -> None:
        self.order_by(self._order._replace(reverse=not self._order.reverse))

    def order_by(self, order: Order) -> None:
        self._order = order
        self.show(self._table)
        self.refresh()

    def action_copy(self) -> None:
        cell = self.chosen_cell
        if cell is not None:
            text = cell.text if cell.full is None else cell.full
            self.app.copy_to_clipboard(text)
            self.notify(f"copied: {shorten(text, _TOLD_CELLS)}", markup=False)

    # the mouse and the focus

    def on_click(self, event: events.Click) -> None:
        if not self.can_focus:
            return
        if event.y < self._heading:
            self._sort_at(event.x)
        elif (index := self.scroll_offset.y + event.y - self._heading) < len(self._rows):
            self._go(index)
            if event.chain == 2:
                self.post_message(self.Opened())

    def _sort_at(self, x: int) -> None:
        end = 0
        for column in self._fitted:
            end += column.width + GAP
            if x < end:
                self.order_by(Order(column.place, reverse=self._order == Order(column.place)))
                return

    def on_focus(self) -> None:
        self._redraw(iter((self._cursor.place,)))

    def on_blur(self) -> None:
        self._redraw(iter((self._cursor.place,)))

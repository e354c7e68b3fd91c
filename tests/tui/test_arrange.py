"""Which columns fit, how rows are sorted, and where the cursor is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmbench.tui.arrange import GAP, Cursor, Fitted, Order, fitted, ordered
from llmbench.tui.table import Cell, Column, Row, Table

COLUMNS = (
    Column(name="name", width=10),
    Column(name="first", width=6, right=True, drop=2),
    Column(name="second", width=6, drop=2),
    Column(name="third", width=6, drop=1),
    Column(name="rest", width=0),
)
columns = st.builds(Column, name=st.just("x"), width=st.integers(0, 30), right=st.booleans(), drop=st.integers(0, 5))


def rows(*sorts: float | str | None) -> Table:
    """Return a table of one column, whose rows have the numbers of their places as keys."""
    cells = tuple(
        Row(str(place), (Cell(str(sort), sort=sort if sort != "text" else None),)) for place, sort in enumerate(sorts)
    )
    return Table(columns=(Column(name="x", width=0),), rows=cells, empty="")


def keys(found: tuple[Row, ...]) -> str:
    return "".join(row.key for row in found)


class TestFitted:
    """Columns by their order of dropping."""

    def test_all_fit(self) -> None:
        """The one that takes what is left takes it."""
        assert fitted(COLUMNS, 80)[-1] == Fitted(4, 80 - 28 - 4 * GAP, right=False)

    def test_those_with_the_highest_number_go_first_and_together(self) -> None:
        assert [column.place for column in fitted(COLUMNS, 45)] == [0, 3, 4]
        assert [column.place for column in fitted(COLUMNS, 30)] == [0, 4]

    def test_what_stays_is_cut_at_the_edge(self) -> None:
        assert fitted(COLUMNS, 6) == (Fitted(0, 6, right=False),)
        assert fitted(COLUMNS, 0) == ()

    @given(st.lists(columns, max_size=8), st.integers(0, 120))
    def test_they_never_take_more_than_there_is(self, some: list[Column], width: int) -> None:
        found = fitted(some, width)

        assert sum(column.width for column in found) + GAP * max(len(found) - 1, 0) <= width
        assert all(column.width > 0 for column in found)
        assert [column.place for column in found] == sorted({column.place for column in found})


class TestOrdered:
    """Rows by a column."""

    def test_its_own_order(self) -> None:
        assert keys(ordered(rows(3, 1, 2), Order())) == "012"
        assert keys(ordered(rows(3, 1, 2), Order(reverse=True))) == "210"

    def test_numbers_and_then_what_is_none(self) -> None:
        """What is not known is last, either way round."""
        table = rows(3, None, 1.5, "b", 2, "a")

        assert keys(ordered(table, Order(0))) == "240531"
        assert keys(ordered(table, Order(0, reverse=True))) == "042135"

    def test_equal_rows_keep_their_order(self) -> None:
        assert keys(ordered(rows(1, 1, 0, 1), Order(0))) == "2013"

    def test_a_column_that_is_gone(self) -> None:
        assert keys(ordered(rows(3, 1), Order(7))) == "01"


class TestCursor:
    """Where the cursor is as rows come, go and move."""

    def test_it_stays_on_top_until_it_is_moved(self) -> None:
        cursor = Cursor().on(rows(1, 2).rows)
        assert cursor.key == "0"

        assert cursor.on(rows(1, 2).rows[::-1]).key == "1"

    def test_it_follows_its_row(self) -> None:
        cursor = Cursor().at(rows(1, 2, 3).rows, 1)

        assert cursor.on(rows(1, 2, 3).rows[1:]) == Cursor(0, "1", moved=True)

    def test_a_row_that_is_gone_leaves_it_where_it_is(self) -> None:
        """On the row that has come there, or on the last one."""
        some = rows(1, 2, 3).rows
        assert Cursor().at(some, 1).on((some[0], some[2])).key == "2"
        assert Cursor().at(some, 2).on(some[:2]).key == "1"
        assert Cursor().at(some, 2).on(()).key is None

    def test_it_never_leaves_the_rows(self) -> None:
        some = rows(1, 2, 3).rows
        assert Cursor().at(some, -5).place == 0
        assert Cursor().at(some, 99).place == 2

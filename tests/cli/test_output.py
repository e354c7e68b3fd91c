"""Tables: what is laid out by hand, for speed, looks as rich would lay it out."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from llmbench.cli import output

_letters = string.ascii_letters + string.digits + "./:%-> "
cells = st.text(_letters, max_size=14).map(str.rstrip)
rows = st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5)
NAMES = ("model", "TTFT p50 ms", "n")


@given(rows=rows, numeric=st.sets(st.integers(0, 2)))
def test_a_table_that_fits_is_laid_out_the_same(rows: list[tuple[str, str, str]], numeric: set[int]) -> None:
    """Line by line, but for blanks at the end, which are cut off anyhow."""
    assert output._fits(NAMES, rows)

    by_hand = [line.rstrip() for line in output._aligned(NAMES, rows, numeric)]
    assert by_hand == [line.rstrip() for line in output._laid_out(NAMES, rows, numeric, {0})]

"""Quantiles are those of the standard library, at the ends, too."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.quantiles import quantile


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50), st.integers(1, 99))
def test_quantile_is_that_of_the_standard_library(values: list[float], percent: int) -> None:
    """Type 7 of Hyndman and Fan, which `statistics` calls inclusive."""
    expected = statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
    assert quantile(sorted(values), percent / 100) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_quantile_at_the_ends() -> None:
    """The least, the greatest, and one value that is both."""
    assert (quantile([1.0, 2.0, 9.0], 0.0), quantile([1.0, 2.0, 9.0], 1.0), quantile([7.0], 0.5)) == (1.0, 9.0, 7.0)

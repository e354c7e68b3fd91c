"""Numbers on screens: three significant digits, a fixed width, a dash for what is not known."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.tui import numbers

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


class TestSignificant:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.0, "0.00"),
            (0.4123, "0.41"),
            (4.1234, "4.12"),
            (9.996, "10.0"),
            (41.23, "41.2"),
            (99.96, "100"),
            (412.4, "412"),
            (4123.0, "4123"),
            (9999.6, "10.0k"),
            (41_234.0, "41.2k"),
            (999_960.0, "1.00M"),
            (12_345_678, "12.3M"),
            (None, "—"),
            (math.nan, "—"),
            (math.inf, "—"),
        ],
    )
    def test_it_has_three_digits(self, value: float | None, text: str) -> None:
        assert numbers.significant(value) == text

    @given(st.floats(min_value=0) | st.integers(min_value=0, max_value=10**400))
    def test_it_never_takes_more_than_five_cells(self, value: float) -> None:
        assert len(numbers.significant(value)) <= 5

    @given(st.integers(min_value=0))
    def test_neither_does_a_count(self, value: int) -> None:
        assert len(numbers.count(value)) <= 5


class TestUnits:
    def test_a_duration_is_as_precise_as_it_is_short(self) -> None:
        told = [numbers.seconds(value) for value in (0.0008, 0.4123, 0.9999, 4.123, 59.0, 61.0, None)]

        assert told == ["0.80 ms", "412 ms", "1.00 s", "4.12 s", "59.0 s", "1 min", "—"]

    def test_ages_are_in_words(self) -> None:
        told = [numbers.duration(value) for value in (0.9, 14, 59.9, 60, 3600 * 3 + 300, 86_400 * 2 + 3600 * 3, None)]

        assert told == ["0 s", "14 s", "59 s", "1 min", "3 h 05 min", "2 d 03 h", "—"]

    def test_an_age_is_never_below_zero(self) -> None:
        """Clocks of two machines may disagree."""
        assert numbers.age(NOON + timedelta(seconds=5), NOON) == "0 s"
        assert numbers.ahead(NOON - timedelta(seconds=5), NOON) == "0 s"
        assert (numbers.age(None, NOON), numbers.ahead(None, NOON)) == ("—", "—")

    def test_bytes_have_their_unit(self) -> None:
        told = [numbers.size(value) for value in (0, 1023, 1024, 1_572_864, 1024**3, 5 * 1024**4, None)]

        assert told == ["0 B", "1023 B", "1.00 KiB", "1.50 MiB", "1.00 GiB", "5.00 TiB", "—"]

    def test_a_share_that_is_not_zero_is_not_told_as_zero(self) -> None:
        told = [numbers.share(value) for value in (0.0, 0.0001, 0.051, 0.5, 1.0, None)]

        assert told == ["0 %", "<0.1 %", "5.1 %", "50 %", "100 %", "—"]

    def test_ratios_are_short(self) -> None:
        assert [numbers.times(value) for value in (0.5, 1.0, 4.12, 12.4, None)] == ["0.5", "1.0", "4.1", "12", "—"]


class TestTimesOfDay:
    def test_they_are_in_the_zone_of_now(self) -> None:
        now = NOON.astimezone(timezone(timedelta(hours=2)))

        assert numbers.time_of_day(NOON, now) == "14:00"
        assert numbers.clock_time(NOON, now) == "14:00:00"

    def test_another_day_is_named(self) -> None:
        before = NOON - timedelta(days=1)

        assert numbers.time_of_day(before, NOON) == "03-13 12:00"
        assert numbers.short_time(before, NOON) == "03-13"
        assert (numbers.time_of_day(None, NOON), numbers.short_time(None, NOON)) == ("—", "—")


class TestSparkline:
    def test_it_goes_from_zero_to_the_highest(self) -> None:
        assert numbers.sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8], 9, 8) == "▁▁▂▃▄▅▆▇█"

    def test_a_gap_is_a_blank(self) -> None:
        assert numbers.sparkline([1, None, math.nan, 2], 4, 2) == "▄  █"

    def test_the_last_values_are_at_the_right(self) -> None:
        assert numbers.sparkline([8, 8], 4, 8) == "  ██"
        assert numbers.sparkline([1, 2, 8], 1, 8) == "█"

    def test_lines_share_the_highest_of_all(self) -> None:
        assert numbers.top([[1.0, None], [], [4.0, math.inf]]) == 4.0
        assert numbers.top([[], [None]]) == 0

    @given(st.lists(st.none() | st.floats(), max_size=30), st.integers(-1, 20), st.floats())
    def test_it_always_has_its_width(self, values: list[float | None], cells: int, highest: float) -> None:
        assert len(numbers.sparkline(values, cells, highest)) == max(cells, 0)

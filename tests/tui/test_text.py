"""Foreign text in cells: one line, nothing that acts, hides or overflows, and as wide as the screen's library says."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmbench.tui.text import continued, cut, safe, shorten, streamed, tail, width, wrap

ANY = st.text(st.characters(codec=None), max_size=80)
HOSTILE = [
    "[/x]",
    "[@click=app.quit]x[/]",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "a\x00b",
    "\u202egnol\u202c",
    "漢字かな한글",
    "Z" + "\u0351" * 40,
    "\u0301starts with a mark",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd ☁\ufe0f",
    "zero\u200bwidth\ufeff",
    "\ud800",
    "line\nbreak\u2028end",
    "\U0010ffff \ue000",
]


class TestSafe:
    @given(ANY)
    @example("".join(HOSTILE))
    def test_it_is_one_line_with_nothing_invisible(self, text: str) -> None:
        shown = safe(text)

        kinds = {unicodedata.category(char) for char in shown}
        assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert len(shown) <= 4000

    @given(ANY)
    @example("".join(HOSTILE))
    def test_twice_changes_nothing_more(self, text: str) -> None:
        assert safe(safe(text)) == safe(text)

    @given(st.text(st.sampled_from("abc XYZ.-/[]@žü漢"), max_size=60))
    def test_ordinary_text_stays_as_it_is(self, text: str) -> None:
        assert safe(text) == text

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("[@click=app.quit]x[/]", "[@click=app.quit]x[/]"),
            ("a\x00\x1b[31m", r"a\x00\x1b[31m"),
            ("one\ntwo", r"one\ntwo"),
            ("\u202eabc", r"\u202eabc"),
            ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
            ("\U000e0041", r"\U000e0041"),
            ("a\u200db\ufe0f", "ab"),
            ("e" + "\u0301" * 9, "e" + "\u0301" * 3),
            ("e" + "\u0301\u200d" * 9, "e" + "\u0301" * 3),
            ("\u0301", "◌\u0301"),
            ("a\u00a0b", "a b"),
        ],
    )
    def test_what_is_foreign_is_visible(self, text: str, shown: str) -> None:
        assert safe(text) == shown

    def test_a_long_line_is_cut_and_says_so(self) -> None:
        shown = safe("x" * 10_000)

        assert (len(shown), shown[-1]) == (4000, "…")


class TestWidth:
    def test_it_is_that_of_the_library_for_every_character(self) -> None:
        """What a text is padded to and what the screen takes it for are the same."""
        different = [
            hex(point)
            for point in (*range(0x20, 0x32000), *range(0xE0000, 0xE0200), sys.maxunicode)
            if width(shown := streamed(chr(point))) != cell_len(shown)
        ]

        assert different == []

    @given(ANY)
    @example("".join(HOSTILE))
    def test_it_is_that_of_the_library_for_texts(self, text: str) -> None:
        assert width(safe(text)) == cell_len(safe(text))


class TestFitting:
    @given(ANY, st.integers(-1, 30), st.sampled_from([cut, tail, shorten]))
    @example("漢字漢字漢字", 4, shorten)
    def test_no_text_is_wider_than_asked(self, text: str, cells: int, fit: object) -> None:
        assert callable(fit)
        shown = fit(safe(text), cells)

        assert width(shown) <= max(cells, 0)
        assert shown == safe(text) or cells <= 0 or "…" in shown

    def test_they_leave_out_the_end_the_beginning_or_the_middle(self) -> None:
        assert (cut("abcdefgh", 5), tail("abcdefgh", 5), shorten("abcdefgh", 5)) == ("abcd…", "…efgh", "ab…gh")

    @given(ANY, st.integers(2, 30))
    def test_wrapped_lines_are_no_wider_and_lose_nothing_but_spaces(self, text: str, cells: int) -> None:
        shown = streamed(text)
        lines = wrap(shown, cells)

        assert all(width(line) <= cells for line in lines)
        assert "".join(lines).replace(" ", "") == shown.replace("\n", "").replace(" ", "")

    def test_lines_break_after_words(self) -> None:
        assert wrap("counting the waves\nby night", 12) == ["counting the", "waves", "by night"]


class TestStreamed:
    def test_line_breaks_stay(self) -> None:
        assert streamed("a\r\nb\n\tc\x00") == "a\nb\n  c\\x00"

    @given(st.lists(ANY, max_size=5))
    def test_pieces_make_a_clean_text_that_is_bounded(self, pieces: list[str]) -> None:
        text = ""
        for piece in pieces:
            text = continued(text, piece, 50)

        assert len(text) <= 50
        assert not {unicodedata.category(char) for char in text.replace("\n", "")} & {"Cc", "Cf", "Cs", "Co", "Cn"}

    def test_a_mark_joins_the_letter_of_the_piece_before(self) -> None:
        assert continued("caf", "e", 50) + "\u0301" == continued(continued("caf", "e", 50), "\u0301", 50)

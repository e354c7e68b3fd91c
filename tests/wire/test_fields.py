"""Excerpts of foreign bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.wire.fields import excerpt


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain text", "plain text"),
        (b"a\r\n\tb\x00\x1b[31m\x7f", "a\\r\\n\\tb\\x00\\x1b[31m\\x7f"),
        ("é漢😀".encode(), "é漢😀"),
        ("a\u2028\u202e\ufeffb\x85".encode(), "a\\u2028\\u202e\\ufeffb\\x85"),
        (b"\xff\xfe\xe2\x82", "\\xff\\xfe\\xe2\\x82"),
        (b"x" * 1000, "x" * 200),
        (("😀" * 300).encode(), "😀" * 200),
    ],
)
def test_an_excerpt_is_short_and_printable(data: bytes, expected: str) -> None:
    """Characters that can't be shown, or that would change how others are, are escaped."""
    assert excerpt(data) == expected


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_have_an_excerpt(data: bytes) -> None:
    """No bytes raise, and none get through unescaped or beyond the limit."""
    shown = excerpt(data)

    assert len(shown) <= 200
    assert shown.isprintable()

"""Reading error bodies and the delays that headers ask for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.errors import is_html, parse_error_body, parse_retry_after, retry_after_from_headers

SERVER_DATE = "Sat, 21 Nov 2026 18:00:00 GMT"


@pytest.mark.parametrize(
    ("body", "code", "kind", "message"),
    [
        ({"error": {"message": "m", "type": "t", "param": None, "code": "c"}}, "c", "t", "m"),
        ({"message": "m", "type": "t", "code": "c"}, "c", "t", "m"),
        ({"type": "error", "error": {"type": "t", "message": "m"}, "request_id": "r"}, None, "t", "m"),
        ({"error": "m"}, None, None, "m"),
        ({"error": "invalid_grant", "error_description": "m"}, "invalid_grant", None, "m"),
        ({"detail": "m"}, None, None, "m"),
        ({"detail": {"error": "m"}}, None, None, "m"),
        ({"detail": [{"loc": ["body", "n"], "msg": "m", "type": "t"}]}, None, "t", "body.n: m"),
        ({"errors": [{"message": "m"}]}, None, None, "m"),
        ({"message": "m"}, None, None, "m"),
        ({"__type": "com.amazon.coral#XException:http://x", "Message": "m"}, "XException", None, "m"),
        ({"error": {"code": 429, "status": "S", "message": "m"}}, "S", None, "m"),
        ([{"error": {"code": 429, "message": "m"}}], "429", None, "m"),
        ({"error": {"message": "m", "code": True}}, None, None, "m"),
        ({"error": {"message": "m", "metadata": {"raw": '{"error":{"message":"inner"}}'}}}, None, None, "m: inner"),
        ({"error": '{"error":{"message":"m","code":"c"}}'}, "c", None, "m"),
        ("m", None, None, "m"),
        ("", None, None, ""),
        (None, None, None, ""),
        ({}, None, None, ""),
    ],
)
def test_every_documented_shape_is_read(body: Any, code: str | None, kind: str | None, message: str) -> None:
    """Code, type and message are found in each shape, decoded or as the bytes that came."""
    raw = body if isinstance(body, str | None) else json.dumps(body)

    assert (code, kind, message) == parse_error_body(body)
    if body:
        assert (code, kind, message) == parse_error_body(raw)
        assert (code, kind, message) == parse_error_body(memoryview(str(raw).encode()))


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!DOCTYPE html>\n<html><head><title>502 Bad\n Gateway</title></head></html>", "502 Bad Gateway"),
        ("<html><body><h1>Not &amp; Found</h1></body></html>", "Not & Found"),
        ("<HTML><style>p{}</style><p>Go <b>away</b></p></HTML>", "Go away"),
        ("<html></html>", "an HTML page without text"),
    ],
)
def test_a_page_is_read_by_its_title(page: str, message: str) -> None:
    """Of an HTML page only the headline is kept, and it is known to be a page."""
    assert parse_error_body(page.encode()) == (None, None, message)
    assert is_html(page)


def test_json_and_text_are_no_pages() -> None:
    """Markup inside a JSON string or after other text doesn't make a page."""
    assert not any(map(is_html, ['{"error": "<html>"}', "see <html>", "", None, {"a": "<html>"}]))


def test_a_body_without_a_message_is_quoted() -> None:
    """JSON of an unknown shape is its own message: as it came, or abbreviated if it was decoded already."""
    assert parse_error_body(b'{"ok": false}').message == '{"ok": false}'
    assert parse_error_body({"ok": False}).message == "{'ok': False}"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"error":' * 20_000,
        b'{"error": {"message": ' + b"9" * 6000 + b"}}",
        "<title" * 100_000,
        "<" * 100_000,
        '{"message": "\ud800"}',
    ],
    ids=["not utf-8", "deep list", "deep object", "huge integer", "unclosed titles", "unclosed tags", "surrogate"],
)
def test_hostile_bodies_are_only_text(body: Any) -> None:
    """A body made to break a parser gives a bounded message and no exception."""
    parsed = parse_error_body(body)

    assert 0 < len(parsed.message) <= 16_384


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "detail", "message", "code", "type", "status", "details", "metadata", "raw", "loc"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values | st.binary(max_size=100) | st.text(max_size=100) | st.dictionaries(st.integers(), st.text()))
def test_parsing_never_raises(body: object) -> None:
    """Any value at all is read, with text in every place that has something."""
    code, kind, message = parse_error_body(body)

    assert all(isinstance(part, str | None) for part in (code, kind))
    assert isinstance(message, str)


def test_a_cyclic_body_ends() -> None:
    """A decoded body that contains itself, as only a faulty SDK could hand on, is read to a bounded depth."""
    body: dict[str, Any] = {"metadata": {}}
    body["error"] = body["metadata"]["raw"] = body

    assert parse_error_body(body).message


@pytest.mark.parametrize(
    ("value", "date", "expected"),
    [
        (None, None, None),
        ("7", None, 7.0),
        (" 1.5 ", None, 1.5),
        ("0", None, 0.0),
        ("1000000000", None, 900.0),
        ("9" * 18, None, 900.0),
        ("-3", None, None),
        ("soon", None, None),
        ("", None, None),
        ("nan", None, None),
        ("inf", None, None),
        ("1_0", None, None),
        ("٣", None, None),
        ("Sat, 21 Nov 2026 18:00:30 GMT", SERVER_DATE, 30.0),
        ("Saturday, 21-Nov-26 18:00:30 GMT", SERVER_DATE, 30.0),
        ("Sat Nov 21 18:00:30 2026", SERVER_DATE, 30.0),
        ("Sat, 21 Nov 2026 19:00:00 GMT", SERVER_DATE, 900.0),
        ("Sat, 21 Nov 2026 17:59:59 GMT", SERVER_DATE, None),
        ("Sat, 21 Nov 2026 18:00:30 GMT", None, None),
        ("Sat, 21 Nov 2026 18:00:30 GMT", "yesterday", None),
        ("Sat, 99 Nov 2026 18:00:30 GMT", SERVER_DATE, None),
    ],
)
def test_retry_after_is_read_or_left(value: str | None, date: str | None, expected: float | None) -> None:
    """Seconds and dates are honoured up to 15 minutes; garbage, the past and dates without a Date say nothing."""
    assert expected == parse_retry_after(value, date)


@given(st.integers(0, 5000))
def test_a_date_counts_from_the_servers_own(seconds: int) -> None:
    """The delay is the difference of the two headers, so our own clock plays no part."""
    now = datetime(1999, 12, 31, 23, 59, tzinfo=UTC)
    until = format_datetime(now + timedelta(seconds=seconds), usegmt=True)

    assert min(seconds, 900) == parse_retry_after(until, format_datetime(now, usegmt=True))


@given(st.text(max_size=40) | st.from_regex(r"[0-9 :,A-Za-z+-]{0,40}"), st.text(max_size=20))
def test_retry_after_never_raises(value: str, date: str) -> None:
    """Any header at all gives None or a delay from 0 to 900 seconds."""
    delay = parse_retry_after(value, date)

    assert delay is None or 0 <= delay <= 900


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "20", "retry-after-ms": "19874"}, 19.874),
        ({"retry-after": "20", "retry-after-ms": "soon"}, 20.0),
        ({"retry-after": "Sat, 21 Nov 2026 18:00:05 GMT", "date": SERVER_DATE}, 5.0),
        ({"retry-after-ms": "99999999"}, 900.0),
        ({}, None),
    ],
)
def test_the_finer_header_wins(headers: dict[str, str], expected: float | None) -> None:
    """Milliseconds are preferred where they are usable."""
    assert expected == retry_after_from_headers(headers)

"""Cleaning, normalising and fingerprinting foreign text."""

from __future__ import annotations

import hashlib
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.errors import clean, fingerprint, normalize

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ünïcödé 漢字", "plain ünïcödé 漢字"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
        ("nul\x00 del\x7f nel\x85 csi\x9b", "nul\\x00 del\\x7f nel\\x85 csi\\x9b"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("half \ud83d smile", "half \ufffd smile"),
    ],
)
def test_clean_makes_controls_visible(text: str, expected: str) -> None:
    """Control characters, terminal escapes and direction overrides are shown, not acted on."""
    assert expected == clean(text)


@pytest.mark.parametrize(("limit", "expected"), [(5, "abcde"), (4, "abc…"), (1, "…"), (0, "")])
def test_clean_caps_the_length(limit: int, expected: str) -> None:
    """Longer text is cut to the limit, the ellipsis counted in."""
    assert expected == clean("abcde", limit)


tricky = st.text(st.characters() | st.characters(categories=["Cc", "Cs"]) | st.sampled_from(BIDI), max_size=300)


@given(tricky, st.integers(0, 200))
def test_clean_leaves_no_control_characters(text: str, limit: int) -> None:
    """Whatever comes in, what goes out is one short line that any store, terminal and encoder can take."""
    cleaned = clean(text, limit)

    left = [char for char in cleaned if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in BIDI]
    assert left == []
    assert len(cleaned) <= limit
    assert cleaned.encode() is not None


@given(tricky, st.integers(0, 200))
def test_clean_is_idempotent(text: str, limit: int) -> None:
    """Text that was cleaned once is not changed by a second pass."""
    cleaned = clean(text, limit)

    assert cleaned == clean(cleaned, limit)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Rate limit reached in org-AbCdEfGhIjKlMnOpQrStUvWx: Limit 30,000, Used 2.5. Retry in 6m0.388s.",
            "Rate limit reached in org-<id>: Limit <n>, Used <n>. Retry in <n>.",
        ),
        (
            "The model `claude-3-5-sonnet-20241022` does not exist",
            "The model `claude-3-5-sonnet-20241022` does not exist",
        ),
        ("llama-3.1-8b-instant, meta.llama3-1-70b", "llama-3.1-8b-instant, meta.llama3-1-70b"),
        ("request req_01Xy7Kd2Mn5Pq8Rs failed", "request req_<id> failed"),
        ("id 8F14E45F-ceea-467f-a9b8-1b2c3d4e5f60", "id <id>"),
        ("Ray 8f2b3c4d5e6f7890-FRA at 0x7f3a2b", "Ray <id>-FRA at <id>"),
        ("since 2026-11-21T18:10:00.123Z or 2026-11-21 18:10", "since <time> or <time>"),
        ("until Sat, 21 Nov 2026 18:00:00 GMT", "until <time>"),
        ("on Nov 21, 2026 at 3:04 PM, or 18:00:01", "on <time>, or <time>"),
        ("see https://api.test/v1/x?key=abc&n=1#top for more", "see https://api.test/v1/x for more"),
        ("[Errno 111] Connect call failed ('127.0.0.1', 54321)", "[Errno 111] Connect call failed ('<n>', <n>)"),
        ("failed ('2606:4700::6810:1234', 443, 0, 0)", "failed ('<ip>', <n>, <n>, <n>)"),
        ("HTTP 503 with an empty body", "HTTP 503 with an empty body"),
        ("output_tokens 70 not within 10% of requested 64", "output_tokens <n> not within <n>% of requested <n>"),
        ("failed\\nreq_a1B2c3D4e5\\x1b[0m at\\u202e18:10", "failed req_<id> [<n> at <time>"),
        (f'prompt "{"lorem ipsum " * 10}" refused', 'prompt "<text>" refused'),
        ("you can't do that, and you shouldn't", "you can't do that, and you shouldn't"),
        ("  two\n\tlines \x00 here ", "two lines here"),
        ("Unsupported Value", "Unsupported Value"),
    ],
)
def test_normalize_keeps_what_names_the_error(message: str, expected: str) -> None:
    """Ids, times, numbers and quotations go; the wording, its case and the model's id stay."""
    assert expected == normalize(message)


def test_two_occurrences_have_one_normal_form() -> None:
    """The same error at another time, from another port, with another request id, is the same error."""
    first = "Request req_a1B2c3D4e5 failed at 2026-11-21T18:10:00Z after 12.5s on ('10.0.0.7', 40112)"
    second = "Request req_Zz9Yy8Xx7W failed at 2026-12-02T03:04:05Z after 3s on ('10.0.0.9', 51234)"

    assert normalize(first) == normalize(second)


PIECES = (
    "req_|org-|12|3.5|,|.|:|-| |'|\"|`|https://a.b/|?|#|deadbeef|0x|Z|2026-11-21|T|18:10|Mon, |21 Nov 2026| GMT"
    "|<n>|<id>|s|ms|PM|e|::|…|\n|Errno |HTTP |é|\u0301|\u0338|1\u0338"
)
pieces = st.sampled_from([*PIECES.split("|"), "x" * 90, "1" * 90, "漢" * 40])


@given(st.lists(pieces, max_size=60).map("".join) | tricky)
def test_normalize_is_idempotent(message: str) -> None:
    """Normalising a normal form changes nothing, and it is one line of at most 500 characters."""
    normal = normalize(message)

    assert normal == normalize(normal)
    assert len(normal) <= 500
    assert normal == clean(normal)


@given(st.lists(pieces, max_size=60).map("".join) | tricky)
def test_cleaning_first_makes_no_difference(message: str) -> None:
    """An error has one normal form, whether its message was cleaned before or not."""
    assert normalize(message) == normalize(clean(message, 100_000))


@pytest.mark.parametrize(
    "unit", ["1,", "a:", "'", '"', "-1", "https://", "f", "1s", "Mon, ", "1:11", "req_", "a1", "<"]
)
def test_normalize_takes_bounded_time(unit: str) -> None:
    """A megabyte made to provoke backtracking is dealt with in well under a second of processor time."""
    hostile = unit * (1_000_000 // len(unit))

    began = time.process_time()
    normalize(hostile)

    assert time.process_time() - began < 1.0


def test_the_fingerprint_is_the_hash_of_the_five() -> None:
    """The fingerprint is the SHA-256 of provider, model, stage, kind and normal form, joined by newlines."""
    expected = hashlib.sha256(b"groq\nllama-3\ngenerate\nrate_limit\nlimit <n>").hexdigest()

    assert expected == fingerprint("groq", "llama-3", "generate", "rate_limit", "limit <n>")


@given(tricky, tricky)
def test_the_fingerprint_takes_any_text(model: str, normalized: str) -> None:
    """Text that can't be encoded, such as a lone surrogate, still has a fingerprint."""
    assert len(fingerprint("groq", model, "generate", "unknown", normalized)) == 64

"""Secrets stay out of every text."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import string
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.secrets import Redactor, Secret, SecretError, Secrets, redact_patterns

CANARY = "canary/+key=7&'\"ü"
KEY_CHARACTERS = string.ascii_letters + string.digits + "-_/+=."
keys = st.text(KEY_CHARACTERS, min_size=6, max_size=60)


@pytest.mark.parametrize("show", [repr, str, format, "{0!r:>30}{0:>30}{0!s}".format, "%s".__mod__, "%r".__mod__])
def test_no_way_of_printing_a_secret_shows_its_value(show: Callable[[Secret], str]) -> None:
    """Neither repr, str, format nor %-formatting shows the value."""
    text = show(Secret("hunter2hunter2"))

    assert "***" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, json.dumps])
def test_a_secret_is_not_serialised(leak: Callable[[Secret], object]) -> None:
    """Pickling, copying and encoding a secret fail, without the value in the error."""
    with pytest.raises(TypeError) as caught:
        leak(Secret("hunter2hunter2"))

    assert "hunter2" not in str(caught.value)


def test_a_secret_has_no_attributes_to_look_into() -> None:
    """vars() of a secret fails, so that a debugger's dump of attributes shows nothing."""
    with pytest.raises(TypeError):
        vars(Secret("hunter2hunter2"))


def test_secrets_compare_by_value() -> None:
    """Equal values make equal secrets with equal hashes; a secret never equals its text."""
    assert Secret("hunter2") == Secret("hunter2")
    assert Secret("hunter2") != Secret("hunter3")
    assert Secret("ü\udc80") == Secret("ü\udc80")
    assert Secret("hunter2") != "hunter2"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("hunter2").reveal() == "hunter2"


def test_white_space_around_a_key_is_not_part_of_it() -> None:
    """A key that was read from a file with a line end at its end works."""
    assert Secrets({"KEY": " abcdef \n"}).require("KEY").reveal() == "abcdef"


@pytest.mark.parametrize("env", [{}, {"KEY": ""}, {"KEY": " \n"}])
def test_an_unset_or_blank_variable_is_no_secret(env: dict[str, str]) -> None:
    """Empty and blank variables count as not set; the error says which one to set."""
    secrets = Secrets(env)

    assert secrets.get("KEY") is None
    assert not secrets.is_set("KEY")
    with pytest.raises(SecretError, match=r"^environment variable 'KEY' is not set: set it to the key$"):
        secrets.require("KEY")


@pytest.mark.parametrize("value", ["abc\ndef", "abcdéf", "abc\x00def", "abc\udc80def", "abc\x7fdef", "abc\x01def"])
def test_a_value_that_no_header_can_carry_is_refused(value: str) -> None:
    """A line end or control character inside a key, or one outside ASCII, is reported by the variable's name only."""
    with pytest.raises(SecretError, match=r"^environment variable 'KEY' holds a character.*control") as caught:
        Secrets({"KEY": value}).get("KEY")

    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        json.dumps(CANARY)[1:-1],
        json.dumps(CANARY, ensure_ascii=False)[1:-1],
        quote(CANARY),
        quote(CANARY, safe=""),
        quote_plus(CANARY),
        quote(CANARY, safe="").lower(),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
    ],
)
def test_each_encoded_form_of_a_secret_is_redacted(form: str) -> None:
    """The value, and its JSON, URL and base64 forms, are replaced as a whole; what is around them stays."""
    redactor = Redactor([CANARY])

    assert redactor.redact(f"before <{form}> after") == "before <***> after"


@given(keys, st.binary(max_size=8), st.binary(max_size=8))
def test_base64_of_more_than_the_secret_is_redacted(key: str, before: bytes, after: bytes) -> None:
    """At whatever alignment a secret lies within something in base64, it can't be decoded from the redacted text."""
    encoded = base64.b64encode(before + key.encode() + after).decode()

    redacted = Redactor([key]).redact(encoded)

    first, end = -(-len(before) * 8 // 6), (len(before) + len(key)) * 8 // 6
    assert encoded[first:end] not in redacted


@given(st.lists(keys, max_size=4), st.lists(st.text(max_size=20), min_size=5, max_size=5))
def test_no_known_value_survives_redaction(values: list[str], texts: list[str]) -> None:
    """Whatever the text, no known value is left in it, and nothing is raised."""
    text = "".join(part for pair in zip(texts, [*values, ""] * 5, strict=False) for part in pair)

    redacted = Redactor(map(Secret, values)).redact(text)

    assert not [value for value in values if value in redacted]


@given(st.text(), st.text(min_size=6))
def test_redaction_never_raises(text: str, value: str) -> None:
    """Any text and any value will do, lone surrogates and patterns of regular expressions included."""
    assert "\ud800" not in Redactor([value, "\ud800" * 6]).redact(text + "\ud800" * 6)


def test_longer_secrets_are_redacted_before_their_parts() -> None:
    """A secret that contains another one leaves no rest behind."""
    assert Redactor(["abcdef", "abcdef-ghijkl"]).redact("abcdef-ghijkl abcdef") == "*** ***"


def test_short_values_are_left_alone() -> None:
    """A value under six characters is no secret: redacting 'a' would destroy every text."""
    assert Redactor(["a", "12345"]).redact("a banana costs 12345") == "a banana costs 12345"
    assert Redactor([]).redact("a banana") == "a banana"


def test_a_redactor_does_not_show_what_it_knows() -> None:
    """The repr of a redactor has no secret in it."""
    assert repr(Redactor(["hunter2hunter2"])) == "Redactor(***)"


@pytest.mark.parametrize("text", ["s3cr3t-pass", "s3cr3t%2Dpass", "mongodb://me:s3cr3t%2Dpass@db.example.com/x"])
def test_the_password_within_a_url_is_a_secret_of_its_own(text: str) -> None:
    """A database URL's password is redacted alone as well, decoded or not."""
    redactor = Secrets({"MONGODB_URI": "mongodb://me:s3cr3t%2Dpass@db.example.com/x"}).redactor(["MONGODB_URI"])

    assert redactor.redact(f"login failed: {text}!") == "login failed: ***!"


def test_what_is_not_a_url_after_all_is_redacted_whole() -> None:
    """A value that looks like a URL but can't be parsed is a secret like any other."""
    redactor = Secrets({"KEY": "x://[half\n", "OTHER": "y://no-password"}).redactor(["KEY", "OTHER", "UNSET"])

    assert redactor.redact("x://[half, y://no-password") == "***, ***"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Bearer abcdEFGH.1234_~-=+/", "Authorization: Bearer ***"),
        ("'authorization': 'Basic dXNlcjpwYXNz'", "'authorization': 'Basic ***'"),
        ("Incorrect API key provided: sk-proj-abcdefgh1234.", "Incorrect API key provided: ***."),
        ("key sk-ant-api03-AbCd1234_efgh-xyz is revoked", "key *** is revoked"),
        ("Invalid key: sk-ab**********wxyz", "Invalid key: ***"),
        ("gsk_AbCdEfGh12345678 csk-abcdefgh12345678 fw_3Zabcdefgh12345678", "*** *** ***"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4", "***"),
        ("AKIAIOSFODNN7EXAMPLE and ya29.a0AfH6SMBx-abcdefghijkl", "*** and ***"),
        ("ya29.c.b0Aaekm1K-abcdefgh_ijkl.mnopqrstuvwxyz is expired", "*** is expired"),
        ("of IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQ/x+y= here", "of *** here"),
        ("x-amz-security-token:simulated-session-token;host", "x-amz-security-token:***;host"),
        ("host;x-amz-date, Signature=" + "0a" * 32, "host;x-amz-date, Signature=***"),
        ("https://me:hunter2@example.com/v1", "https://***@example.com/v1"),
        ("https://example.com/v1?key=AbC12345&alt=sse", "https://example.com/v1?key=***&alt=sse"),
        ('{"api_key": "abc123def456"}', '{"api_key": "***"}'),
    ],
)
def test_what_looks_like_a_credential_is_redacted_without_being_known(text: str, redacted: str) -> None:
    """Bearer tokens, keys by their prefixes, JWTs, passwords in URLs and key=value pairs are caught by pattern."""
    assert redact_patterns(text) == redacted
    assert Redactor([]).redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "Missing bearer authentication in header",
        "Invalid API key: please check your account",
        "risk-adjusted-something-2024 and task_1234567890123",
        "model gpt-6-luna does not exist, see https://example.com/docs:8080/errors",
        "config.toml: providers.groq.api_key_env: environment variable 'GROQ_API_KEY' is not set",
        "output_tokens 61 not within 10% of requested 64",
    ],
)
def test_ordinary_sentences_are_left_alone(text: str) -> None:
    """What an error says stays readable: words near 'bearer' or 'API key' aren't keys."""
    assert redact_patterns(text) == text


@pytest.mark.parametrize("piece", ["sk-", "bearer ", "eyJ", "://", "api_key=", "a:", "gsk_a", "eyJaaaaaaaa."])
def test_hostile_text_costs_linear_time(piece: str) -> None:
    """A megabyte made to mislead the patterns is worked through in no time, not in minutes."""
    text = piece * (1_000_000 // len(piece))

    started = time.perf_counter()
    redact_patterns(text)

    assert time.perf_counter() - started < 10

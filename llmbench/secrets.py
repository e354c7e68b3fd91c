"""Secrets: a type that hides its value, look-up by environment variable, and redaction of text.

Redaction works by value first: every known secret is taken out of a text, also where it is URL-encoded, escaped as in
JSON, or part of something in base64. A second net of patterns catches what looks like a credential but isn't known.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"

MIN_REDACTED = 6
"""A shorter value is no secret worth the name, and taking it out would tear holes into every text."""


class SecretError(Exception):
    """A secret that is needed can't be used. The message names its variable, never its value."""


class Secret:
    """A value that no repr, format, pickle or encoder shows; `reveal` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled or copied: pass the object itself")


class Secrets:
    """Secrets by the name of the environment variable that holds them. White space around a value is not part of it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def get(self, name: str) -> Secret | None:
        """Return the secret, or None if the variable is not set or blank.

        Raises `SecretError` if the value holds a character that no HTTP header may carry.
        """
        value = self._env.get(name, "").strip()
        if not value:
            return None
        if not value.isascii() or not value.isprintable():
            raise SecretError(
                f"environment variable {name!r} holds a character that no key has "
                "(a line end in the middle, a control character, or a letter outside ASCII): copy the key again"
            )
        return Secret(value)

    def require(self, name: str, what: str = "the key") -> Secret:
        """Return the secret. Raises `SecretError` if there is none that can be used; ``what`` tells what to set."""
        secret = self.get(name)
        if secret is None:
            raise SecretError(f"environment variable {name!r} is not set: set it to {what}")
        return secret

    def is_set(self, name: str) -> bool:
        return bool(self._env.get(name, "").strip())

    def redactor(self, names: Iterable[str]) -> Redactor:
        """Return a redactor of the values of these variables, and of the passwords of those that are URLs."""
        values = (self._env.get(name, "") for name in names)
        return Redactor(part for value in values for part in _parts(value))


class Redactor:
    """Takes known secrets, and what looks like one, out of texts. Immutable; `redact` never raises."""

    def __init__(self, values: Iterable[str | Secret]) -> None:
        revealed = (value.reveal() if isinstance(value, Secret) else value for value in values)
        forms = {form for value in revealed if len(value) >= MIN_REDACTED for form in _forms(value)}
        # Longest first: a short form must not break up a longer one that contains it.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, self._forms))) if forms else None

    def redact(self, text: str) -> str:
        """Return the text with ``***`` in the place of each secret."""
        known = self._known.sub(MASK, text) if self._known else text
        return redact_patterns(known)

    def finds(self, text: str) -> bool:
        """Say whether a known secret is in the text; patterns don't count."""
        return any(form in text for form in self._forms)  # many times as fast as the expression that replaces them

    def __repr__(self) -> str:
        return f"Redactor({MASK})"


def redact_patterns(text: str) -> str:
    """Return the text without what looks like a credential: bearer tokens, ``sk-…`` and ``llmb_…`` keys, passwords."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _bytes(value: str) -> bytes:
    # An environment variable that isn't UTF-8 reaches us with lone surrogates in it.
    return value.encode("utf-8", "surrogatepass")


def _parts(value: str) -> Iterator[str]:
    yield value
    yield value.strip()
    password = _url_password(value.strip())
    if password:
        yield password
        yield unquote(password)


def _url_password(value: str) -> str | None:
    """Return the password as written in a URL such as ``mongodb://user:password@host``."""
    if "://" not in value:
        return None
    try:
        return urlsplit(value).password
    except ValueError:  # not a URL after all; the whole value is redacted all the same
        return None


def _forms(value: str) -> Iterator[str]:
    data = _bytes(value)
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    for encoded in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield encoded
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    yield from _base64_forms(data)


def _base64_forms(data: bytes) -> Iterator[str]:
    """Yield what base64 makes of the data: on its own, and in the middle of more, at each of the three alignments."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(data).decode()
        for offset, first in ((0, 0), (1, 2), (2, 3)):
            whole_digits = (offset + len(data)) * 8 // 6
            yield encode(b"\0" * offset + data).decode()[first:whole_digits]


# Every look-ahead is bounded, and no repeat competes with what follows it: foreign text must not cost quadratic time.
_PATTERNS = (
    (re.compile(r"(://)[^/\s:@]{0,200}:[^/\s@]{1,500}@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)\b(bearer[ \t]{1,4})(?=\S{0,200}\d)[\w.~+/=*-]{8,}", re.ASCII), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)(authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?(?:basic|token|key)[ \t]{1,4})[^\s\"',]{6,}"
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:sk|rk|gsk|csk|xai|fw|tgp|hf|ghp)[-_](?=[\w*-]{0,200}[\d*])[\w*-]{12,}", re.ASCII
        ),
        MASK,
    ),
    (re.compile(r"\bllmb_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", re.ASCII), MASK),
    (re.compile(r"\beyJ[\w-]{8,2000}\.[\w-]{8,}(?:\.[\w-]*)?", re.ASCII), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}|\bya29\.[\w.-]{20,}", re.ASCII), MASK),
    # An AWS session token, by the words that it begins with in base64, and a signature, which is good for minutes.
    (re.compile(r"\b(?:IQoJ|FwoG|FQoG|AQoD)[\w+/%=-]{40,}", re.ASCII), MASK),
    (re.compile(r"(?i)\b(signature=)[0-9a-f]{64}\b"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)((?:api[-_ ]?key|(?:access|auth|security|session)[-_ ]?token|secret|password|[?&]key)[\"']?"
            r"[ \t]{0,4}[:=][ \t]{0,4}[\"']?)"
            r"(?=\S{0,200}\d|\S{20})[^\s\"',;&]{6,}"
        ),
        rf"\1{MASK}",
    ),
)

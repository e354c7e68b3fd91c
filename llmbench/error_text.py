"""Foreign text made safe to show, and reduced to what two occurrences of one error have in common."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

MESSAGE_LIMIT = 4000
NORMALIZED_LIMIT = 500

_ELLIPSIS = "…"
# Text longer than this is cut before it is looked at, so that a hostile message costs a bounded time.
_INPUT_LIMIT = 16_384

_LINE_SEPARATORS = (0x2028, 0x2029)
_BIDI_CONTROLS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *_LINE_SEPARATORS, *_BIDI_CONTROLS)
_SHORT_ESCAPES = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_SURROGATES = range(0xD800, 0xE000)


def _escape(point: int) -> str:
    return _SHORT_ESCAPES.get(point) or (f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}")


_REPLACED: dict[int, str] = dict.fromkeys(_SURROGATES, "\ufffd")
_ESCAPED = {point: _escape(point) for point in _CONTROLS} | _REPLACED
_BLANKED = dict.fromkeys(_CONTROLS, " ") | _REPLACED


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    r"""Make foreign text safe to store, log and show: one line, no control characters, at most ``limit`` characters.

    C0 and C1 controls (and with them ANSI escapes and NUL), line separators and bidirectional overrides become
    visible escapes such as ``\x1b``; a lone surrogate becomes U+FFFD; text that was cut ends in an ellipsis.
    Replace secrets before this, or the cut may leave the first half of one. Applied twice, it changes nothing more.
    """
    return _cut(visible(_cut(text, limit + 1)), limit)


def visible(text: str) -> str:
    """Return foreign text on one line, whole, with its controls made visible as `clean` does."""
    return text.translate(_ESCAPED)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + _ELLIPSIS[:limit]


_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
_CLOCK_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\b\.?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_ID_WORD = (
    "req|request|resp|chatcmpl|cmpl|msg|gen|run|call|trace|org|proj|project|user|acct|key|sk|gsk|file|batch|ws|srv"
)
# The repetition is bounded because a hostile "1,1,1,1…" would else take quadratic time.
_NUMBER = r"\d+(?:[.,]\d+){0,7}"
_ALONE = r"(?<!\w)(?<!\w[-.])(?<!Errno )(?<!HTTP )"


def _replace(pattern: str, replacement: str, flags: int = 0) -> Callable[[str], str]:
    compiled = re.compile(pattern, flags)
    return lambda text: compiled.sub(replacement, text)


# In this order: what `clean` made visible is blank again; then a date goes before its digits, an id before its numbers.
_SUBSTITUTIONS: tuple[Callable[[str], str], ...] = (
    _replace(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})", " "),
    _replace(r"(https?://[^\s?#\"'<>]{1,500})[?#][^\s\"'<>]*", r"\1"),
    _replace(rf"(?:{_DAY},? )?\b\d{{1,2}}[ -]{_MONTH}[ -]\d{{2,4}}(?:,? {_CLOCK_TIME})?", "<time>"),
    _replace(rf"(?:{_DAY},? )?\b{_MONTH} \d{{1,2}},? \d{{4}}(?:,? (?:at )?{_CLOCK_TIME})?", "<time>"),
    _replace(rf"(?<!\d)\d{{4}}-\d\d-\d\d(?:[T ]{_CLOCK_TIME})?(?!\d)", "<time>"),
    _replace(rf"(?<![\w:.]){_CLOCK_TIME}(?![\w:])", "<time>"),
    _replace(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>", re.IGNORECASE),
    _replace(rf"\b({_ID_WORD})([-_])(?:(?=[A-Za-z]*\d)[A-Za-z0-9]{{6,}}|[A-Za-z0-9]{{16,}})\b", r"\1\2<id>"),
    _replace(r"\b0x[0-9a-f]+\b", "<id>", re.IGNORECASE),
    _replace(r"(?<!\w)(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}(?!\w)", "<id>", re.IGNORECASE),
    _replace(r"(?<!\w)(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{20,}(?!\w)", "<id>"),
    _replace(r"(?<![\w:.])(?=[0-9a-f]*:[0-9a-f]*:)[0-9a-f:]{3,39}(?![\w:])", "<ip>", re.IGNORECASE),
    _replace(r"\"[^\"]{80,}\"", '"<text>"'),
    _replace(r"`[^`]{80,}`", "`<text>`"),
    _replace(r"(?<!\w)'[^']{80,}'(?!\w)", "'<text>'"),
    # A number counts only where it stands alone: the digits of `gpt-4o` or `llama-3.1-8b` say which model it is.
    # That of "Errno 111" or "HTTP 503" says which error it is.
    _replace(rf"{_ALONE}(?:{_NUMBER}(?:ms|us|µs|ns|s|m|h|d)(?![A-Za-z]))+(?!\w|-[A-Za-z])", "<n>"),
    _replace(rf"{_ALONE}{_NUMBER}(?!\w|-[A-Za-z])", "<n>"),
    _replace(r"\s+", " "),
    str.strip,
)


def _reduce(text: str) -> str:
    for substitute in _SUBSTITUTIONS:
        text = substitute(text)
    return _cut(text, NORMALIZED_LIMIT).rstrip()


def normalize(message: str) -> str:
    """Take out of a message whatever differs between two occurrences of the same error.

    Ids, times, addresses, free-standing numbers, the queries of URLs and long quotations become ``<id>``, ``<time>``,
    ``<ip>``, ``<n>``, nothing and ``<text>``; case and model ids stay, so that a person can still read it. The result
    is one line of at most 500 characters, the same whether the message was cleaned before or not. It is idempotent,
    as it repeats until nothing changes: each round takes digits or characters away, and none brings any back.
    """
    text = message[:_INPUT_LIMIT].translate(_BLANKED)
    while (reduced := _reduce(text)) != text:
        text = reduced
    return text


def fingerprint(provider: str, model: str, stage: str, kind: str, normalized: str) -> str:
    """Return the id of a roll-up: the SHA-256, in hexadecimal, of the five joined by newlines."""
    joined = "\n".join((provider, model, stage, kind, normalized))
    return hashlib.sha256(joined.encode("utf-8", "backslashreplace")).hexdigest()

"""What an error response says, whatever its shape: the code, type and message in its body, the delay in its headers.

The shapes are those of the providers' error references: OpenAI's ``{"error": {…}}`` and the same without its wrapper
(Cerebras, and what the openai SDK hands on), Anthropic's ``{"type": "error", "error": {…}}``, Google's
``google.rpc.Status``, AWS's ``__type``, FastAPI's ``{"detail": …}``, OpenRouter's quotation of an upstream in
``metadata.raw``, and the HTML pages and plain text of the gateways in between.
"""

from __future__ import annotations

import html
import re
import reprlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

from llmbench.error_text import clean

RETRY_AFTER_LIMIT = 900.0

_TEXT_LIMIT = 65_536
_MESSAGE_LIMIT = 16_384
_LABEL_LIMIT = 200
_DEPTH_LIMIT = 8
_WRAPPERS = ("error", "detail", "errors")
_MESSAGE_KEYS = ("message", "Message", "msg", "error_description", "error_message", "title", "reason", "description")
_HTML_START = re.compile(r"\s*<(?:!doctype html|html|head|body|title|h1|center)\b", re.IGNORECASE)
_HTML_HEADLINE = re.compile(r"<(?:title|h1)\b[^>]{0,200}>\s*([^<]{1,500})", re.IGNORECASE)
_HTML_NOISE = re.compile(r"<(?:script|style)\b[^<>]*>[^<]*|<[^<>]*>", re.IGNORECASE)
_TOKEN = re.compile(r"[\w.-]{1,100}")
_SECONDS = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")


class ErrorBody(NamedTuple):
    """What a body says: code and type fit to be shown; ``message`` as it came, to be redacted and cleaned first."""

    code: str | None
    type: str | None
    message: str


_NOTHING = ErrorBody(None, None, "")


def parse_error_body(body: object) -> ErrorBody:
    """Return the provider's code, type and message from a body: bytes, text, or JSON that was decoded already.

    Never raises. What has no message anywhere is quoted, shortened; an empty body gives an empty message.
    """
    code, kind, message = _parse(body, _DEPTH_LIMIT)
    if not message and isinstance(body, Mapping | list) and body:
        message = _ABBREVIATE.repr(body)
    return ErrorBody(_label(code), _label(kind), message[:_MESSAGE_LIMIT])


def is_html(body: object) -> bool:
    """Say whether the body is an HTML page, which no API sends: a gateway answered, or the address is wrong."""
    text = _text(body)
    return text is not None and _HTML_START.match(text) is not None


def parse_retry_after(value: str | None, server_date: str | None = None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, at most 900; None if it says nothing usable.

    An HTTP date counts from ``server_date``, the response's own ``Date``, as the two clocks may differ; without that,
    a date says nothing. A negative delay, or a date in the past, says nothing either.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_LIMIT)
    until, now = _http_date(text), _http_date(server_date)
    if until is None or now is None or until < now:
        return None
    return min((until - now).total_seconds(), RETRY_AFTER_LIMIT)


def retry_after_from_headers(headers: Mapping[str, str]) -> float | None:
    """Return the delay that the headers (lower-case names) ask for; ``retry-after-ms`` is the finer of the two."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1000, RETRY_AFTER_LIMIT)
    return parse_retry_after(headers.get("retry-after"), headers.get("date"))


def _http_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        parsed = parsedate_to_datetime(value)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _parse(body: object, depth: int) -> ErrorBody:
    if depth <= 0:
        return _NOTHING
    text = _text(body)
    if text is not None:
        return _from_text(text.strip(), depth)
    if isinstance(body, Mapping):
        return _from_mapping(body, depth)
    if isinstance(body, list) and body:
        return _parse(body[0], depth - 1)
    return _NOTHING


def _text(body: object) -> str | None:
    if isinstance(body, str):
        return body[:_TEXT_LIMIT]
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body[:_TEXT_LIMIT]).decode("utf-8", "replace")
    return None


def _from_text(text: str, depth: int) -> ErrorBody:
    decoded = _json(text)
    if decoded is not None:
        parsed = _parse(decoded, depth - 1)
        return parsed if parsed.message else parsed._replace(message=text)
    return ErrorBody(None, None, _headline(text) if is_html(text) else text)


def _json(text: str) -> Any:
    if not text.startswith(("{", "[", '"')):
        return None
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):  # deep nesting is no DecodeError
        return None


def _headline(page: str) -> str:
    found = _HTML_HEADLINE.search(page)
    words = found[1] if found else _HTML_NOISE.sub(" ", page)[:500]
    return " ".join(html.unescape(words).split()) or "an HTML page without text"


def _from_mapping(value: Mapping[Any, Any], depth: int) -> ErrorBody:
    own = ErrorBody(_code(value), _type(value), _message(value, depth))
    inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping | list | str)), None)
    if inner is None:
        return own
    if isinstance(inner, str) and own.message:  # {"error": "invalid_grant", "error_description": "…"}
        return own._replace(code=own.code or (inner if _TOKEN.fullmatch(inner) else None))
    nested = _parse(inner, depth - 1)
    return ErrorBody(nested.code or own.code, nested.type or own.type, nested.message or own.message)


def _code(value: Mapping[Any, Any]) -> str | None:
    shape = _string(value, "__type")
    if shape is not None:
        return aws_code(shape)
    details = value.get("details")
    if isinstance(details, Mapping) and (precise := _string(details, "error_code")):
        return precise
    number = value.get("code")
    if isinstance(number, int) and not isinstance(number, bool):  # google.rpc.Status keeps the name in "status"
        return _string(value, "status") or str(number)
    return _string(value, "code") or _string(value, "error_code")


def aws_code(shape: str) -> str:
    """Return ``ThrottlingException`` from ``com.amazon.coral#ThrottlingException:http://…`` and the like."""
    return shape.partition(":")[0].rpartition("#")[2]


def _type(value: Mapping[Any, Any]) -> str | None:
    details = value.get("details")
    if isinstance(details, list):
        reasons = (_string(item, "reason") for item in details if isinstance(item, Mapping))
        if reason := next(filter(None, reasons), None):
            return reason
    kind = _string(value, "type")
    return None if kind == "error" else kind  # Anthropic's and Fireworks' word for "this is an error"


def _message(value: Mapping[Any, Any], depth: int) -> str:
    message = next(filter(None, (_string(value, key) for key in _MESSAGE_KEYS)), "")
    place = value.get("loc")
    if isinstance(place, list):
        message = f"{'.'.join(str(part) for part in place[:8])}: {message}"
    metadata = value.get("metadata")
    if isinstance(metadata, Mapping) and (quoted := _parse(metadata.get("raw"), depth - 1).message):
        message = f"{message}: {quoted}"
    return message


def _string(value: Mapping[Any, Any], key: str) -> str | None:
    found = value.get(key)
    return found if isinstance(found, str) and found.strip() else None


def _label(text: str | None) -> str | None:
    return None if text is None else clean(text, _LABEL_LIMIT)


def _abbreviator() -> reprlib.Repr:
    abbreviate = reprlib.Repr()
    abbreviate.maxlevel = 4
    abbreviate.maxdict = abbreviate.maxlist = 20
    abbreviate.maxstring = abbreviate.maxother = abbreviate.maxlong = 200
    return abbreviate


_ABBREVIATE = _abbreviator()

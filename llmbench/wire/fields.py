"""Reading JSON that others wrote: a value of the wrong type, or one that makes no sense, is "not said".

Values are typed ``object`` on purpose, so that nothing is taken for a string or a number unchecked.
"""

from __future__ import annotations

from typing import Final

import msgspec

from llmbench.wire.events import Identity, StreamFault, Usage

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding foreign JSON can raise: bad syntax or types, bad UTF-8, nesting without end."""

_MAX_COUNT: Final = 2**53
_MAX_EXCERPT: Final = 200


def member(holder: object, name: str) -> object:
    """Return a member of a JSON object, None if there is none or ``holder`` is no object."""
    return holder.get(name) if isinstance(holder, dict) else None


def text(value: object) -> str | None:
    """Return the value if it is a string that is not empty."""
    return value if isinstance(value, str) and value else None


def count(value: object) -> int | None:
    """Return the value if it is a whole number from 0 to 2**53, the last that every JSON reader holds exactly."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Not isinstance: a bool is an int as well.
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None


def seconds(value: object) -> float | None:
    """Return the value if it is a number that can be a duration: not negative, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MAX_COUNT else None


def stated(usage: Usage) -> Usage | None:
    """Return ``usage`` if it holds any count at all."""
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.cached_input_tokens,
        usage.total_tokens,
    )
    return None if counts == (None, None, None, None, None) else usage


def excerpt(data: bytes) -> str:
    """Return the beginning of ``data`` as at most 200 printable characters, all others escaped."""
    shown = data[: 4 * _MAX_EXCERPT].decode("utf-8", "backslashreplace")
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return "".join(escaped)[:_MAX_EXCERPT]


def parsed(data: bytes) -> object:
    """Return ``data`` as plain JSON values, None if it is not JSON."""
    try:
        value: object = msgspec.json.decode(data)
    except UNREADABLE:
        return None
    return value


def fault_from(value: object, raw: bytes) -> StreamFault:
    """Describe an error, given as plain JSON values; ``raw``, what they came in, stands in for a missing message.

    Providers send ``{"error": {"message", "type", "code"}}``, ``{"error": "text"}`` or the inner object alone;
    Google sends a ``status`` word in the place of ``type``, and a finer ``reason`` among the ``details``, at times all
    of it in a list.
    """
    if isinstance(value, list) and value:
        value = value[0]
    error = member(value, "error") or value
    fields = error if isinstance(error, dict) else value
    message = text(error) or text(member(fields, "message")) or text(member(fields, "detail")) or excerpt(raw)
    kind = text(member(fields, "type")) or _google_reason(fields) or text(member(fields, "status"))
    number = count(member(fields, "code"))
    return StreamFault(
        message=message,
        code=text(member(fields, "code")) or _aws_shape(fields) if number is None else str(number),
        # In the envelope of the Responses and Messages APIs this word only says that the event is an error.
        type=None if kind == "error" else kind,
    )


def _aws_shape(fields: object) -> str | None:
    """Return ``ThrottlingException`` from ``com.amazon.coral#ThrottlingException:http://…`` and the like."""
    shape = text(member(fields, "__type")) or ""
    return shape.partition(":")[0].rpartition("#")[2] or None


def is_bare_error(value: object) -> bool:
    """Say whether an object is an error without the member ``error`` around it, as Cerebras and AWS word theirs."""
    named = text(member(value, "type")) or text(member(value, "code")) or text(member(value, "__type"))
    return named is not None and text(member(value, "message")) is not None


def _google_reason(fields: object) -> str | None:
    details = member(fields, "details")
    reasons = (text(member(detail, "reason")) for detail in details) if isinstance(details, list) else ()
    return next(filter(None, reasons), None)


def fault_in(raw: bytes) -> StreamFault:
    """Describe an error from the data that holds it, JSON or not."""
    return fault_from(parsed(raw), raw)


class IdentityTracker:
    """What the response has said of itself so far."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known = Identity()

    def update(
        self,
        *,
        response_id: object = None,
        served_model: object = None,
        system_fingerprint: object = None,
        service_tier: object = None,
    ) -> Identity | None:
        """Return all that is known, if a value is new or has changed."""
        known = self._known
        identity = Identity(
            response_id=text(response_id) or known.response_id,
            served_model=text(served_model) or known.served_model,
            system_fingerprint=text(system_fingerprint) or known.system_fingerprint,
            service_tier=text(service_tier) or known.service_tier,
        )
        if identity == known:
            return None
        self._known = identity
        return identity

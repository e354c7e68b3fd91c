"""What the simulator needs to know of a wire format."""

from __future__ import annotations

import secrets
import time
from typing import Any, Protocol

import msgspec

from llmbench.simulator.behaviour import Behaviour
from llmbench.simulator.flavours import Flavour
from llmbench.simulator.problems import Problem

DEFAULT_BUDGET = 256
"""Tokens of an answer when the request sets no limit."""

_PLACEHOLDER = secrets.token_hex(16)
"""Random, so that nothing in a request can be mistaken for it."""

encode = msgspec.json.encode


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a completion, as far as the formats have it in common. ``created`` is Unix time.

    ``query`` is the part of the address behind the question mark.
    """

    flavour: Flavour
    model: str
    body: dict[str, Any]
    behaviour: Behaviour
    sequence: int
    created: int
    query: dict[str, str] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer will hold, before its first byte: deltas, and what usage will say of them.

    ``output`` counts reasoning in. ``prompt_seconds`` and ``completion_seconds`` are the times promised.
    """

    reasoning: int
    visible: int
    exhausted: bool
    input: int
    output: int
    prompt_seconds: float
    completion_seconds: float
    report_usage: bool = True


class EventStream(Protocol):
    """The bytes of one answer's events. Texts come in and go out as JSON-escaped UTF-8, without the quotes."""

    content_type: str

    def opening(self) -> bytes:
        """Return the events that come before any token."""
        ...

    def filler(self) -> bytes:
        """Return what a server sends to keep the connection alive: a comment, a ping."""
        ...

    def hollow(self) -> bytes:
        """Return events that look like a token and hold none: role-only and empty deltas."""
        ...

    def reasoning(self, text: bytes) -> bytes:
        """Return a reasoning delta, or nothing where the format hides reasoning."""
        ...

    def turn(self) -> bytes:
        """Return what separates reasoning from visible text, if anything does."""
        ...

    def visible(self, text: bytes) -> bytes:
        """Return one delta of visible text."""
        ...

    def finish(self) -> bytes:
        """Return the finish reason and all that comes with it, up to the terminator."""
        ...

    def terminator(self) -> bytes:
        """Return the format's own end."""
        ...

    def error(self, problem: Problem, *, first: bool) -> bytes:
        """Return an error as an event; ``first`` says that nothing came before it."""
        ...

    def error_text(self, text: str) -> bytes:
        """Return an event with an error that is a mere string."""
        ...


class Api(Protocol):
    """A wire format."""

    def refuse(self, call: Call) -> Problem | None:
        """Say what the real API would object to in this request, if anything."""
        ...

    def budget(self, call: Call) -> int | None:
        """Return the number of tokens that the request allows, if it sets one."""
        ...

    def prompt(self, call: Call) -> object:
        """Return the part of the body that counts as input."""
        ...

    def stream(self, call: Call, plan: Plan) -> EventStream:
        """Return the events of a new answer."""
        ...


class Template:
    """An event that is always the same but for its text, encoded once."""

    __slots__ = ("_head", "_tail")

    def __init__(self, event: bytes) -> None:
        self._head, self._tail = event.split(_PLACEHOLDER.encode())

    def fill(self, text: bytes) -> bytes:
        return b"%b%b%b" % (self._head, text, self._tail)


def placeholder() -> str:
    """Return the text to put where a `Template` is to be filled."""
    return _PLACEHOLDER


def data_event(payload: object) -> bytes:
    """Return a server-sent event without a name."""
    return b"data: %b\n\n" % encode(payload)


def named_event(payload: dict[str, Any]) -> bytes:
    """Return a server-sent event that is named after its payload's ``type``."""
    return b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), encode(payload))


def now() -> int:
    return int(time.time())


def bad_request(message: str, param: str | None = None, code: str | None = None) -> Problem:
    """Return the problem of a request that the API does not take."""
    return Problem("bad_request", message=message, param=param, code=code)


def token_limit(body: dict[str, Any], *names: str) -> Problem | None:
    """Object to a token limit that is no positive integer, or larger than any model's."""
    for name in names:
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            return bad_request(f"Invalid '{name}': expected a positive integer, got {value!r}.", name, "invalid_type")
    return None


def needs_stream(body: dict[str, Any]) -> Problem | None:
    """The simulator streams, always; a request that does not ask for it would misread the answer."""
    if body.get("stream") is not True:
        return bad_request("The simulator only streams: set 'stream' to true.", "stream")
    return None


def needs_list(body: dict[str, Any], name: str) -> Problem | None:
    """Object to a missing or empty list."""
    value = body.get(name)
    if not isinstance(value, list) or not value:
        return bad_request(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return None


def first_problem(*problems: Problem | None) -> Problem | None:
    return next((problem for problem in problems if problem is not None), None)

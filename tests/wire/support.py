"""How the tests of the decoders write streams and read events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.events import Decoder, Event, ReasoningDelta, TextDelta
from llmbench.wire.gemini import GeminiDecoder
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.openai_completions import CompletionsDecoder
from llmbench.wire.openai_responses import ResponsesDecoder

EventT = TypeVar("EventT", bound=Event)

DECODERS: tuple[Callable[[], Decoder], ...] = (
    ChatDecoder,
    CompletionsDecoder,
    ResponsesDecoder,
    MessagesDecoder,
    GeminiDecoder,
)
"""The decoders of event streams."""


def data(payload: object, name: str | None = None) -> bytes:
    """Return one event; a payload that is bytes is sent as it is, any other as JSON."""
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    head = b"" if name is None else b"event: %s\n" % name.encode()
    return head + b"data: " + body + b"\n\n"


def typed(*payloads: dict[str, Any]) -> bytes:
    """Return the events of an API that names each event by the ``type`` of its data."""
    return b"".join(data(payload, str(payload["type"])) for payload in payloads)


def events_of(decoder: Decoder, pieces: Iterable[bytes | memoryview]) -> list[Event]:
    """Return all events of a body that arrives in ``pieces``."""
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


def of_type(kind: type[EventT], events: Sequence[Event]) -> list[EventT]:
    return [event for event in events if isinstance(event, kind)]


def visible(events: Sequence[Event]) -> str:
    return "".join(event.text for event in of_type(TextDelta, events))


def reasoning(events: Sequence[Event]) -> str:
    return "".join(event.text for event in of_type(ReasoningDelta, events))

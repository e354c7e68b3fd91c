"""What a decoder can say about a stream: the vocabulary that every API's bytes are turned into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """Visible text, never empty. The first one marks the time to first token."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """Reasoning (thinking) text that the API shows, never empty. It is not visible text."""

    text: str


class HiddenReasoning(msgspec.Struct, frozen=True, gc=False):
    """A proof that the model reasoned, without text: a signature or an encrypted block. It says nothing about when."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts as the provider reported them; None is "not said". A later report replaces what it names.

    ``output_tokens`` includes ``reasoning_tokens`` where the provider counts them in.
    ``source`` names the field of the wire format that the counts came from, such as ``usage`` or ``x_groq.usage``.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None
    total_tokens: int | None = None
    source: str = "usage"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the response says of itself. A decoder emits it when a value is first seen or changes."""

    response_id: str | None = None
    served_model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None


class Finish(msgspec.Struct, frozen=True):
    """The reason why generation ended, in the provider's own word, such as ``length`` or ``max_tokens``."""

    reason: str


class ProviderTimings(msgspec.Struct, frozen=True):
    """Times that the provider reports about itself, in seconds, such as ``queue_time`` or ``prompt_time``."""

    seconds: Mapping[str, float]


class StreamFault(msgspec.Struct, frozen=True, kw_only=True):
    """An error object inside the stream or in the place of one. The HTTP status may well have been 200."""

    message: str
    code: str | None = None
    type: str | None = None


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are not valid for the format, or over a cap. The decoder ignores all that follows.

    ``excerpt`` holds at most 200 characters of the offending data, control characters escaped.
    """

    reason: str
    excerpt: str = ""
    too_large: bool = False


class End(msgspec.Struct, frozen=True):
    """The format's own terminator: ``[DONE]``, ``message_stop``, ``response.completed`` and their like."""


Event = (
    TextDelta
    | ReasoningDelta
    | HiddenReasoning
    | Usage
    | Identity
    | Finish
    | ProviderTimings
    | StreamFault
    | Malformed
    | End
)


class Decoder(Protocol):
    """Turns the bytes of one response body into events."""

    unknown_events: int
    """Well-formed events whose type the decoder does not know; counted, not an error."""

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Return the events completed by ``data``. Never raises for foreign input; see `Malformed`."""
        ...

    def finish(self) -> list[Event]:
        """Say that the body ended; return what was still pending (an unterminated last line, say)."""
        ...

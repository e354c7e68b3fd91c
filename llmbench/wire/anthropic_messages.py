"""Messages streams of Anthropic, direct or through Vertex.

Source: Anthropic's API reference, "Streaming Messages". Every event says what it is in the ``type`` of its data;
``message_stop`` ends the stream.
"""

from __future__ import annotations

from typing import Final

import msgspec

from llmbench.wire.base import EventStreamDecoder
from llmbench.wire.events import End, Event, Finish, ReasoningDelta, TextDelta, Usage
from llmbench.wire.fields import IdentityTracker, count, fault_in, member, stated, text

_SILENT_EVENTS: Final = frozenset({"ping", "content_block_stop"})
_DELTAS: Final = frozenset({"text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"})
_INPUTS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class _Content(msgspec.Struct, gc=False):
    """A ``delta`` or a ``content_block``; of the fields, each type has its own."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    stop_reason: object = None


class _Message(msgspec.Struct, gc=False):
    id: object = None
    model: object = None
    usage: object = None


class _MessagesEvent(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Content | None = None
    content_block: _Content | None = None
    message: _Message | None = None
    usage: object = None
    error: object = None


class MessagesDecoder(EventStreamDecoder):
    """Decodes a Messages stream."""

    _events = msgspec.json.Decoder(_MessagesEvent)

    def __init__(self) -> None:
        super().__init__()
        self._identity = IdentityTracker()
        self._inputs: dict[str, int] = {}

    def _decode(self, data: bytes, events: list[Event]) -> None:
        if data.startswith(b"[DONE]"):  # some gateways add it; message_stop alone is the end
            return
        event = self._events.decode(data)
        match event.type:
            case "content_block_delta":
                self._delta(event.delta or _Content(), events)
            case "content_block_start":
                _add_text(event.content_block or _Content(), events)
            case "message_start":
                self._start(event.message or _Message(), events)
            case "message_delta":
                self._message_delta(event, events)
            case "message_stop":
                self._close(End(), events)
            case kind if kind == "error" or event.error:
                events.append(fault_in(data))
            case kind if kind not in _SILENT_EVENTS:
                self.unknown_events += 1

    def _delta(self, delta: _Content, events: list[Event]) -> None:
        if delta.type not in _DELTAS:
            self.unknown_events += 1
        else:
            _add_text(delta, events)

    def _start(self, message: _Message, events: list[Event]) -> None:
        identity = self._identity.update(
            response_id=message.id,
            served_model=message.model,
            service_tier=member(message.usage, "service_tier"),
        )
        if identity is not None:
            events.append(identity)
        self._usage(message.usage, "message_start.usage", events)

    def _message_delta(self, event: _MessagesEvent, events: list[Event]) -> None:
        reason = text(event.delta.stop_reason) if event.delta is not None else None
        if reason is not None:
            events.append(Finish(reason))
        self._usage(event.usage, "message_delta.usage", events)

    def _usage(self, counts: object, source: str, events: list[Event]) -> None:
        usage = Usage(
            input_tokens=self._input_tokens(counts),
            output_tokens=count(member(counts, "output_tokens")),
            reasoning_tokens=count(member(member(counts, "output_tokens_details"), "thinking_tokens")),
            cached_input_tokens=count(member(counts, "cache_read_input_tokens")),
            source=source,
        )
        if stated(usage):
            events.append(usage)

    def _input_tokens(self, counts: object) -> int | None:
        """Return the sum of the three input counts. A report may name some of them; the others stay as they were."""
        named = {name: value for name in _INPUTS if (value := count(member(counts, name))) is not None}
        self._inputs |= named
        return sum(self._inputs.values()) if named and "input_tokens" in self._inputs else None


def _add_text(content: _Content, events: list[Event]) -> None:
    if content.thinking:
        events.append(ReasoningDelta(content.thinking))
    if content.text:
        events.append(TextDelta(content.text))

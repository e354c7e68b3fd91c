"""Responses streams of OpenAI (``/v1/responses``).

Source: OpenAI's API reference, "Responses, streaming events". Every event says what it is in the ``type`` of its data;
there is one terminal event and no ``[DONE]``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from llmbench.wire.base import EventStreamDecoder
from llmbench.wire.events import End, Event, Finish, ReasoningDelta, TextDelta, Usage
from llmbench.wire.fields import IdentityTracker, count, fault_from, fault_in, member, stated, text

_DELTAS: Final[dict[str, type[TextDelta | ReasoningDelta]]] = {
    "response.output_text.delta": TextDelta,
    "response.refusal.delta": TextDelta,
    "response.reasoning_summary_text.delta": ReasoningDelta,
    "response.reasoning_text.delta": ReasoningDelta,
}
_BOOKKEEPING: Final = (
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.output_item.",
    "response.content_part.",
    "response.reasoning_summary_part.",
    "response.output_text.annotation.",
)


class _Response(msgspec.Struct, gc=False):
    id: object = None
    model: object = None
    service_tier: object = None
    usage: object = None
    error: object = None
    incomplete_details: object = None


class _ResponseEvent(msgspec.Struct, gc=False):
    type: str = ""
    delta: object = None
    response: _Response | None = None
    error: object = None


class ResponsesDecoder(EventStreamDecoder):
    """Decodes a Responses stream."""

    _events = msgspec.json.Decoder(_ResponseEvent)

    def __init__(self) -> None:
        super().__init__()
        self._identity = IdentityTracker()

    def _decode(self, data: bytes, events: list[Event]) -> None:
        if data.startswith(b"[DONE]"):  # some gateways add it; the terminal event alone is the end
            return
        event = self._events.decode(data)
        delta = _DELTAS.get(event.type)
        if delta is not None:
            _add_delta(delta, event, events)
            return
        if event.response is not None:
            self._identify(event.response, events)
        if event.type == "error" or event.error:
            events.append(fault_in(data))
        else:
            self._lifecycle(event.type, event.response or _Response(), data, events)

    def _lifecycle(self, kind: str, response: _Response, data: bytes, events: list[Event]) -> None:
        match kind:
            case "response.completed":
                self._end("completed", response, events)
            case "response.incomplete":
                reason = text(member(response.incomplete_details, "reason"))
                self._end(reason or "incomplete", response, events)
            case "response.failed":
                _add_usage(response.usage, events)
                events.append(fault_from(response.error, data))
            case _ if not (kind.startswith(_BOOKKEEPING) or kind.endswith(".done")):
                self.unknown_events += 1

    def _end(self, reason: str, response: _Response, events: list[Event]) -> None:
        events.append(Finish(reason))
        _add_usage(response.usage, events)
        self._close(End(), events)

    def _identify(self, response: _Response, events: list[Event]) -> None:
        identity = self._identity.update(
            response_id=response.id, served_model=response.model, service_tier=response.service_tier
        )
        if identity is not None:
            events.append(identity)


def _add_delta(kind: type[TextDelta | ReasoningDelta], event: _ResponseEvent, events: list[Event]) -> None:
    if not isinstance(event.delta, str):
        raise msgspec.ValidationError(f"Expected `str` - at `$.delta` of `{event.type}`")
    if event.delta:
        events.append(kind(event.delta))


def _add_usage(counts: object, events: list[Event]) -> None:
    usage = Usage(
        input_tokens=count(member(counts, "input_tokens")),
        output_tokens=count(member(counts, "output_tokens")),
        reasoning_tokens=count(member(member(counts, "output_tokens_details"), "reasoning_tokens")),
        cached_input_tokens=count(member(member(counts, "input_tokens_details"), "cached_tokens")),
        total_tokens=count(member(counts, "total_tokens")),
        source="response.usage",
    )
    if stated(usage):
        events.append(usage)

"""Gemini's ``streamGenerateContent`` as server-sent events (``alt=sse``), through Vertex or directly.

Source: Google's API reference, "GenerateContentResponse". Each event is one response with the next parts of the text.
There is no terminator: the body ends behind the chunk with the finish reason. Without ``alt=sse`` the body is one JSON
array, which can't be read as it arrives and is malformed here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from llmbench.wire.base import EventStreamDecoder
from llmbench.wire.events import End, Event, Finish, Malformed, ReasoningDelta, StreamFault, TextDelta, Usage
from llmbench.wire.fields import IdentityTracker, count, fault_in, member, parsed, stated, text

_NOTHING: Final = msgspec.Raw()


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    thought: object = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: object = None
    index: object = 0


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    """One event's data. Only ``candidates`` must have the right type: the rest is never worth failing a run for."""

    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = _NOTHING
    response_id: object = None
    model_version: object = None
    prompt_feedback: object = None
    error: object = None


class GeminiDecoder(EventStreamDecoder):
    """Decodes a stream of generated content.

    Of one chunk, the visible text comes last: what follows a text's event is taken to have arrived after it.
    """

    _chunks = msgspec.json.Decoder(_Chunk)

    def __init__(self) -> None:
        super().__init__()
        self._identity = IdentityTracker()
        self._last_said: tuple[object, object] = (None, None)
        self._last_usage = _NOTHING
        self._finished = False

    def finish(self) -> list[Event]:
        """Return what was pending, and `End` if there was a finish reason: the end of the body is the terminator."""
        if self._closed:
            return []
        events = super().finish()
        if self._finished and not any(isinstance(event, StreamFault | Malformed) for event in events):
            events.append(End())
        return events

    def _decode(self, data: bytes, events: list[Event]) -> None:
        if data.startswith(b"[DONE]"):  # some gateways add it
            return
        chunk = self._chunks.decode(data)
        if (chunk.response_id, chunk.model_version) != self._last_said:
            self._last_said = (chunk.response_id, chunk.model_version)
            self._identify(events)
        if chunk.usage_metadata != self._last_usage and chunk.usage_metadata:
            self._account(chunk.usage_metadata, events)
        if chunk.candidates:
            for candidate in chunk.candidates:
                self._candidate(candidate, events)
        else:
            self._without_text(chunk, events)
        if chunk.error:
            self._finished = False
            events.append(fault_in(data))

    def _identify(self, events: list[Event], service_tier: object = None) -> None:
        response_id, model = self._last_said
        identity = self._identity.update(response_id=response_id, served_model=model, service_tier=service_tier)
        if identity is not None:
            events.append(identity)

    def _account(self, usage_metadata: msgspec.Raw, events: list[Event]) -> None:
        """Report the counts, which most streams repeat with every chunk, only when they have changed."""
        self._last_usage = usage_metadata
        counts = parsed(bytes(usage_metadata))
        self._identify(events, member(counts, "trafficType"))
        usage = _usage(counts)
        if stated(usage):
            events.append(usage)

    def _candidate(self, candidate: _Candidate, events: list[Event]) -> None:
        reason = text(candidate.finish_reason)
        if reason is not None and not candidate.index:
            self._finished = True
            events.append(Finish(reason))
        if candidate.content is None or not candidate.content.parts:
            return
        visible = thoughts = ""
        for part in candidate.content.parts:
            if part.text and part.thought:
                thoughts += part.text
            elif part.text:
                visible += part.text
        if thoughts:
            events.append(ReasoningDelta(thoughts))
        if visible:
            events.append(TextDelta(visible))

    def _without_text(self, chunk: _Chunk, events: list[Event]) -> None:
        blocked = text(member(chunk.prompt_feedback, "blockReason"))
        if blocked is not None:
            message = text(member(chunk.prompt_feedback, "blockReasonMessage")) or f"the prompt was blocked: {blocked}"
            events.append(StreamFault(message=message, code=blocked, type="prompt_blocked"))
        elif chunk.candidates is None and not (chunk.usage_metadata or chunk.prompt_feedback or chunk.error):
            self.unknown_events += 1


def _usage(counts: object) -> Usage:
    """Thoughts are counted apart from the candidates' tokens; the output is both."""
    visible = count(member(counts, "candidatesTokenCount"))
    thoughts = count(member(counts, "thoughtsTokenCount"))
    return Usage(
        input_tokens=count(member(counts, "promptTokenCount")),
        output_tokens=None if visible is None and thoughts is None else (visible or 0) + (thoughts or 0),
        reasoning_tokens=thoughts,
        cached_input_tokens=count(member(counts, "cachedContentTokenCount")),
        total_tokens=count(member(counts, "totalTokenCount")),
        source="usageMetadata",
    )

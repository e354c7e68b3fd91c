"""ConverseStream of Amazon Bedrock: frames of the AWS event stream encoding with JSON in them.

Source: AWS's API reference, "ConverseStream". The headers say what a frame is; ``messageStop`` has the stop reason, and
``metadata``, with the counts, is the last.
"""

from __future__ import annotations

from typing import Final

import msgspec

from llmbench.wire.aws_eventstream import FrameStream, string_headers
from llmbench.wire.base import foreign_body
from llmbench.wire.events import (
    End,
    Event,
    Finish,
    HiddenReasoning,
    Identity,
    Malformed,
    ProviderTimings,
    ReasoningDelta,
    StreamFault,
    TextDelta,
    Usage,
)
from llmbench.wire.fields import UNREADABLE, count, excerpt, fault_in, member, seconds, stated, text

_DELTA: Final = "contentBlockDelta"
_INPUTS: Final = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class _Reasoning(msgspec.Struct, gc=False, rename="camel"):
    """The text, or one of the two forms that show none; a signature follows shown text as well."""

    text: str | None = None
    signature: object = None
    redacted_content: object = None


class _Delta(msgspec.Struct, gc=False, rename="camel"):
    """A union: of the members, a delta has one."""

    text: str | None = None
    reasoning_content: _Reasoning | None = None
    tool_use: object = None
    citation: object = None


class _DeltaEvent(msgspec.Struct, gc=False):
    delta: _Delta | None = None


class _StopEvent(msgspec.Struct, gc=False, rename="camel"):
    stop_reason: object = None


class _MetadataEvent(msgspec.Struct, gc=False, rename="camel"):
    usage: object = None
    metrics: object = None
    service_tier: object = None


class ConverseDecoder:
    """Decodes a ConverseStream."""

    _deltas = msgspec.json.Decoder(_DeltaEvent)
    _stops = msgspec.json.Decoder(_StopEvent)
    _metadatas = msgspec.json.Decoder(_MetadataEvent)

    def __init__(self) -> None:
        self.unknown_events = 0
        self._frames = FrameStream()
        self._closed = False
        self._stopped = False
        self._accounted = False
        # Frames of one kind have the same headers to the byte, so nearly all need no parsing.
        self._block = b""
        self._headers: dict[str, str] = {}
        self._kind = ""

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Return the events completed by ``data``; after `End` or `Malformed`, none."""
        events: list[Event] = []
        if self._closed:
            return events
        sole = self._frames.sole(data) if isinstance(data, bytes) else None
        if sole is None:
            self._read(data, events)
        else:
            self._frame(*sole, events)
        return events

    def finish(self) -> list[Event]:
        """Return what the body was if it was no event stream. A frame that the end cut short is dropped."""
        stray = b"" if self._closed else self._frames.stray
        self._closed = True
        return [foreign_body(stray)] if stray.strip() else []

    def _read(self, data: bytes | memoryview, events: list[Event]) -> None:
        for block, payload in self._frames.feed(data):
            self._frame(block, payload, events)
            if self._closed:
                return
        if self._frames.malformed is not None:
            self._close(self._frames.malformed, events)

    def _frame(self, block: bytes, payload: bytes, events: list[Event]) -> None:
        try:
            if block != self._block:
                self._learn(block)
            if self._kind == _DELTA:
                self._delta(payload, events)
            else:
                self._other(payload, events)
        except UNREADABLE as error:
            self._close(Malformed(reason=f"invalid event: {error}", excerpt=excerpt(payload)), events)

    def _learn(self, block: bytes) -> None:
        headers = string_headers(block)
        if headers is None:
            raise msgspec.DecodeError("the frame's headers are malformed")
        self._block = block
        self._headers = headers
        kind = headers.get(":message-type")
        self._kind = f":{kind}" if kind in ("exception", "error") else headers.get(":event-type", "")

    def _delta(self, payload: bytes, events: list[Event]) -> None:
        delta = self._deltas.decode(payload).delta
        if delta is None:
            self.unknown_events += 1
        elif delta.text:
            events.append(TextDelta(delta.text))
        elif delta.reasoning_content is not None:
            _add_reasoning(delta.reasoning_content, events)
        elif delta.text is None and delta.tool_use is None and delta.citation is None:
            self.unknown_events += 1

    def _other(self, payload: bytes, events: list[Event]) -> None:
        match self._kind:
            case "messageStop":
                self._stop(self._stops.decode(payload), events)
            case "metadata":
                self._metadata(self._metadatas.decode(payload), events)
            case ":exception":
                events.append(self._exception(payload))
            case ":error":
                code = self._headers.get(":error-code")
                message = self._headers.get(":error-message") or code or "error without a message"
                events.append(StreamFault(message=message, code=code))
            case kind if kind not in ("messageStart", "contentBlockStart", "contentBlockStop"):
                self.unknown_events += 1

    def _exception(self, payload: bytes) -> StreamFault:
        fault = fault_in(payload)
        code = self._headers.get(":exception-type") or fault.code
        return StreamFault(message=fault.message or code or "exception without a message", code=code)

    def _stop(self, stop: _StopEvent, events: list[Event]) -> None:
        reason = text(stop.stop_reason)
        if reason is not None:
            events.append(Finish(reason))
        self._stopped = True
        self._end(events)

    def _metadata(self, metadata: _MetadataEvent, events: list[Event]) -> None:
        tier = text(member(metadata.service_tier, "type"))
        if tier is not None:
            events.append(Identity(service_tier=tier))
        usage = _usage(metadata.usage)
        if stated(usage):
            events.append(usage)
        latency = seconds(member(metadata.metrics, "latencyMs"))
        if latency is not None:
            events.append(ProviderTimings({"latency": latency / 1000}))
        self._accounted = True
        self._end(events)

    def _end(self, events: list[Event]) -> None:
        # The two come in this order, but nothing promises it.
        if self._stopped and self._accounted:
            self._close(End(), events)

    def _close(self, last: End | Malformed, events: list[Event]) -> None:
        events.append(last)
        self._closed = True


def _add_reasoning(content: _Reasoning, events: list[Event]) -> None:
    if content.text:
        events.append(ReasoningDelta(content.text))
    elif content.signature or content.redacted_content:
        events.append(HiddenReasoning())


def _usage(counts: object) -> Usage:
    """``inputTokens`` are those that were neither read from a cache nor written to one; the sum is the input."""
    inputs = {name: value for name in _INPUTS if (value := count(member(counts, name))) is not None}
    return Usage(
        input_tokens=sum(inputs.values()) if "inputTokens" in inputs else None,
        output_tokens=count(member(counts, "outputTokens")),
        cached_input_tokens=inputs.get("cacheReadInputTokens"),
        total_tokens=count(member(counts, "totalTokens")),
        source="usage",
    )

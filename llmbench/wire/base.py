"""What the decoders of server-sent events have in common: caps, faults, malformed data, the end of the body."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod

from llmbench.wire.events import End, Event, Malformed, StreamFault
from llmbench.wire.fields import UNREADABLE, excerpt, fault_from, fault_in, is_bare_error, member, parsed
from llmbench.wire.sse import EventStream


class EventStreamDecoder(ABC):
    """A `Decoder` of one event stream; what an event's data means is for the subclass to say."""

    def __init__(self) -> None:
        self.unknown_events = 0
        self._stream = EventStream()
        self._closed = False

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Return the events completed by ``data``; after `End` or `Malformed`, none."""
        events: list[Event] = []
        if self._closed:
            return events
        sole = self._stream.sole(data) if isinstance(data, bytes) else None
        if sole is None:
            self._read(data, events)
        else:
            try:
                self._decode(sole, events)
            except UNREADABLE as error:
                self._reject(sole, error, events)
        return events

    def finish(self) -> list[Event]:
        """Return what was pending, if it was whole, or what the body was if it was not an event stream.

        An event that the end of the body cut short is dropped: a truncated stream is known by its missing `End`.
        """
        events: list[Event] = []
        if self._closed:
            return events
        self._closed = True
        pending = self._stream.finish()
        if pending is not None:
            with contextlib.suppress(*UNREADABLE):
                self._dispatch(*pending, events)
        elif self._stream.stray.strip():
            body = foreign_body(self._stream.stray)
            # Google's servers, for one, end a stream that fails with an error object on lines of its own.
            if isinstance(body, StreamFault) or not self._stream.recognised:
                events.append(body)
        return events

    @abstractmethod
    def _decode(self, data: bytes, events: list[Event]) -> None:
        """Add what one event says. May raise what `UNREADABLE` lists, before it adds anything."""

    def _read(self, data: bytes | memoryview, events: list[Event]) -> None:
        for name, payload in self._stream.feed(data):
            try:
                self._dispatch(name, payload, events)
            except UNREADABLE as error:
                self._reject(payload, error, events)
            if self._closed:
                return
        if self._stream.overflow is not None:
            self._close(Malformed(reason=self._stream.overflow, too_large=True), events)

    def _dispatch(self, name: bytes | None, data: bytes, events: list[Event]) -> None:
        if name == b"error":
            events.append(fault_in(data))
        else:
            self._decode(data, events)

    def _reject(self, data: bytes, error: Exception, events: list[Event]) -> None:
        # An event whose data is blank says nothing; some servers send one to keep the connection alive.
        if data.strip():
            self._close(Malformed(reason=f"invalid event: {error}", excerpt=excerpt(data)), events)

    def _close(self, last: End | Malformed, events: list[Event]) -> None:
        events.append(last)
        self._closed = True


def foreign_body(body: bytes) -> StreamFault | Malformed:
    """Describe a body, or the part of one, that is no event stream: an error as JSON, or anything else."""
    value = parsed(body)
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(detail := member(first, "detail"), dict):
        first = detail
    if member(first, "error") or is_bare_error(first):
        return fault_from(first, body)
    return Malformed(reason="not an event stream", excerpt=excerpt(body))

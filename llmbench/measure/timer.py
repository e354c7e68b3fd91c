"""The token-streaming timer: one run's body goes in, stamped; what was said, and when, is kept.

The timer is the sink of an `Exchange`, so it runs in the event loop's reader callback, a few microseconds a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from llmbench.measure.stamps import Read
from llmbench.wire.events import (
    Decoder,
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

Reported = TypeVar("Reported", Usage, Identity)

STAMP_TOLERANCE_NS = 1_000_000
"""A stamp that can be wrong by more than this is doubtful."""


class StreamTimer:
    """What one stream brought, and when; all times are `perf_counter_ns`.

    ``visible_ns[i]`` is the arrival of the i-th visible chunk and ``visible_chars[i]`` its length in characters.
    """

    def __init__(self, decoder: Decoder, on_text: Callable[[StreamTimer, str], None] | None = None) -> None:
        self.visible_ns: list[int] = []
        self.visible_chars: list[int] = []
        self.first_reasoning_ns: int | None = None
        self.reasoning_chars = 0
        self.hidden_reasoning = False
        """The model reasoned, in part or in whole without showing it."""
        self.usage: Usage | None = None
        self.identity = Identity()
        self.finish_reason: str | None = None
        self.provider_timings: dict[str, float] = {}
        self.fault: StreamFault | None = None
        self.malformed: Malformed | None = None
        self.over = False
        """The stream has ended, or can't be believed any more."""
        self.terminated = False
        """The format's own terminator came."""
        self.kernel = True
        """Every read of the body was stamped by the kernel."""
        self.coalesced_reads = 0
        self.doubtful_chunks = 0
        """Visible chunks whose stamp may be wrong by more than the tolerance."""
        self.first_read_coalesced = False
        """The first visible chunk shared its read with other text: its time is an upper bound."""
        self.longest_wait_ns = 0
        self.reads = 0
        self._decoder = decoder
        self._on_text = on_text
        self._read: Read | None = None
        self._first_read: Read | None = None
        self._in_read = 0
        self._visible_before = False

    @property
    def reasoned(self) -> bool:
        """Whether the stream said that the model reasoned, apart from any count."""
        return self.first_reasoning_ns is not None or self.hidden_reasoning

    @property
    def unknown_events(self) -> int:
        return self._decoder.unknown_events

    def feed(self, read: Read, data: bytes) -> bool:
        """Decode one piece; True once the stream has ended or can't be believed any more."""
        if read is not self._read:
            self._next_read(read)
        elif self._visible_before:
            self._doubt(read)
        for event in self._decoder.feed(data):
            if self._visible_before:
                self._doubt(read)
            if type(event) is TextDelta:
                self._visible(read, event.text)
            else:
                _HANDLERS[type(event)](self, read, event)
        return self.over

    def finish(self) -> None:
        """Say that the body ended, so that a last event without its blank line is not lost."""
        read = self._read
        if read is not None:
            for event in self._decoder.finish():
                _HANDLERS[type(event)](self, read, event)

    def _next_read(self, read: Read) -> None:
        self._read = read
        self._in_read = 0
        self._visible_before = False
        self.reads += 1
        if read.wait_ns > self.longest_wait_ns:
            self.longest_wait_ns = read.wait_ns
        if not read.kernel:
            self.kernel = False

    def _visible(self, read: Read, text: str) -> None:
        if not self.visible_ns:
            self._first_read = read
        self._count_in_read(read)
        if read.kernel:
            self._visible_before = True
        elif read.doubt_ns > STAMP_TOLERANCE_NS:
            self.doubtful_chunks += 1
        self.visible_ns.append(read.stamp_ns)
        self.visible_chars.append(len(text))
        if self._on_text is not None:
            self._on_text(self, text)

    def _doubt(self, read: Read) -> None:
        """Another event follows a visible chunk in the same read: the chunk may have come before the read's stamp.

        How much earlier is bounded by how long the loop had not looked; and if even the newest bytes had to wait to be
        read, this process was kept from looking in a way that the loop can't know of.
        """
        self._visible_before = False
        if read.doubt_ns > STAMP_TOLERANCE_NS or read.wait_ns > STAMP_TOLERANCE_NS:
            self.doubtful_chunks += 1

    def _on_text_delta(self, read: Read, event: TextDelta) -> None:
        self._visible(read, event.text)

    def _count_in_read(self, read: Read) -> None:
        self._in_read += 1
        if self._in_read > 1:
            self.coalesced_reads += self._in_read == 2
            self.first_read_coalesced |= read is self._first_read

    def _on_reasoning(self, read: Read, event: ReasoningDelta) -> None:
        self._count_in_read(read)
        if self.first_reasoning_ns is None:
            self.first_reasoning_ns = read.stamp_ns
        self.reasoning_chars += len(event.text)

    def _on_hidden_reasoning(self, read: Read, event: HiddenReasoning) -> None:
        self.hidden_reasoning = True

    def _on_usage(self, read: Read, event: Usage) -> None:
        self.usage = _merged(self.usage, event)

    def _on_identity(self, read: Read, event: Identity) -> None:
        self.identity = _merged(self.identity, event)

    def _on_finish(self, read: Read, event: Finish) -> None:
        self.finish_reason = event.reason

    def _on_timings(self, read: Read, event: ProviderTimings) -> None:
        self.provider_timings.update(event.seconds)

    def _on_fault(self, read: Read, event: StreamFault) -> None:
        self.fault = self.fault or event
        self.over = True

    def _on_malformed(self, read: Read, event: Malformed) -> None:
        self.malformed = self.malformed or event
        self.over = True

    def _on_end(self, read: Read, event: End) -> None:
        self.terminated = self.over = True


_HANDLERS: dict[type[Event], Callable[[StreamTimer, Read, Any], None]] = {
    TextDelta: StreamTimer._on_text_delta,  # noqa: SLF001  the table belongs to the class
    ReasoningDelta: StreamTimer._on_reasoning,  # noqa: SLF001
    HiddenReasoning: StreamTimer._on_hidden_reasoning,  # noqa: SLF001
    Usage: StreamTimer._on_usage,  # noqa: SLF001
    Identity: StreamTimer._on_identity,  # noqa: SLF001
    Finish: StreamTimer._on_finish,  # noqa: SLF001
    ProviderTimings: StreamTimer._on_timings,  # noqa: SLF001
    StreamFault: StreamTimer._on_fault,  # noqa: SLF001
    Malformed: StreamTimer._on_malformed,  # noqa: SLF001
    End: StreamTimer._on_end,  # noqa: SLF001
}


def _merged(old: Reported | None, new: Reported) -> Reported:
    """Return ``new``, with what it does not say filled in from ``old``."""
    if old is None:
        return new
    said = {name: value for name in new.__struct_fields__ if (value := getattr(new, name)) is not None}
    return msgspec.structs.replace(old, **said)

"""An incremental parser of server-sent events, on bytes.

The format is the event stream of the WHATWG HTML standard, section "Server-sent events". Lines end at LF, CR or CRLF
and nowhere else: ``str.splitlines`` also splits at U+2028 or U+0085, which JSON strings may contain as they are.
The ``id`` and ``retry`` fields serve reconnecting, which a measurement never does, so they are read and dropped.
"""

from __future__ import annotations

from typing import Final, TypeAlias

MAX_EVENT: Final = 1024 * 1024
"""Bytes from one blank line to the next, comments and line ends included; an unterminated line counts."""

MAX_STREAM: Final = 16 * 1024 * 1024
"""Bytes in one body."""

ServerSentEvent: TypeAlias = tuple[bytes | None, bytes]
"""The value of the ``event`` field, None if there was none or an empty one, and the data lines joined by LF."""

_CR: Final = 0x0D
_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = (b"data", b"event", b"id", b"retry")


class EventStream:
    """The state of one stream: feed it bytes, and it returns the events that they complete.

    Any split of the same bytes gives the same events. What is kept of ``data`` is copied, so a buffer may be reused.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_name",
        "_room",
        "_size",
        "_stray",
        "_tail",
        "overflow",
        "recognised",
    )

    def __init__(self) -> None:
        self.overflow: str | None = None
        """Which cap was exceeded, as a phrase; from then on everything is ignored."""
        self.recognised = False
        """Whether any line was one of this format. A body without one is something else; see `stray`."""
        self._at_start = True
        self._after_cr = False
        self._room = MAX_STREAM
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._name: bytes | None = None
        self._size = 0
        self._stray = bytearray()

    @property
    def stray(self) -> bytes:
        """The non-blank lines that are not of this format, at most `MAX_EVENT` bytes."""
        return bytes(self._stray)

    def sole(self, chunk: bytes) -> bytes | None:
        """Return the data of ``chunk`` if it is one whole, plain ``data: …`` event and nothing is pending, else None.

        Nearly every chunk of a stream is, and `feed` costs several times as much. What is returned counts as fed.
        """
        if (
            not chunk.startswith(b"data: ")
            or chunk.find(b"\n") != len(chunk) - 2
            or not chunk.endswith(b"\n\n")
            or self._size
            or self._tail
            or self._after_cr
            or _CR in chunk
            or len(chunk) > self._room
            or len(chunk) > MAX_EVENT
        ):
            return None
        self._room -= len(chunk)
        self._at_start = False
        self.recognised = True
        self._name = None
        return chunk[6:-2]

    def feed(self, data: bytes | memoryview) -> list[ServerSentEvent]:
        """Return the events completed by ``data``; look at `overflow` after it."""
        chunk = data if isinstance(data, bytes) else bytes(data)
        if not chunk or self.overflow is not None:
            return []
        self._room -= len(chunk)
        if self._room < 0:
            chunk = chunk[: self._room]
        if self._after_cr or _CR in chunk:
            chunk = self._with_line_feeds(chunk)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        events = self._read(lines) if lines else []
        self._tail += rest
        if self._size + len(self._tail) > MAX_EVENT:
            self.overflow = f"event of more than {MAX_EVENT} bytes"
        elif self._room < 0:
            self.overflow = f"stream of more than {MAX_STREAM} bytes"
        return events

    def finish(self) -> ServerSentEvent | None:
        """Say, once, that the body ended; return the event that was pending, its last line taken as if it were ended.

        The standard drops such an event. But servers do end their stream with a ``data: [DONE]`` that lacks its blank
        line or even its line end, and whether the event is whole, its own format tells.
        """
        line = bytes(self._tail).removeprefix(_BOM if self._at_start else b"")
        if not any(head.startswith(line) for head in (_BOM, *_FIELDS)):
            self._field(line)
        return (self._name, b"\n".join(self._data)) if self._data else None

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _read(self, lines: list[bytes]) -> list[ServerSentEvent]:
        if self._tail:
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        if self._at_start:
            self._at_start = False
            if lines[0].startswith(_BOM):
                lines[0] = lines[0][len(_BOM) :]
                self._size += len(_BOM)
        events: list[ServerSentEvent] = []
        data = self._data
        size = self._size
        for line in lines:
            if line.startswith(b"data: "):
                data.append(line[6:])
                size += len(line) + 1
            elif line:
                self._field(line)
                size += len(line) + 1
            elif size > MAX_EVENT:
                break
            else:
                if data:
                    self.recognised = True
                    events.append((self._name, b"\n".join(data)))
                    data.clear()
                self._name = None
                size = 0
        self._size = size
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name and name not in _FIELDS:
            if len(self._stray) + len(line) < MAX_EVENT:
                self._stray += line + b"\n"
            return
        self.recognised = True
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value or None

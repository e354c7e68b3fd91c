"""An incremental parser of the AWS event stream encoding (``application/vnd.amazon.eventstream``).

Source: AWS's description of the encoding ("Event stream encoding" in the Amazon Transcribe guide, and the Smithy
specification). All numbers are big-endian. A frame is

    u32 length of the whole frame
    u32 length of the headers
    u32 CRC-32 of these eight bytes
    headers: u8 length of the name, the name, u8 type, the value (a string: u16 length, then UTF-8)
    payload
    u32 CRC-32 of all the bytes before it
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

from llmbench.wire.events import Malformed
from llmbench.wire.fields import excerpt
from llmbench.wire.sse import MAX_STREAM

MAX_FRAME: Final = 1024 * 1024
"""Bytes in one frame."""

Frame: TypeAlias = tuple[bytes, bytes]
"""The block of headers as it came, and the payload."""

_prelude = Struct(">III").unpack_from
_PRELUDE_SIZE: Final = 12
_CHECKSUM_SIZE: Final = 4
_LEAST_FRAME: Final = _PRELUDE_SIZE + _CHECKSUM_SIZE
_FIXED_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7


class FrameStream:
    """The state of one stream: feed it bytes, and it returns the frames that they complete.

    Any split of the same bytes gives the same frames. What is kept of ``data`` is copied, so a buffer may be reused.
    """

    __slots__ = ("_recognised", "_room", "_tail", "_wanted", "malformed")

    def __init__(self) -> None:
        self.malformed: Malformed | None = None
        """What was wrong behind the frames returned so far; from then on everything is ignored."""
        self._recognised = False
        self._room = MAX_STREAM
        self._tail = bytearray()
        self._wanted = _PRELUDE_SIZE

    @property
    def stray(self) -> bytes:
        """The body so far, if it can't be one of this format: text, for no frame begins with a byte other than 0."""
        return b"" if self._recognised or self._tail.startswith(b"\0") else bytes(self._tail)

    def sole(self, chunk: bytes) -> Frame | None:
        """Return the frame if ``chunk`` is one whole, valid frame and nothing is pending, else None.

        Nearly every chunk of a stream is, and `feed` costs more. What is returned counts as fed.
        """
        size = len(chunk)
        if self._tail or not _LEAST_FRAME <= size <= MAX_FRAME or size > self._room:
            return None
        total, headers, checksum = _prelude(chunk)
        payload = _PRELUDE_SIZE + headers
        if (
            total != size
            or payload > size - _CHECKSUM_SIZE
            or crc32(chunk[:8]) != checksum
            or crc32(chunk[8:-4], checksum) != int.from_bytes(chunk[-4:], "big")
            or self.malformed is not None
        ):
            return None
        self._room -= size
        self._recognised = True
        return chunk[_PRELUDE_SIZE:payload], chunk[payload:-4]

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """Return the frames completed by ``data``; look at `malformed` after it."""
        chunk = data if isinstance(data, bytes) else bytes(data)
        frames: list[Frame] = []
        if self.malformed is not None:
            return frames
        self._room -= len(chunk)
        if self._room < 0:
            chunk = chunk[: self._room]
        if self._tail:
            chunk = self._joined(chunk)
        if chunk:
            rest = self._read(chunk, frames)
            if rest < len(chunk) and self.malformed is None:
                self._tail += chunk[rest:]
        if self._room < 0 and self.malformed is None:
            self._fail(f"stream of more than {MAX_STREAM} bytes", too_large=True)
        return frames

    def _joined(self, chunk: bytes) -> bytes:
        """Return all that is pending, or nothing as long as it is too little to go on."""
        self._tail += chunk
        if len(self._tail) < self._wanted:
            return b""
        whole = bytes(self._tail)
        self._tail.clear()
        return whole

    def _read(self, chunk: bytes, frames: list[Frame]) -> int:
        """Add the frames in ``chunk``; return where the first one begins that is not complete."""
        at, size = 0, len(chunk)
        while size - at >= _PRELUDE_SIZE:
            total, headers, checksum = _prelude(chunk, at)
            so_far = crc32(chunk[at : at + 8])
            if so_far != checksum or not _LEAST_FRAME + headers <= total <= MAX_FRAME:
                self._refuse(chunk, at, checksum_holds=so_far == checksum)
                return at
            end = at + total - _CHECKSUM_SIZE
            if at + total > size:
                self._wanted = total
                return at
            if crc32(chunk[at + 8 : end], so_far) != int.from_bytes(chunk[end : at + total], "big"):
                self._fail("invalid frame: wrong checksum", chunk[at : at + total])
                return at
            payload = at + _PRELUDE_SIZE + headers
            frames.append((chunk[at + _PRELUDE_SIZE : payload], chunk[payload:end]))
            at += total
            self._recognised = True
        self._wanted = _PRELUDE_SIZE
        return at

    def _refuse(self, chunk: bytes, at: int, *, checksum_holds: bool) -> None:
        """Say what is wrong with a prelude; if it is text at the very beginning, wait for the rest of it."""
        prelude = chunk[at : at + _PRELUDE_SIZE]
        total = int.from_bytes(prelude[:4], "big")
        if checksum_holds and total > MAX_FRAME:
            self._fail(f"frame of more than {MAX_FRAME} bytes", prelude, too_large=True)
        elif checksum_holds:
            self._fail("invalid frame: impossible lengths", prelude)
        elif self._recognised or not prelude[0]:
            self._fail("invalid frame: wrong checksum of its lengths", prelude)
        elif len(chunk) > MAX_FRAME:
            self._fail("not an event stream", chunk)
        else:
            self._wanted = MAX_FRAME + 1

    def _fail(self, reason: str, data: bytes = b"", *, too_large: bool = False) -> None:
        self.malformed = Malformed(reason=reason, excerpt=excerpt(data), too_large=too_large)


def string_headers(block: bytes) -> dict[str, str] | None:
    """Return the headers that are strings, by name; None if ``block`` is no block of headers."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(block):
        kind_at = at + 1 + block[at]
        start, end = _value(block, kind_at)
        if end > len(block):
            return None
        if block[kind_at] == _STRING:
            name = block[at + 1 : kind_at].decode("utf-8", "replace")
            headers[name] = block[start:end].decode("utf-8", "replace")
        at = end
    return headers


def _value(block: bytes, kind_at: int) -> tuple[int, int]:
    """Return where the value of a header begins and ends: out of reach, if its type is none or is unknown."""
    kind = block[kind_at] if kind_at < len(block) else None
    start = kind_at + 1
    if kind in (_BYTES, _STRING):
        start += 2
        return start, start + int.from_bytes(block[kind_at + 1 : start], "big")
    return start, start + (len(block) if kind is None else _FIXED_SIZES.get(kind, len(block)))

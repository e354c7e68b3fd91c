"""Frames of ``application/vnd.amazon.eventstream``: a prelude, headers, a payload, two CRCs.

Source: the "Amazon Event Stream" specification of Smithy. All numbers are big-endian: u32 length of the frame, u32
length of its headers, u32 CRC of these eight bytes, the headers (u8 length and name, u8 7 for "string", u16 length and
value), the payload, u32 CRC of everything before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_PRELUDE_BYTES = _LENGTHS.size + _CRC.size
_STRING = 7
_MIB = 1024 * 1024
_CACHED_LENGTHS = 64
"""A template keeps the beginning of its frames for this many lengths of text, then starts afresh."""


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Return the headers of a frame, all of them strings."""
    return b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())


def _header(name: bytes, value: bytes) -> bytes:
    return b"%c%b%c%b%b" % (len(name), name, _STRING, struct.pack(">H", len(value)), value)


def _prelude(headers_bytes: int, payload_bytes: int) -> bytes:
    lengths = _LENGTHS.pack(_PRELUDE_BYTES + headers_bytes + payload_bytes + _CRC.size, headers_bytes)
    return lengths + _CRC.pack(zlib.crc32(lengths))


def frame(headers: bytes, payload: bytes) -> bytes:
    """Return one frame; ``headers`` are encoded already."""
    message = _prelude(len(headers), len(payload)) + headers + payload
    return message + _CRC.pack(zlib.crc32(message))


class FrameTemplate:
    """Frames whose payloads are the same but for a text in the middle.

    What comes before the text depends on nothing but the text's length, so it and its CRC are made once for each.
    """

    __slots__ = ("_before", "_head", "_headers", "_tail")

    def __init__(self, headers: bytes, head: bytes, tail: bytes) -> None:
        self._headers = headers
        self._head = head
        self._tail = tail
        self._before: dict[int, tuple[bytes, int]] = {}

    def fill(self, text: bytes) -> bytes:
        """Return the frame with ``text``."""
        before, checksum = self._before.get(len(text)) or self._begin(len(text))
        rest = text + self._tail
        return before + rest + _CRC.pack(zlib.crc32(rest, checksum))

    def _begin(self, length: int) -> tuple[bytes, int]:
        prelude = _prelude(len(self._headers), len(self._head) + length + len(self._tail))
        before = prelude + self._headers + self._head
        if len(self._before) >= _CACHED_LENGTHS:
            self._before.clear()
        self._before[length] = before, zlib.crc32(before)
        return self._before[length]


def cut_payload(whole: bytes) -> bytes:
    """Return a frame, itself sound, with only the first three quarters of the payload of ``whole``."""
    start = _PRELUDE_BYTES + _LENGTHS.unpack_from(whole)[1]
    payload = whole[start : -_CRC.size]
    return frame(whole[_PRELUDE_BYTES:start], payload[: len(payload) * 3 // 4])


def spoil_checksum(whole: bytes) -> bytes:
    """Return a frame whose last CRC is wrong."""
    return whole[:-1] + bytes([whole[-1] ^ 0xFF])


def endless(headers: bytes, mebibytes: int) -> bytes:
    """Return a frame that announces a payload of this size, with all of it, but without the CRC at its end."""
    payload = b"x" * (mebibytes * _MIB)
    return _prelude(len(headers), len(payload)) + headers + payload

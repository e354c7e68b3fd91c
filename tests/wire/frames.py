"""Frames of the AWS event stream encoding, written for these tests, and a ConverseStream made of them."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec

Headers = dict[str, str]


def string_header(name: str, value: str) -> bytes:
    return struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value.encode())) + value.encode()


def raw_frame(headers: bytes, payload: bytes) -> bytes:
    """Return a frame whose headers are encoded already."""
    lengths = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def frame(headers: Headers, payload: object = b"") -> bytes:
    """Return one frame; a payload that is bytes is sent as it is, any other as JSON."""
    body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    return raw_frame(b"".join(string_header(*header) for header in headers.items()), body)


def event(kind: str, payload: object) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, payload)


def exception(kind: str, payload: object) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, payload)


def delta(index: int = 0, **said: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": said, "p": "abcdefghijklmno"})


def stop(reason: object = "max_tokens") -> bytes:
    return event("messageStop", {"stopReason": reason, "p": "abcdef"})


def metadata(**more: Any) -> bytes:
    usage = {"inputTokens": 10, "outputTokens": 64, "totalTokens": 86}
    cached = {"cacheReadInputTokens": 7, "cacheWriteInputTokens": 5}
    return event("metadata", {"usage": usage | cached, "metrics": {"latencyMs": 1250}, "p": "abc"} | more)


START = event("messageStart", {"role": "assistant", "p": "abcd"})
BLOCK_STOP = event("contentBlockStop", {"contentBlockIndex": 0})

CONVERSE = (
    START,
    delta(reasoningContent={"text": "Hm."}),
    delta(reasoningContent={"signature": "EqQBCg=="}),
    BLOCK_STOP,
    delta(1, text="Rivers"),
    delta(1, text=" move é漢😀\u2028."),
    BLOCK_STOP,
    stop(),
    metadata(),
)

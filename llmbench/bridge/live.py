"""Live events as server-sent events."""

from __future__ import annotations

import msgspec

from llmbench.messages import LiveEvent

HEARTBEAT = b":\n\n"


def encode(event: LiveEvent) -> bytes:
    """Return one event; JSON has no line end in it, so nothing in the event can break the framing."""
    tag = str(event.__struct_config__.tag)
    return b"event: " + tag.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def dropped(count: int) -> bytes:
    """Return the event that says how many were lost."""
    return b"event: dropped\ndata: " + msgspec.json.encode({"count": count}) + b"\n\n"

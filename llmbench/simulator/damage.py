"""Breaking events on purpose, in either of the two framings: the text of server-sent events, and AWS's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmbench.simulator import eventstream
from llmbench.simulator.apis.gemini import GeminiStream
from llmbench.simulator.behaviour import Behaviour

if TYPE_CHECKING:
    from llmbench.simulator.apis.base import EventStream

_MIB = 1024 * 1024
_FLOOD_HEADERS = eventstream.encode_headers({":event-type": "flood", ":message-type": "event"})


def is_framed(stream: EventStream) -> bool:
    """Whether the events are frames."""
    return stream.content_type == eventstream.CONTENT_TYPE


def unfit(stream: EventStream, behaviour: Behaviour) -> str | None:
    """Return what makes no sense in this framing, None if all of it does."""
    if is_framed(stream) and behaviour.crlf:
        return "the model name has the word 'crlf', but the frames of this API have no line ends; leave it out"
    if not is_framed(stream) and behaviour.fails_with("badcrc"):
        return "the model name has the word 'badcrc', but the events of this API have no checksum; leave it out"
    if behaviour.fails_with("blocked") and not isinstance(stream, GeminiStream):
        return "the model name has the word 'blocked', but this API has no such event; leave it out"
    return None


def cut_json(stream: EventStream, event: bytes) -> bytes:
    """Return an event, itself whole, whose JSON lacks its end."""
    if is_framed(stream):
        return eventstream.cut_payload(event)
    return event[: len(event) * 3 // 4].rstrip(b"\n") + b"\n\n"


def flood(stream: EventStream, mebibytes: int) -> bytes:
    """Return an event of this size that never ends."""
    if is_framed(stream):
        return eventstream.endless(_FLOOD_HEADERS, mebibytes)
    return b"data: " + b"x" * (mebibytes * _MIB)

"""Live events as server-sent events, and back.

A frame is ``event: <tag>``, ``data: <one line of JSON>`` and a blank line (WHATWG HTML, section "Server-sent events").
JSON has its line breaks inside of strings escaped, so no text can end a line of a frame. What was lost because the
reader is slow is told by a frame ``dropped``; a comment keeps a quiet connection open.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, get_args

import msgspec

from llmbench.messages import (
    Commanded,
    EngineFigures,
    Failure,
    LaneFigures,
    LaneState,
    LiveEvent,
    Outcome,
    RunFinished,
    RunProgress,
    RunStarted,
    Sample,
    StoreState,
)

T = TypeVar("T")

HEARTBEAT: Final = b": alive\n\n"
"""A comment, which readers pass over."""

LONGEST_FRAME: Final = 16 * 1024 * 1024
"""Bytes of one frame, its end included."""

_END: Final = b"\n\n"
_DROPPED: Final = "dropped"


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """So many events were lost on the way to this reader, since the last time that it was told."""

    count: int


class BadFrame(ValueError):
    """Bytes that are no frame of ours. The message is a sentence."""


class _Finished(msgspec.Struct, tag="RunFinished", kw_only=True):
    """`RunFinished` on the wire: which of the two documents it holds, only the document itself tells."""

    provider: str
    model_id: str
    outcome: msgspec.Raw


class _Kind(msgspec.Struct):
    outcome: str


_Wire = LaneState | RunStarted | RunProgress | _Finished | StoreState | LaneFigures | EngineFigures | Commanded

_events: msgspec.json.Decoder[_Wire] = msgspec.json.Decoder(_Wire)
_samples = msgspec.json.Decoder(Sample)
_failures = msgspec.json.Decoder(Failure)
_kinds = msgspec.json.Decoder(_Kind)
_losses = msgspec.json.Decoder(Dropped)
_TAGS: Final = frozenset(str(event.__struct_config__.tag) for event in get_args(LiveEvent))


def encode(event: LiveEvent) -> bytes:
    """Return an event as one frame. A number that JSON does not have (NaN, infinity) becomes null."""
    try:
        data = msgspec.json.encode(event)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_sound(msgspec.to_builtins(event)))
    return _framed(str(event.__struct_config__.tag), data)


def dropped(count: int) -> bytes:
    """Return the frame that tells a reader how many events it has missed."""
    return _framed(_DROPPED, msgspec.json.encode(Dropped(count=count)))


def parse(frame: bytes) -> LiveEvent | Dropped | None:
    """Return what a frame says; None for a comment, and for an event that a newer llmbench has. Raises `BadFrame`."""
    name, data = _fields(frame)
    if name == _DROPPED:
        return _decoded(_losses, data)
    if name not in _TAGS:
        return None
    event: _Wire = _decoded(_events, data)
    if event.__struct_config__.tag != name:
        raise BadFrame(f"event {name!r} holds another one: {_shown(data)}")
    return _finished(event) if isinstance(event, _Finished) else event


class Frames:
    """Cuts the body of a response into frames, however it arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that ``data`` completes. Raises `BadFrame` for one that is too long."""
        searched = max(0, len(self._rest) - 1)
        self._rest += data
        frames = []
        while (end := self._rest.find(_END, searched)) >= 0:
            frames.append(bytes(self._rest[: end + len(_END)]))
            del self._rest[: end + len(_END)]
            searched = 0
        if len(self._rest) > LONGEST_FRAME:
            raise BadFrame(f"event of more than {LONGEST_FRAME} bytes")
        return frames


def _framed(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def _fields(frame: bytes) -> tuple[str | None, bytes]:
    name, data = None, b""
    for line in frame.removesuffix(_END).split(b"\n"):
        if line.startswith(b"event: "):
            name = line[7:].decode("ascii", "backslashreplace")
        elif line.startswith(b"data: "):
            data = line[6:]
        elif line and not line.startswith(b":"):
            raise BadFrame(f"line of an event is neither its name nor its data: {_shown(line)}")
    return name, data


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadFrame(f"event can't be read: {error}") from error


def _finished(wire: _Finished) -> RunFinished:
    failed = _decoded(_kinds, wire.outcome).outcome == "failed"
    outcome: Outcome = _decoded(_failures, wire.outcome) if failed else _decoded(_samples, wire.outcome)
    return RunFinished(provider=wire.provider, model_id=wire.model_id, outcome=outcome)


def _sound(value: Any) -> Any:
    """Return builtins with every lone surrogate, which UTF-8 does not have, replaced by U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_sound(key): _sound(one) for key, one in value.items()}
    return list(map(_sound, value)) if isinstance(value, list) else value


def _shown(data: bytes) -> str:
    return repr(data[:100])

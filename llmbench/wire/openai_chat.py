"""Chat Completions streams of OpenAI and of the many that speak its format.

Source: OpenAI's API reference, "Chat Completions, streaming", and the references of Groq (``x_groq``), Cerebras
(``time_info``) and DeepSeek (``prompt_cache_hit_tokens``). Each event is one chunk of JSON; ``[DONE]`` ends the stream.
Servers of open models may leave the reasoning in the text, between tags; see `llmbench.wire.thinking`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from llmbench.wire.base import EventStreamDecoder
from llmbench.wire.events import End, Event, Finish, ProviderTimings, ReasoningDelta, TextDelta, Usage
from llmbench.wire.fields import IdentityTracker, count, fault_from, fault_in, member, seconds, stated, text
from llmbench.wire.thinking import ThinkingSplitter

_TIMES: Final = ("queue_time", "prompt_time", "completion_time", "total_time")


class Choice(msgspec.Struct, gc=False):
    """What the choices of a chunk have in common. No more than one choice is ever asked for."""

    index: object = 0
    finish_reason: object = None


ChoiceT = TypeVar("ChoiceT", bound=Choice)


class Chunk(msgspec.Struct, Generic[ChoiceT], gc=False):
    """One event's data. Only ``choices`` must have the right type: the rest is never worth failing a run for."""

    choices: list[ChoiceT] | None = None
    id: object = None
    model: object = None
    system_fingerprint: object = None
    service_tier: object = None
    usage: object = None
    x_groq: object = None
    time_info: object = None
    error: object = None


class ChunkDecoder(EventStreamDecoder, Generic[ChoiceT]):
    """Everything of a chunk but the text in its choices, which is for the subclass to find."""

    _chunks: msgspec.json.Decoder[Chunk[ChoiceT]]

    def __init__(self) -> None:
        super().__init__()
        self._identity = IdentityTracker()
        self._last_said: tuple[object, ...] = (None, None, None, None)

    @abstractmethod
    def _text(self, choice: ChoiceT, events: list[Event]) -> None:
        """Add the text in a choice: visible text as one `TextDelta`, since each of them counts as a chunk."""

    def _release(self, events: list[Event]) -> None:
        """Add the text that was held back, since no more is to come."""

    def _decode(self, data: bytes, events: list[Event]) -> None:
        if data.startswith(b"[DONE]"):
            self._release(events)
            self._close(End(), events)
            return
        chunk = self._chunks.decode(data)
        said = (chunk.id, chunk.model, chunk.system_fingerprint, chunk.service_tier)
        if said != self._last_said:
            self._identify(said, events)
        for choice in chunk.choices or ():
            self._text(choice, events)
            if choice.finish_reason and not choice.index:
                self._release(events)
                _add(Finish, choice.finish_reason, events)
        if chunk.usage or chunk.x_groq or chunk.time_info or chunk.error:
            _accounts(chunk, data, events)
        elif chunk.choices is None:
            self.unknown_events += 1

    def _identify(self, said: tuple[object, ...], events: list[Event]) -> None:
        self._last_said = said
        identity = self._identity.update(
            response_id=said[0], served_model=said[1], system_fingerprint=said[2], service_tier=said[3]
        )
        if identity is not None:
            events.append(identity)


class _Delta(msgspec.Struct, gc=False):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning: object = None
    reasoning_content: object = None


class _ChatChoice(Choice, gc=False):
    delta: _Delta | None = None


class ChatDecoder(ChunkDecoder[_ChatChoice]):
    """Decodes a Chat Completions stream."""

    _chunks = msgspec.json.Decoder(Chunk[_ChatChoice])

    def __init__(self) -> None:
        super().__init__()
        self._thinking: ThinkingSplitter | None = ThinkingSplitter()

    def finish(self) -> list[Event]:
        """Return what was pending or held back, or what the body was if it was not an event stream."""
        cut_short = not self._closed
        events = super().finish()
        if cut_short:
            self._release(events)
        return events

    def _text(self, choice: _ChatChoice, events: list[Event]) -> None:
        delta = choice.delta
        if delta is None:
            return
        if delta.reasoning_content or delta.reasoning:
            # Where both are sent they are one text under its old and its new name.
            _add(ReasoningDelta, _plain(delta.reasoning_content) or _plain(delta.reasoning), events)
        visible = delta.content
        if isinstance(visible, list):
            # Mistral's form: parts of text, and of thinking that is itself made of parts. It needs no splitting.
            self._release(events)
            self._thinking = None
            _add(ReasoningDelta, "".join(_plain(member(part, "thinking")) for part in visible), events)
            visible = _plain(visible)
        if delta.refusal:
            visible = (visible or "") + delta.refusal
        if not visible:
            return
        if self._thinking is None:
            events.append(TextDelta(visible))
        else:
            self._split(self._thinking, visible, events)

    def _split(self, thinking: ThinkingSplitter, visible: str, events: list[Event]) -> None:
        _add_both(thinking.split(visible), events)
        if thinking.decided:
            self._thinking = None

    def _release(self, events: list[Event]) -> None:
        if self._thinking is not None:
            _add_both(self._thinking.release(), events)


def _add_both(texts: tuple[str, str], events: list[Event]) -> None:
    reasoning, visible = texts
    if reasoning:
        events.append(ReasoningDelta(reasoning))
    if visible:
        events.append(TextDelta(visible))


def _add(kind: type[ReasoningDelta | Finish], value: object, events: list[Event]) -> None:
    if isinstance(value, str) and value:
        events.append(kind(value))


def _plain(value: object) -> str:
    """Return the text of a string, of an object's ``text`` or ``content``, or of a list of such parts."""
    parts = value if isinstance(value, list) else [value]
    return "".join(text(part) or text(member(part, "text")) or text(member(part, "content")) or "" for part in parts)


def _accounts(chunk: Chunk[Any], data: bytes, events: list[Event]) -> None:
    groq_usage = member(chunk.x_groq, "usage")
    # Groq sends both; `usage` is the documented one, so it comes last and holds.
    for counts, source in ((groq_usage, "x_groq.usage"), (chunk.usage, "usage")):
        if isinstance(counts, dict) and (usage := _usage(counts, source)):
            events.append(usage)
    times = _times((chunk.usage, groq_usage, chunk.time_info))
    if times:
        events.append(ProviderTimings(times))
    if chunk.error:
        events.append(fault_in(data))
    elif groq_error := member(chunk.x_groq, "error"):
        events.append(fault_from(groq_error, data))


def _usage(counts: dict[str, object], source: str) -> Usage | None:
    cached = _detail(counts, "prompt_tokens_details", "cached_tokens")
    usage = Usage(
        input_tokens=count(counts.get("prompt_tokens")),
        output_tokens=count(counts.get("completion_tokens")),
        reasoning_tokens=_detail(counts, "completion_tokens_details", "reasoning_tokens"),
        cached_input_tokens=count(counts.get("prompt_cache_hit_tokens")) if cached is None else cached,
        total_tokens=count(counts.get("total_tokens")),
        source=source,
    )
    return stated(usage)


def _detail(counts: dict[str, object], group: str, name: str) -> int | None:
    """Return a count from where OpenAI puts it, or from the top level, where some others do."""
    detail = count(member(counts.get(group), name))
    return count(counts.get(name)) if detail is None else detail


def _times(holders: Sequence[object]) -> Mapping[str, float]:
    times: dict[str, float] = {}
    for holder in holders:
        if isinstance(holder, dict):
            found = {name: seconds(holder[name]) for name in _TIMES if name in holder}
            times |= {name: value for name, value in found.items() if value is not None}
    return times

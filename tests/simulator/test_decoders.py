"""What the simulator writes is what llmbench's own decoders read: two independent readings of the same references."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.simulator import SpawnedSimulator
from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.events import Decoder, End, Event, Finish, Malformed, ReasoningDelta, StreamFault, TextDelta, Usage
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.openai_completions import CompletionsDecoder
from llmbench.wire.openai_responses import ResponsesDecoder
from tests.simulator.support import ask

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 20}
FORMATS: dict[str, tuple[type[Decoder], str, dict[str, Any]]] = {
    "openai chat": (ChatDecoder, "/openai/v1/chat/completions", CHAT),
    "groq chat": (ChatDecoder, "/groq/v1/chat/completions", CHAT),
    "cerebras chat": (ChatDecoder, "/cerebras/v1/chat/completions", CHAT),
    "deepinfra chat": (ChatDecoder, "/deepinfra/v1/chat/completions", CHAT),
    "openrouter chat": (ChatDecoder, "/openrouter/v1/chat/completions", CHAT),
    "completions": (CompletionsDecoder, "/any-other/v1/completions", {"prompt": "hi", "max_tokens": 20}),
    "responses": (ResponsesDecoder, "/openai/v1/responses", {"input": "hi", "max_output_tokens": 20}),
    "messages": (MessagesDecoder, "/anthropic/v1/messages", {"messages": CHAT["messages"], "max_tokens": 20}),
}
HIDES_REASONING = {"openai chat", "completions"}


def _events(simulator: SpawnedSimulator, name: str, words: str) -> list[Event]:
    kind, path, body = FORMATS[name]
    asked = {"stream_options": {"include_usage": True}} if "chat" in name or name == "completions" else {}
    request = {"model": f"sim-{words}-ttft2-gap0", "stream": True, **body, **asked}
    response = ask(simulator, path, request, {"anthropic-version": "2023-06-01"})
    assert response.status == 200, response.body
    decoder = kind()
    events = [*decoder.feed(response.body), *decoder.finish()]
    assert decoder.unknown_events == 0
    return events


def _count(events: list[Event], kind: type) -> int:
    return sum(isinstance(event, kind) for event in events)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("words", ["tok7", "tok7-crlf", "tok7-unicode", "tok7-comments", "tok7-burst3", "rtok3-tok7"])
def test_a_stream_is_understood_to_its_end(simulator: SpawnedSimulator, name: str, words: str) -> None:
    """Seven tokens, reasoning where the format shows it, a finish, usage, the terminator, and nothing malformed."""
    events = _events(simulator, name, words)
    reasoning = 3 if "rtok" in words else 0
    assert _count(events, TextDelta) == 7
    assert _count(events, ReasoningDelta) == (0 if name in HIDES_REASONING else reasoning)
    assert _count(events, Finish) == 1
    assert [event.output_tokens for event in events if isinstance(event, Usage)][-1] == 7 + reasoning
    assert isinstance(events[-1], End)
    assert _count(events, Malformed) == _count(events, StreamFault) == 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("words", "texts"), [("errorobj", 0), ("errormid3", 3), ("errorstr", 0)])
def test_an_error_in_the_stream_is_understood(simulator: SpawnedSimulator, name: str, words: str, texts: int) -> None:
    """Whatever its form, it is a fault with a message, and no terminator follows."""
    events = _events(simulator, name, words)
    (fault,) = (event for event in events if isinstance(event, StreamFault))
    assert fault.message
    assert _count(events, TextDelta) == texts


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_event_is_understood_as_broken(simulator: SpawnedSimulator, name: str) -> None:
    """Two tokens come before the malformed third."""
    events = _events(simulator, name, "badjson3-tok7")
    assert _count(events, TextDelta) == 2
    assert isinstance(events[-1], Malformed)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_terminator_is_missed(simulator: SpawnedSimulator, name: str) -> None:
    """All the tokens and no end."""
    events = _events(simulator, name, "noend-tok7")
    assert _count(events, TextDelta) == 7
    assert _count(events, End) == 0


def test_thoughts_in_the_content_are_understood(simulator: SpawnedSimulator) -> None:
    """What stands between the tags is reasoning, what comes behind them is the answer's text."""
    events = _events(simulator, "openai chat", "think-rtok3-tok4")
    reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert reasoning.strip() == "the river turns"
    assert [event.text for event in events if isinstance(event, TextDelta)] == [" the", " river", " turns", " south"]
    assert isinstance(events[-1], End)

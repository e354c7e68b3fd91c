"""Messages streams of Anthropic."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.events import End, Event, Finish, Identity, ReasoningDelta, StreamFault, TextDelta, Usage
from tests.wire.streams import (
    BLOCK_STOP,
    MESSAGE_START,
    MESSAGE_STOP,
    MESSAGES,
    PING,
    block_delta,
    block_start,
    message_delta,
)
from tests.wire.support import data, events_of, of_type, typed


def decoded(body: bytes) -> list[Event]:
    return events_of(MessagesDecoder(), [body])


def said(*payloads: dict[str, Any]) -> list[Event]:
    return decoded(typed(*payloads))


def test_a_message_gives_its_text_and_its_account() -> None:
    """Input counts are summed, the early output count comes first, the cumulative ones at the end."""
    decoder = MessagesDecoder()

    assert events_of(decoder, [MESSAGES]) == [
        Identity(response_id="msg_01XFD", served_model="claude-sonnet-4-5-20250929", service_tier="standard"),
        Usage(input_tokens=22, output_tokens=1, cached_input_tokens=7, source="message_start.usage"),
        ReasoningDelta("Let me see."),
        TextDelta("Rivers"),
        TextDelta(" move."),
        Finish("max_tokens"),
        Usage(output_tokens=64, reasoning_tokens=40, source="message_delta.usage"),
        End(),
    ]
    assert decoder.unknown_events == 0


@pytest.mark.parametrize(
    ("usage", "total", "cached"),
    [
        ({"output_tokens": 2}, None, None),
        ({"input_tokens": 11, "output_tokens": 2}, 23, None),
        ({"cache_read_input_tokens": 0, "output_tokens": 2}, 15, 0),
        ({"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}, 10, 0),
        ({"input_tokens": -1, "output_tokens": 2}, None, None),
    ],
)
def test_input_counts_that_are_repeated_replace_what_they_name(
    usage: dict[str, Any], total: int | None, cached: int | None
) -> None:
    """The final report may repeat some of the input counts; the sum is made of the latest of each."""
    report = of_type(Usage, said(MESSAGE_START, message_delta(usage)))[-1]

    assert report.source == "message_delta.usage"
    assert (report.input_tokens, report.cached_input_tokens) == (total, cached)


def test_cached_tokens_alone_are_no_input() -> None:
    """Without the uncached part the sum is not known."""
    assert said(message_delta({"cache_read_input_tokens": 5}, None)) == [
        Usage(cached_input_tokens=5, source="message_delta.usage")
    ]


@pytest.mark.parametrize("usage", [None, {}, [], {"input_tokens": None}])
def test_usage_that_says_nothing_is_no_event(usage: Any) -> None:
    """A report without a count is passed over."""
    assert said(message_delta(usage, "end_turn")) == [Finish("end_turn")]


@pytest.mark.parametrize("reason", [None, "", 5])
def test_a_stop_reason_that_is_no_word_is_none(reason: Any) -> None:
    """Only a word ends the text."""
    assert said(message_delta({"output_tokens": 3}, reason)) == [Usage(output_tokens=3, source="message_delta.usage")]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "text", "text": ""}, []),
        ({"type": "text", "text": "Riv"}, [TextDelta("Riv")]),
        ({"type": "thinking", "thinking": "Hm.", "signature": ""}, [ReasoningDelta("Hm.")]),
        ({"type": "redacted_thinking", "data": "EmwKAhgB"}, []),
        ({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, []),
        ({"type": "text", "text": None}, []),
    ],
)
def test_text_given_at_the_start_of_a_block_counts(block: dict[str, Any], expected: list[Event]) -> None:
    """A block that begins with text shows it like a delta does."""
    assert said(block_start(**block), BLOCK_STOP) == expected


@pytest.mark.parametrize(
    "delta",
    [
        {"type": "signature_delta", "signature": "EqQB"},
        {"type": "input_json_delta", "partial_json": "{"},
        {"type": "citations_delta", "citation": {"type": "char_location"}},
        {"type": "text_delta", "text": ""},
        {"type": "thinking_delta", "thinking": ""},
    ],
)
def test_a_delta_that_shows_no_text_is_silent(delta: dict[str, Any]) -> None:
    """Signatures, tool input, citations and empty text are known, and are no tokens."""
    decoder = MessagesDecoder()

    assert events_of(decoder, [typed(block_delta(**delta), PING)]) == []
    assert decoder.unknown_events == 0


def test_unknown_types_are_counted() -> None:
    """Unknown events and unknown deltas give nothing and are counted."""
    decoder = MessagesDecoder()
    body = typed(
        block_delta(type="renamed_delta", text="a"),
        {"type": "content_block_delta"},
        {"type": "message_pause"},
    )

    assert events_of(decoder, [body + data({})]) == []
    assert decoder.unknown_events == 4


def test_events_may_be_bare() -> None:
    """An event without its object says nothing, and is no error."""
    decoder = MessagesDecoder()
    body = typed({"type": "message_start"}, {"type": "content_block_start"}, {"type": "message_delta"}, MESSAGE_STOP)

    assert events_of(decoder, [body]) == [End()]
    assert decoder.unknown_events == 0


@pytest.mark.parametrize("name", ["error", None])
def test_an_error_event_is_a_fault(name: str | None) -> None:
    """An overloaded API says so in the middle of a stream; the text before it is kept."""
    payload = {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": "req_011",
    }
    body = typed(block_delta(type="text_delta", text="Rivers")) + data(payload, name)

    assert decoded(body) == [TextDelta("Rivers"), StreamFault(message="Overloaded", type="overloaded_error")]


def test_an_error_without_its_object_or_its_type_is_a_fault() -> None:
    """A bare error event is one, and so is a gateway's error although it is no event of this API."""
    assert decoded(data({"type": "error"})) == [StreamFault(message='{"type":"error"}')]
    assert decoded(data({"error": "bad gateway"})) == [StreamFault(message="bad gateway")]


def test_the_terminator_alone_is_the_end() -> None:
    """What follows `message_stop` is ignored, and `[DONE]` does not stand in for it."""
    assert said(MESSAGE_STOP, MESSAGE_START) == [End()]
    assert decoded(b"data: [DONE]\n\n") == []

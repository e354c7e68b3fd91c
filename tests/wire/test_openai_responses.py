"""Responses streams."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.wire.events import (
    End,
    Event,
    Finish,
    Identity,
    Malformed,
    ReasoningDelta,
    StreamFault,
    TextDelta,
    Usage,
)
from llmbench.wire.openai_responses import ResponsesDecoder
from tests.wire.streams import RESPONSES, RESPONSES_FAILED, RESPONSES_INCOMPLETE, response, responses
from tests.wire.support import data, events_of

USAGE = Usage(
    input_tokens=24,
    output_tokens=150,
    reasoning_tokens=128,
    cached_input_tokens=8,
    total_tokens=174,
    source="response.usage",
)
CREATED = Identity(response_id="resp_68f0", served_model="gpt-5-mini-2025-08-07", service_tier="auto")


def decoded(body: bytes) -> list[Event]:
    return events_of(ResponsesDecoder(), [body])


def said(*payloads: dict[str, Any]) -> list[Event]:
    return decoded(responses(*payloads))


def test_a_response_gives_its_text_and_its_account() -> None:
    """Reasoning summary, text, then the provider's own word for its end; the tier that served it is told anew."""
    decoder = ResponsesDecoder()

    assert events_of(decoder, [RESPONSES]) == [
        CREATED,
        ReasoningDelta("**Thinking**"),
        TextDelta("Rivers"),
        TextDelta(" move."),
        Identity(response_id="resp_68f0", served_model="gpt-5-mini-2025-08-07", service_tier="default"),
        Finish("completed"),
        USAGE,
        End(),
    ]
    assert decoder.unknown_events == 0


def test_an_incomplete_response_says_why() -> None:
    """A budget spent on reasoning ends properly, with its reason and counts and no text."""
    assert decoded(RESPONSES_INCOMPLETE) == [
        CREATED,
        ReasoningDelta("**Thinking**"),
        Finish("max_output_tokens"),
        USAGE,
        End(),
    ]


def test_a_failed_response_is_a_fault_after_its_counts() -> None:
    """A failure keeps the text and the usage before it, and is no end."""
    assert decoded(RESPONSES_FAILED) == [
        CREATED,
        ReasoningDelta("**Thinking**"),
        TextDelta("Rivers"),
        TextDelta(" move."),
        USAGE,
        StreamFault(message="The model failed to generate a response.", code="server_error"),
    ]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"type": "response.completed"}, [Finish("completed"), End()]),
        ({"type": "response.incomplete", "response": {}}, [Finish("incomplete"), End()]),
        (
            {"type": "response.incomplete", "response": {"incomplete_details": {"reason": 5}, "usage": {}}},
            [Finish("incomplete"), End()],
        ),
        (
            {"type": "response.failed", "response": {"error": None}},
            [StreamFault(message='{"sequence_number":0,"type":"response.failed","response":{"error":null}}')],
        ),
    ],
)
def test_a_terminal_event_may_be_bare(payload: dict[str, Any], expected: list[Event]) -> None:
    """Without reason, counts or error a terminal event still is what its type says."""
    assert said(payload) == expected


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("response.output_text.delta", TextDelta("a")),
        ("response.refusal.delta", TextDelta("a")),
        ("response.reasoning_text.delta", ReasoningDelta("a")),
        ("response.reasoning_summary_text.delta", ReasoningDelta("a")),
    ],
)
def test_a_delta_is_text_or_reasoning_by_its_type(kind: str, event: Event) -> None:
    """Text and refusals are visible, both kinds of reasoning are not; an empty delta is nothing."""
    assert said({"type": kind, "delta": "a"}, {"type": kind, "delta": ""}) == [event]


@pytest.mark.parametrize("delta", [None, 5, {"text": "a"}])
def test_a_text_delta_that_is_no_string_is_malformed(delta: object) -> None:
    """Text of the wrong type is never passed over silently."""
    (event,) = said({"type": "response.output_text.delta", "delta": delta})

    assert isinstance(event, Malformed)
    assert event.reason == "invalid event: Expected `str` - at `$.delta` of `response.output_text.delta`"
    assert '"type":"response.output_text.delta"' in event.excerpt


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (
            {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "param": None},
            StreamFault(message="Slow down", code="rate_limit_exceeded"),
        ),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "code": None, "message": "No"}},
            StreamFault(message="No", type="invalid_request_error"),
        ),
        ({"type": "error"}, StreamFault(message='{"type":"error"}')),
    ],
)
def test_an_error_event_is_a_fault(payload: dict[str, Any], fault: StreamFault) -> None:
    """The fields of an error stand in the event itself or in an object inside it; the event's name is optional."""
    assert decoded(data(payload, "error")) == [fault]
    assert decoded(data(payload)) == [fault]


def test_an_error_object_without_a_type_is_a_fault() -> None:
    """A gateway's error is recognised although it is no event of this API."""
    assert decoded(data({"error": {"message": "bad gateway", "code": 502}})) == [
        StreamFault(message="bad gateway", code="502")
    ]


@pytest.mark.parametrize(
    "kind",
    ["response.new_text.delta", "response.function_call_arguments.delta", "response.renamed", "done", ""],
)
def test_an_unknown_type_is_counted(kind: str) -> None:
    """A type that is not known gives no event but is counted, even with a response in it."""
    decoder = ResponsesDecoder()

    assert events_of(decoder, [data({"type": kind, "delta": "a", "response": None}), data({"type": kind})]) == []
    assert decoder.unknown_events == 2


@pytest.mark.parametrize(
    "kind",
    [
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "response.output_text.annotation.added",
        "response.function_call_arguments.done",
    ],
)
def test_bookkeeping_is_known_and_silent(kind: str) -> None:
    """Events about the parts of a response say nothing that is measured."""
    decoder = ResponsesDecoder()

    assert events_of(decoder, [data({"type": kind})]) == []
    assert decoder.unknown_events == 0


def test_an_unknown_type_with_a_response_still_identifies_it() -> None:
    """What the response says of itself is heard in any event that carries it."""
    decoder = ResponsesDecoder()

    assert events_of(decoder, [data({"type": "response.paused", "response": response()})]) == [CREATED]
    assert decoder.unknown_events == 1


def test_done_is_tolerated_and_is_no_end() -> None:
    """`[DONE]` is not this API's terminator: without a terminal event the stream was cut short."""
    decoder = ResponsesDecoder()

    assert events_of(decoder, [b"data: [DONE]\n\n"]) == []
    assert decoder.unknown_events == 0
    assert decoded(RESPONSES + b"data: [DONE]\n\n")[-1] == End()

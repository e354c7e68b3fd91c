"""Streams of generated content, Google's format."""

from __future__ import annotations

from typing import Any

import msgspec
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
from llmbench.wire.gemini import GeminiDecoder
from tests.wire.streams import GEMINI, generated
from tests.wire.support import data, events_of, of_type

BARE: dict[str, Any] = {"usageMetadata": {}, "modelVersion": None, "responseId": None}


def decoded(*bodies: bytes) -> list[Event]:
    return events_of(GeminiDecoder(), bodies)


def said(*chunks: dict[str, Any]) -> list[Event]:
    """Return the events of chunks."""
    return decoded(*map(data, chunks))


def bare(*parts: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """Return a chunk that says nothing of its own identity, nor of tokens."""
    return generated(*parts, finish=finish, **BARE)


def test_a_stream_gives_its_text_and_its_account() -> None:
    """A text event for each chunk, thoughts apart, thoughts counted into the output, and an end with the body's."""
    decoder = GeminiDecoder()
    said = Identity(response_id="gHsSadu1", served_model="gemini-2.5-flash")

    assert events_of(decoder, [GEMINI]) == [
        said,
        msgspec.structs.replace(said, service_tier="ON_DEMAND"),
        ReasoningDelta("**Rivers**\nHm."),
        TextDelta("Rivers"),
        TextDelta(" move."),
        Usage(
            input_tokens=21,
            output_tokens=64,
            reasoning_tokens=40,
            cached_input_tokens=8,
            total_tokens=85,
            source="usageMetadata",
        ),
        Finish("MAX_TOKENS"),
        TextDelta(" On."),
        End(),
    ]
    assert decoder.unknown_events == 0


def test_a_chunk_with_thought_and_text_gives_both() -> None:
    """Parts of one kind are one event, since each event counts as a chunk."""
    parts: list[dict[str, Any]] = [
        {"text": "a"},
        {"text": "Hm", "thought": True},
        {"text": "b", "thought": False},
        {"text": ""},
    ]

    assert said(bare(*parts)) == [ReasoningDelta("Hm"), TextDelta("ab")]


@pytest.mark.parametrize(
    ("counts", "output", "reasoning"),
    [
        ({"candidatesTokenCount": 24, "thoughtsTokenCount": 40}, 64, 40),
        ({"candidatesTokenCount": 24}, 24, None),
        ({"thoughtsTokenCount": 40}, 40, 40),
        ({"promptTokenCount": 5}, None, None),
        ({"promptTokenCount": 5, "candidatesTokenCount": -1, "thoughtsTokenCount": 2**60}, None, None),
    ],
)
def test_the_output_is_candidates_and_thoughts(
    counts: dict[str, int], output: int | None, reasoning: int | None
) -> None:
    """What is not said, or makes no sense, is not taken for 0 unless the other is there."""
    (usage,) = of_type(Usage, said(bare() | {"usageMetadata": counts}))

    assert (usage.output_tokens, usage.reasoning_tokens) == (output, reasoning)


def test_usage_is_told_when_it_changes() -> None:
    """Most streams repeat it with every chunk; it comes before the text of its chunk."""
    counts = [{"candidatesTokenCount": 1}, {"candidatesTokenCount": 1}, {"candidatesTokenCount": 2}]

    assert said(*(bare({"text": "a"}) | {"usageMetadata": count} for count in counts)) == [
        Usage(output_tokens=1, source="usageMetadata"),
        TextDelta("a"),
        TextDelta("a"),
        Usage(output_tokens=2, source="usageMetadata"),
        TextDelta("a"),
    ]


@pytest.mark.parametrize("usage", [b"5", b"null", b"[]", b"{}", b'"a"', b'{"trafficType":"\xff"}'])
def test_usage_that_says_nothing_is_no_event(usage: bytes) -> None:
    """Counts of another form are passed over, and fail no run."""
    assert decoded(b'data: {"usageMetadata":%b,"candidates":[]}\n\n' % usage) == []


@pytest.mark.parametrize(
    "candidate",
    [
        {},
        {"content": None},
        {"content": {}},
        {"content": {"role": "model"}},
        {"content": {"parts": None}},
        {"content": {"parts": [{}, {"text": None}, {"functionCall": {"name": "f"}}, {"text": "", "thought": True}]}},
        {"finishReason": None},
        {"finishReason": 5},
        {"finishReason": "STOP", "index": 1},
    ],
)
def test_a_candidate_without_text_is_silent(candidate: dict[str, Any]) -> None:
    """Tool calls, signatures, missing members and the ends of other candidates give nothing."""
    decoder = GeminiDecoder()

    assert events_of(decoder, [data({"candidates": [candidate]})]) == []
    assert decoder.unknown_events == 0


def test_unknown_events_are_counted() -> None:
    """A chunk that has nothing of what is known is one; a gateway's `[DONE]`, counts, or no candidates are not."""
    decoder = GeminiDecoder()
    body = [
        data({"metadata": 1}),
        data({}),
        data(b"[DONE]"),
        data({"candidates": []}),
        data({"promptFeedback": {"safetyRatings": []}}),
        data({"usageMetadata": {"trafficType": "X"}}),
    ]

    assert events_of(decoder, body) == [Identity(service_tier="X")]
    assert decoder.unknown_events == 2


def test_without_a_finish_reason_there_is_no_end() -> None:
    """The stream was cut short, however well-formed what came of it is."""
    assert said(bare({"text": "a"})) == [TextDelta("a")]


def test_the_end_comes_with_the_end_of_the_body() -> None:
    """Chunks behind the finish reason count; a last event that lacks its blank line does; there is one end."""
    decoder = GeminiDecoder()
    chunks = data(bare(finish="STOP")) + data(bare() | {"usageMetadata": {"promptTokenCount": 3}}).rstrip()

    assert decoder.feed(chunks) == [Finish("STOP")]
    assert decoder.finish() == [Usage(input_tokens=3, source="usageMetadata"), End()]
    assert decoder.finish() == []
    assert decoder.feed(chunks) == []


def test_after_malformed_data_there_is_no_end() -> None:
    """A finish reason does not mend what was broken after it."""
    finish, broken = said(bare(finish="STOP")), decoded(data(bare(finish="STOP")), data(b"{"))

    assert finish == [Finish("STOP"), End()]
    assert broken[:1] == [Finish("STOP")]
    assert [type(event) for event in broken[1:]] == [Malformed]


@pytest.mark.parametrize(
    "error",
    [
        data({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}),
        data([{"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}], "error"),
        b'{\n  "error": {\n    "code": 503,\n    "message": "Overloaded",\n    "status": "UNAVAILABLE"\n  }\n}\n',
    ],
)
def test_an_error_in_the_stream_is_a_fault(error: bytes) -> None:
    """As an event, or on bare lines, which is how a stream that was already under way fails."""
    fault = StreamFault(message="Overloaded", code="503", type="UNAVAILABLE")

    assert decoded(data(bare({"text": "a"})), error) == [TextDelta("a"), fault]


def test_after_an_error_there_is_no_end() -> None:
    """A fault behind the finish reason is still one."""
    fault = {"error": {"code": 500, "message": "Internal"}}

    assert said(bare(finish="STOP"), fault) == [Finish("STOP"), StreamFault(message="Internal", code="500")]
    assert decoded(data(bare(finish="STOP")), data(fault).rstrip())[1:] == [StreamFault(message="Internal", code="500")]


@pytest.mark.parametrize(
    ("feedback", "message"),
    [
        ({"blockReason": "SAFETY"}, "the prompt was blocked: SAFETY"),
        ({"blockReason": "SAFETY", "blockReasonMessage": "Not allowed."}, "Not allowed."),
    ],
)
def test_a_blocked_prompt_is_a_fault(feedback: dict[str, Any], message: str) -> None:
    """There is no candidate then, and no error object either."""
    assert said({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}}) == [
        Usage(input_tokens=3, source="usageMetadata"),
        StreamFault(message=message, code="SAFETY", type="prompt_blocked"),
    ]


def test_feedback_on_a_prompt_that_was_answered_is_no_fault() -> None:
    """It may come with the first candidate."""
    assert said(bare({"text": "a"}) | {"promptFeedback": {"blockReason": "OTHER"}}) == [TextDelta("a")]


def test_a_json_array_is_no_event_stream() -> None:
    """That is what the API sends without `alt=sse`; it can't be read as it arrives."""
    body = msgspec.json.format(msgspec.json.encode([bare({"text": "a"}), bare(finish="STOP")]))
    (event,) = decoded(body)

    assert isinstance(event, Malformed)
    assert event.reason == "not an event stream"

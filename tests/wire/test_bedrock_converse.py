"""ConverseStream of Bedrock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.wire.bedrock_converse import ConverseDecoder
from llmbench.wire.events import (
    End,
    Event,
    Finish,
    HiddenReasoning,
    Identity,
    Malformed,
    ProviderTimings,
    ReasoningDelta,
    StreamFault,
    TextDelta,
    Usage,
)
from tests.wire.frames import CONVERSE, START, delta, event, exception, frame, metadata, raw_frame, stop
from tests.wire.support import events_of, of_type, visible
from tests.wire.test_chunk_boundaries import assert_same_however_cut

ACCOUNT: list[Event] = [
    Usage(input_tokens=22, output_tokens=64, cached_input_tokens=7, total_tokens=86),
    ProviderTimings({"latency": 1.25}),
]


def decoded(*pieces: bytes) -> list[Event]:
    return events_of(ConverseDecoder(), pieces)


def silent(*pieces: bytes) -> int:
    """Return the number of unknown events in a body that gives no others."""
    decoder = ConverseDecoder()
    assert events_of(decoder, pieces) == []
    return decoder.unknown_events


@pytest.mark.parametrize("pieces", [CONVERSE, [b"".join(CONVERSE)]], ids=["frame by frame", "at once"])
def test_a_stream_gives_its_text_and_its_account(pieces: Sequence[bytes]) -> None:
    """Reasoning, text, reason; then counts, cached input counted in, the latency in seconds, and the end."""
    decoder = ConverseDecoder()

    assert events_of(decoder, pieces) == [
        ReasoningDelta("Hm."),
        HiddenReasoning(),
        TextDelta("Rivers"),
        TextDelta(" move é漢😀\u2028."),
        Finish("max_tokens"),
        *ACCOUNT,
        End(),
    ]
    assert decoder.unknown_events == 0


def test_the_sdk_reads_the_same_payloads() -> None:
    """The frames of these tests are good frames."""
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(CONVERSE))
    payloads = [message.payload for message in buffer]

    assert len(payloads) == len(CONVERSE)
    assert all(text.encode() in b"".join(payloads) for text in visible(decoded(*CONVERSE)).split())


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
            Usage(input_tokens=3, output_tokens=4, total_tokens=7),
        ),
        ({"inputTokens": 3, "cacheReadInputTokens": 0}, Usage(input_tokens=3, cached_input_tokens=0)),
        ({"cacheReadInputTokens": 5, "outputTokens": 1}, Usage(cached_input_tokens=5, output_tokens=1)),
        ({"inputTokens": -1, "outputTokens": 2**60, "totalTokens": 9.0}, Usage(total_tokens=9)),
        ({"outputTokens": "4"}, None),
        ({}, None),
        (5, None),
    ],
)
def test_counts_are_taken_if_they_make_sense(usage: object, expected: Usage | None) -> None:
    """Without the uncached part the input is not known; a report without a count is none."""
    assert of_type(Usage, decoded(stop(), metadata(usage=usage))) == ([] if expected is None else [expected])


@pytest.mark.parametrize("metrics", [None, {}, {"latencyMs": -1}, {"latencyMs": "9"}, {"latencyMs": 1e300}, 5])
def test_a_latency_that_makes_no_sense_is_none(metrics: object) -> None:
    """As any time that a provider reports."""
    assert of_type(ProviderTimings, decoded(stop(), metadata(metrics=metrics))) == []


def test_the_service_tier_is_told() -> None:
    """Guardrail traces and the like are passed over."""
    events = decoded(stop(), metadata(serviceTier={"type": "priority"}, trace={"guardrail": {"a": []}}))

    assert events == [Finish("max_tokens"), Identity(service_tier="priority"), *ACCOUNT, End()]


def test_metadata_may_come_first_or_twice() -> None:
    """The end is where both stop and metadata have been; what follows it is ignored."""
    assert decoded(metadata(), metadata(), stop(), metadata()) == [*ACCOUNT, *ACCOUNT, Finish("max_tokens"), End()]
    assert decoded(stop(), stop("end_turn")) == [Finish("max_tokens"), Finish("end_turn")]
    assert decoded(stop() + metadata() + b"<") == [Finish("max_tokens"), *ACCOUNT, End()]


@pytest.mark.parametrize("pieces", [CONVERSE[:-1], [*CONVERSE[:-1], CONVERSE[-1][:-1]]])
def test_without_metadata_there_is_no_end(pieces: Sequence[bytes]) -> None:
    """Nor with a part of it; the finish reason is known."""
    assert decoded(*pieces)[-1] == Finish("max_tokens")


@pytest.mark.parametrize("reason", [None, "", 5])
def test_a_stop_reason_that_is_no_word_is_none(reason: object) -> None:
    """The stream has ended all the same."""
    assert decoded(stop(reason), metadata()) == [*ACCOUNT, End()]


@pytest.mark.parametrize(
    "said",
    [
        {"text": ""},
        {"reasoningContent": {"text": ""}},
        {"reasoningContent": {"signature": ""}},
        {"reasoningContent": {}},
        {"toolUse": {"input": "{"}},
        {"citation": {"title": "a"}},
    ],
)
def test_a_delta_that_shows_no_text_is_silent(said: dict[str, Any]) -> None:
    """Tool input, citations and empty text are known, and are no tokens."""
    tool = event("contentBlockStart", {"start": {"toolUse": {"name": "f"}}, "contentBlockIndex": 0})

    assert silent(START, tool, delta(**said)) == 0


@pytest.mark.parametrize("said", [{"signature": "EqQB"}, {"redactedContent": "EmwK"}])
def test_reasoning_without_its_text_is_told(said: dict[str, Any]) -> None:
    """A signature or an encrypted block proves that the model reasoned."""
    assert decoded(START, delta(reasoningContent=said)) == [HiddenReasoning()]


def test_unknown_events_are_counted() -> None:
    """Unknown events, which need not hold JSON, unknown deltas, and a frame that does not say what it is."""
    unknown = [event("contentBlockPause", b"\xff"), delta(video="a"), delta(), event("contentBlockDelta", {})]

    assert silent(*unknown, raw_frame(b"", b"")) == 5


@pytest.mark.parametrize(
    "kind",
    [
        *["throttlingException", "modelStreamErrorException", "internalServerException"],
        *["serviceUnavailableException", "validationException", "modelTimeoutException"],
    ],
)
def test_an_exception_in_the_stream_is_a_fault(kind: str) -> None:
    """Its type is the code; the text before it is kept."""
    body = delta(text="Rivers") + exception(kind, {"message": "Too many", "originalStatusCode": 429})

    assert decoded(body) == [TextDelta("Rivers"), StreamFault(message="Too many", code=kind)]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (exception("throttlingException", b""), StreamFault(message="throttlingException", code="throttlingException")),
        (exception("throttlingException", b"slow"), StreamFault(message="slow", code="throttlingException")),
        (frame({":message-type": "exception"}), StreamFault(message="exception without a message")),
        (
            frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "Broken"}),
            StreamFault(message="Broken", code="InternalError"),
        ),
        (
            frame({":message-type": "error", ":error-code": "InternalError"}),
            StreamFault(message="InternalError", code="InternalError"),
        ),
        (frame({":message-type": "error"}), StreamFault(message="error without a message")),
    ],
)
def test_a_fault_always_has_a_message(body: bytes, fault: StreamFault) -> None:
    """Whatever the frame leaves out."""
    assert decoded(body) == [fault]


@pytest.mark.parametrize(
    "bad",
    [
        delta(text=5),
        *[event("contentBlockDelta", payload) for payload in (b"", b"{", b"[]", b'{"delta":{"text":"\xff"}}')],
        event("contentBlockDelta", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        event("messageStop", b"null"),
        event("metadata", b'{"usage":'),
        event("metadata", b'{"usage":1e999}'),
        raw_frame(b"\xff", b"{}"),
    ],
    ids=range(10),
)
def test_a_payload_that_is_not_valid_ends_the_decoding(bad: bytes) -> None:
    """Broken JSON, wrong types, bad UTF-8, endless nesting and broken headers are malformed; nothing follows."""
    first, last = decoded(delta(text="a") + bad + delta(text="b"), delta(text="c"))

    assert first == TextDelta("a")
    assert isinstance(last, Malformed)
    assert last.reason.startswith("invalid event: ")
    assert len(last.excerpt) <= 200


def test_a_damaged_frame_ends_the_decoding() -> None:
    """The frames before it are kept; after it nothing is read, and nothing is added at the end of the body."""
    damaged = delta(text="b")[:-1] + b"\0"
    first, last = decoded(delta(text="a") + damaged, delta(text="c"))

    assert first == TextDelta("a")
    assert isinstance(last, Malformed)
    assert last.reason == "invalid frame: wrong checksum"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"message": "No such model", "code": "x"}}', StreamFault(message="No such model", code="x")),
        (b"<html>502</html>", Malformed(reason="not an event stream", excerpt="<html>502</html>")),
        (b'{"message": "no"}', Malformed(reason="not an event stream", excerpt='{"message": "no"}')),
        (b"no", Malformed(reason="not an event stream", excerpt="no")),
    ],
)
def test_a_body_of_another_kind_is_understood_at_its_end(body: bytes, expected: Event) -> None:
    """An error object is a fault, a page or anything else is malformed."""
    decoder = ConverseDecoder()

    assert decoder.feed(body) == []
    assert decoder.finish() == [expected]
    assert decoder.finish() == []
    assert decoder.feed(START) == []


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\0\0", CONVERSE[1][:-1]])
def test_a_body_that_says_nothing_is_only_cut_short(body: bytes) -> None:
    """A truncated stream is known by its missing end."""
    assert decoded(body) == []


WHOLE = b"".join(CONVERSE)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=30, deadline=None)
@given(cuts=cuts)
def test_a_good_stream_reads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    """Pieces may end anywhere and lie in a buffer that is used again."""
    assert_same_however_cut(ConverseDecoder, WHOLE, cuts)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return frames in any order, some damaged, and other bytes."""
    junk: Iterable[bytes] = (
        b"{",
        b'{"error":"no"}',
        b"\0",
        stop()[:-1],
        event("metadata", b"5"),
        exception("x", b"{}"),
    )
    pieces = draw(st.lists(st.sampled_from([*CONVERSE, *junk]) | st.binary(max_size=4), max_size=8))
    body = b"".join(pieces)
    at = draw(st.integers(0, max(len(body) * 2, 1)))
    return body[:at] + draw(st.binary(min_size=1, max_size=2)) + body[at + 1 :]


@settings(max_examples=50, deadline=None)
@given(body=bodies(), cuts=cuts)
def test_any_bytes_read_the_same_however_they_are_cut(body: bytes, cuts: list[int]) -> None:
    """No bytes raise, what is reported does not depend on the pieces, and the malformed comes once and last."""
    assert_same_however_cut(ConverseDecoder, body, cuts)
    kinds = [type(event) for event in decoded(body)]
    assert Malformed not in kinds[:-1]


def test_a_stream_cut_short_gives_the_beginning_of_its_events() -> None:
    """A truncated body is never malformed: wherever it ends, its events are the first of the whole one's."""
    whole = decoded(WHOLE)
    for length in range(len(WHOLE)):
        events = decoded(WHOLE[:length])

        assert events == whole[: len(events)]

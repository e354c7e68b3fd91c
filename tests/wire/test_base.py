"""What every decoder of server-sent events does with malformed data, faults, caps and bodies of another kind."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from llmbench.wire.events import Decoder, End, Event, Finish, Malformed, StreamFault, TextDelta
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.sse import MAX_EVENT, MAX_STREAM
from tests.wire.streams import DONE
from tests.wire.support import DECODERS, data, events_of

every_decoder = pytest.mark.parametrize("decoder_type", DECODERS, ids=lambda kind: kind.__name__)

HELLO = data({"choices": [{"index": 0, "delta": {"content": "hello"}}]})
PAGE = b"<!DOCTYPE html>\r\n<html><head><title>502 Bad Gateway</title></head>\r\n\r\n</html>\r\n"


def decoded(*pieces: bytes) -> list[Event]:
    return events_of(ChatDecoder(), pieces)


def deep(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + closing * depth


@every_decoder
@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"{}}",
        b"nonsense",
        b"[]",
        b'"text"',
        b"12",
        b"null",
        b'{"choices":5,"type":5,"candidates":5}',
        b'{"choices":[{"delta":{"content":NaN}}],"delta":NaN}',
        b'{"id":"\xff","type":"\xff","responseId":"\xff"}',
        b'{"id":"\\ud800","type":"\\ud800","responseId":"\\ud800"}',
        b'{"error":' + b"9" * 6000 + b"}",
        b'{"error":1e999}',
        b'{"unknown":' + deep(b"[", b"]", 100_000) + b"}",
        b'{"error":' + deep(b'{"a":', b"}", 100_000) + b"}",
        deep(b"[", b"]", 100_000),
    ],
    ids=lambda payload: payload[:24].decode("latin-1"),
)
def test_data_that_is_not_valid_ends_the_decoding(decoder_type: Callable[[], Decoder], payload: bytes) -> None:
    """Broken JSON, wrong types, bad UTF-8, huge numbers and endless nesting are malformed, and nothing follows."""
    decoder = decoder_type()
    (event,) = decoder.feed(data(payload) + data({"error": "later"}))

    assert isinstance(event, Malformed)
    assert event.reason.startswith("invalid event: ")
    assert 0 < len(event.excerpt) <= 200
    assert event.excerpt.isprintable()
    assert not event.too_large
    assert decoder.feed(data({"error": "later"})) == []
    assert decoder.finish() == []


def test_malformed_data_keeps_the_events_before_it() -> None:
    """The excerpt shows the offending data, control characters escaped."""
    assert decoded(HELLO + data(b'{"a":\x1b[2J\xe2\x80\xa8\xff\xc3\xa9}') + HELLO) == [
        TextDelta("hello"),
        Malformed(
            reason="invalid event: JSON is malformed: invalid character (byte 5)",
            excerpt='{"a":\\x1b[2J\\u2028\\xffé}',
        ),
    ]


def test_a_name_that_is_deeply_nested_never_raises() -> None:
    """Values that are compared from chunk to chunk may be as deep as the JSON parser lets through."""
    body = data(b'{"choices":[],"id":' + deep(b"[", b"]", 900) + b"}")

    assert all(isinstance(event, Malformed) for event in decoded(body + body))


@every_decoder
@pytest.mark.parametrize("blank", [b"data:\n\n", b"data: \n\n", b"data:   \n\n", b"data\ndata\n\n", b": ping\n\n"])
def test_an_event_with_blank_data_says_nothing(decoder_type: Callable[[], Decoder], blank: bytes) -> None:
    """Keep-alives of any form are no events and no errors."""
    decoder = decoder_type()

    assert events_of(decoder, [blank]) == []
    assert decoder.unknown_events == 0


@every_decoder
@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (b'{"error":{"message":"Overloaded","code":"busy"}}', StreamFault(message="Overloaded", code="busy")),
        (b'{"message":"Overloaded","type":"busy_error"}', StreamFault(message="Overloaded", type="busy_error")),
        (b'{"detail":"Overloaded"}', StreamFault(message="Overloaded")),
        (b'[{"error":{"message":"Overloaded","code":503}}]', StreamFault(message="Overloaded", code="503")),
        (b'"Overloaded"', StreamFault(message="Overloaded")),
        (b"Overloaded\x1b[31m", StreamFault(message="Overloaded\\x1b[31m")),
        (b"{}", StreamFault(message="{}")),
        (b"[]", StreamFault(message="[]")),
        (b"[DONE]", StreamFault(message="[DONE]")),
        (deep(b"[", b"]", 100_000), StreamFault(message="[" * 200)),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_an_event_named_error_is_a_fault(
    decoder_type: Callable[[], Decoder], payload: bytes, fault: StreamFault
) -> None:
    """Whatever the data of an error event is, JSON or text, it is a fault."""
    assert decoder_type().feed(data(payload, "error")) == [fault]


@every_decoder
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"error":{"message":"No such model","code":"x"}}', StreamFault(message="No such model", code="x")),
        (b'{\r\n  "error": {\r\n\r\n"message": "No"}\r\n}\r\n', StreamFault(message="No")),
        (b'{"type":"error","error":{"type":"api_error","message":"No"}}', StreamFault(message="No", type="api_error")),
        (b'{"error":"No"}', StreamFault(message="No")),
        (b'[{"error":{"code":404,"message":"No"}}]', StreamFault(message="No", code="404")),
    ],
)
def test_an_error_in_the_place_of_a_stream_is_a_fault(
    decoder_type: Callable[[], Decoder], body: bytes, fault: StreamFault
) -> None:
    """A JSON body that holds an error is understood at its end, although no line of it is an event's."""
    decoder = decoder_type()

    assert decoder.feed(body) == []
    assert decoder.finish() == [fault]
    assert decoder.finish() == []
    assert decoder.feed(HELLO) == []


@every_decoder
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b""])
def test_an_error_on_lines_of_its_own_behind_events_is_a_fault(decoder_type: Callable[[], Decoder], end: bytes) -> None:
    """Google's servers do that when they fail in the middle of a stream."""
    error = b'{\n  "error": {\n    "code": 503,\n    "message": "Overloaded",\n    "status": "UNAVAILABLE"\n  }\n}'

    assert events_of(decoder_type(), [b": comment\n\n", error + end]) == [
        StreamFault(message="Overloaded", code="503", type="UNAVAILABLE")
    ]


@every_decoder
def test_other_lines_behind_events_are_passed_over(decoder_type: Callable[[], Decoder]) -> None:
    """What the format does not know is no error, and a cut-off error object is nothing."""
    assert events_of(decoder_type(), [b": comment\n\nunknown: field\n\n"]) == []
    assert events_of(decoder_type(), [b': comment\n\n{\n"error": {\n"mess']) == []


@every_decoder
@pytest.mark.parametrize(
    "body",
    [
        PAGE,
        b"Bad Gateway",
        b'{"choices":[{"message":{"content":"not a stream"}}]}',
        b'{"error":null}',
        b'{"error":{"message":"cut sho',
        b"[]",
        b"[1]",
        b"true",
        b"\x00\xff\xfe",
        deep(b"[", b"]", 100_000),
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_a_body_of_another_kind_is_not_an_event_stream(decoder_type: Callable[[], Decoder], body: bytes) -> None:
    """A page, a text, a plain answer or a part of one is malformed, and shown."""
    (event,) = events_of(decoder_type(), [body])

    assert isinstance(event, Malformed)
    assert event.reason == "not an event stream"
    assert 0 < len(event.excerpt) <= 200


def test_the_excerpt_of_a_page_is_one_line() -> None:
    """Line ends are escaped, so that the excerpt can be printed anywhere."""
    (event,) = decoded(PAGE)

    assert isinstance(event, Malformed)
    assert event.excerpt.startswith("<!DOCTYPE html>\\n<html>")


@every_decoder
@pytest.mark.parametrize("body", [b"", b"\r\n \n", b": comment\n\n", b"dat", b"event: message_stop\n", b"\xef\xbb\xbf"])
def test_a_body_that_says_nothing_is_only_cut_short(decoder_type: Callable[[], Decoder], body: bytes) -> None:
    """An empty body, comments, or the beginning of a field are a stream without an end, not a malformed one."""
    assert events_of(decoder_type(), [body]) == []


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (HELLO[:-1], [TextDelta("hello")]),
        (HELLO[:-2], [TextDelta("hello")]),
        (HELLO[:-3], []),
        (HELLO[:20], []),
        (b"data: [DONE]", [End()]),
        (b"data: [DON", []),
        (b"data: {}\ndata: x\n", []),
        (b"event: error\ndata: Overloa", [StreamFault(message="Overloa")]),
    ],
)
def test_an_event_that_the_end_cut_short_counts_if_it_is_whole(cut: bytes, expected: list[Event]) -> None:
    """A last event without its blank line counts; a fragment of one is dropped: it is truncated, not malformed."""
    assert decoded(HELLO, cut) == [TextDelta("hello"), *expected]


@every_decoder
def test_an_event_over_the_cap_is_too_large(decoder_type: Callable[[], Decoder]) -> None:
    """The events before it are kept, and everything after it is ignored."""
    decoder = decoder_type()

    assert decoder.feed(data({"error": "first"}) + b"data: " + b"x" * MAX_EVENT) == [
        StreamFault(message="first"),
        Malformed(reason="event of more than 1048576 bytes", too_large=True),
    ]
    assert decoder.feed(b"\n\n" + data({"error": "later"})) == []
    assert decoder.finish() == []


@every_decoder
def test_a_stream_over_the_cap_is_too_large(decoder_type: Callable[[], Decoder]) -> None:
    """Events that are small enough, but without end, stop at the stream's cap."""
    piece = b"data:" + b" " * 65_529 + b"\n\n"
    decoder = decoder_type()
    events = [event for _ in range(MAX_STREAM // len(piece) + 1) for event in decoder.feed(piece)]

    assert events == [Malformed(reason="stream of more than 16777216 bytes", too_large=True)]


def test_what_follows_the_end_does_not_count_into_the_cap() -> None:
    """After the terminator nothing is looked at, not even its size."""
    body = data({"choices": [{"finish_reason": "stop"}]}) + DONE

    assert decoded(body + b"x" * (MAX_EVENT + 1), b"x" * MAX_STREAM) == [Finish("stop"), End()]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\u000b", "\u001c"])
@pytest.mark.parametrize("escaped", [False, True])
def test_text_may_hold_any_separator(separator: str, escaped: bool) -> None:
    """A line separator of Unicode inside a JSON string, raw where JSON allows it, is part of the text."""
    text = f"one{separator}two"
    if escaped or separator < " ":
        body = b'{"choices":[{"delta":{"content":"one\\u%04xtwo"}}]}' % ord(separator)
    else:
        body = msgspec.json.encode({"choices": [{"delta": {"content": text}}]})

    assert decoded(data(body)) == [TextDelta(text)]

"""The parser of server-sent events, against the standard's own words."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.wire.sse import MAX_EVENT, MAX_STREAM, EventStream, ServerSentEvent


def parse(*pieces: bytes | memoryview) -> list[ServerSentEvent]:
    """Return the events that ``pieces`` complete."""
    stream = EventStream()
    return [event for piece in pieces for event in stream.feed(piece)]


def at_once(body: bytes) -> list[ServerSentEvent]:
    """The standard's algorithm, read off its text for a body that is there as a whole."""
    events: list[ServerSentEvent] = []
    data: list[bytes] = []
    name = b""
    *lines, _unterminated = re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        if not line:
            if data:
                events.append((name or None, b"\n".join(data)))
            data, name = [], b""
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return events


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\n", [(None, b"a")]),
        (b"data: a\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
        (b"data:a\n\n", [(None, b"a")]),
        (b"data:  a\n\n", [(None, b" a")]),
        (b"data: a\r\n\r\n", [(None, b"a")]),
        (b"data: a\r\r", [(None, b"a")]),
        (b"event: x\r\ndata: a\r\ndata: b\r\n\r\n", [(b"x", b"a\nb")]),
        (b"data: a\ndata\ndata: b\n\n", [(None, b"a\n\nb")]),
        (b"data\n\n", [(None, b"")]),
        (b"data:\n\n", [(None, b"")]),
        (b"event: ping\ndata: {}\n\n", [(b"ping", b"{}")]),
        (b"data: {}\nevent:ping\n\n", [(b"ping", b"{}")]),
        (b"event: a\nevent\ndata: {}\n\n", [(None, b"{}")]),
        (b"event: ping\n\ndata: {}\n\n", [(None, b"{}")]),
        (b"id: 7\nretry: 10\nunknown: x\nnonsense\n: comment\ndata: a\n\n", [(None, b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")]),
        (b"\xef\xbb\xbf\ndata: a\n\n", [(None, b"a")]),
        (b"\ndata: a\n\n", [(None, b"a")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(None, b"a")]),
        (b" data: a\n\n", []),
        (b"\n\n\n", []),
        (b"data: a\n", []),
        (b"", []),
    ],
)
def test_a_body_gives_the_events_that_the_standard_says(body: bytes, expected: list[ServerSentEvent]) -> None:
    """Names, values, comments, blank lines and a byte order mark are read as the standard says."""
    assert parse(body) == expected


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_a_line_separator_of_unicode_ends_no_line(separator: str) -> None:
    """Only LF, CR and CRLF end a line, whatever `str.splitlines` thinks."""
    text = f"one{separator}two".encode()

    assert parse(b"data: " + text + b"\n\n") == [(None, text)]


def test_a_line_end_may_be_split_between_cr_and_lf() -> None:
    """An LF that comes first in a piece belongs to the CR that ended the piece before, empty pieces or not."""
    assert parse(b"data: a\r", b"", b"\ndata: b\r", b"\n", b"\r", b"\n") == [(None, b"a\nb")]
    assert parse(b"data: a", b"\ndata: b\r\n\r\n") == [(None, b"a\nb")]


def test_a_byte_order_mark_counts_only_at_the_very_start() -> None:
    """In the first line of a later piece it makes the name of the field another one."""
    assert parse(b"\xef", b"\xbb", b"\xbfdata: a\n\n", b"\xef\xbb\xbfdata: b\n\n") == [(None, b"a")]


def test_an_event_is_there_as_soon_as_its_blank_line_ends_in_cr() -> None:
    """A CR needs no LF after it to end an event, so that nothing is stamped late."""
    assert parse(b"data: a\r\n\r") == [(None, b"a")]


def test_nothing_of_a_reused_buffer_is_kept() -> None:
    """A buffer may be overwritten as soon as it was fed."""
    stream = EventStream()
    buffer = bytearray(b"data: first\ndata: sec")
    stream.feed(memoryview(buffer))
    buffer[:] = b"x" * len(buffer)

    assert stream.feed(b"ond\n\n") == [(None, b"first\nsecond")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: [DONE]\n", (None, b"[DONE]")),
        (b"data: [DONE]", (None, b"[DONE]")),
        (b"\xef\xbb\xbfdata: [DONE]", (None, b"[DONE]")),
        (b"event: error\ndata: oh\ndata: no", (b"error", b"oh\nno")),
        (b"\n\xef\xbb\xbfdata: a", None),
        (b"data: a\ndat", (None, b"a")),
        (b"data: a\n\n", None),
        (b"event: error", None),
        (b": comment", None),
        (b"", None),
    ],
)
def test_the_end_of_the_body_gives_up_what_was_pending(body: bytes, expected: ServerSentEvent | None) -> None:
    """The event that the end of the body found unfinished is returned, its last line taken as ended."""
    stream = EventStream()
    stream.feed(body)

    assert stream.finish() == expected


@pytest.mark.parametrize("body", [b"data: a", b"data: a\n\n", b": comment\n", b"id: 1\n", b"event: x\n", b"retry\n"])
def test_one_line_of_the_format_makes_it_recognised(body: bytes) -> None:
    """A field that the standard knows, or a comment, shows that the body is an event stream."""
    stream = EventStream()
    stream.feed(body)
    stream.finish()

    assert stream.recognised
    assert stream.stray == b""


def test_the_lines_of_something_else_are_kept() -> None:
    """While no line was of the format, the lines are kept, blank ones left out."""
    stream = EventStream()
    stream.feed(b'{\r\n"error": 1\n\n}')
    stream.finish()

    assert not stream.recognised
    assert stream.stray == b'{\n"error": 1\n}\n'


def test_lines_of_something_else_are_kept_up_to_a_limit() -> None:
    """A page without end costs no more memory than the largest event."""
    stream = EventStream()
    for _ in range(20):
        stream.feed(b"x" * (MAX_EVENT // 8 - 1) + b"\n\n")

    assert len(stream.stray) == MAX_EVENT


def test_lines_of_unknown_fields_are_kept_in_an_event_stream() -> None:
    """What is not of the format may be an error behind the events; it is no event."""
    stream = EventStream()

    assert stream.feed(b"data: a\n\nunknown: field\n\n") == [(None, b"a")]
    assert stream.recognised
    assert stream.stray == b"unknown: field\n"


@pytest.mark.parametrize("line", [b"data: ", b": "])
def test_an_event_of_just_the_limit_is_passed_on(line: bytes) -> None:
    """The cap counts every byte between two blank lines, comments too, and the limit itself is allowed."""
    filler = line + b"x" * (MAX_EVENT - len(line) - len(b"\ndata: a\n"))
    stream = EventStream()
    events = stream.feed(filler + b"\ndata: a\n\n")

    assert [name for name, _ in events] == [None]
    assert stream.overflow is None


@pytest.mark.parametrize("line", [b"data: ", b": ", b"unknown: ", b"\xef\xbb\xbf: "])
@pytest.mark.parametrize("step", [65_537, MAX_EVENT * 2])
def test_an_event_over_the_limit_is_an_overflow(line: bytes, step: int) -> None:
    """One byte more than the cap stops the parser, after the events before it, wherever the pieces are cut."""
    filler = line + b"x" * (MAX_EVENT + 1 - len(line) - len(b"\ndata: a\n"))
    body = b"\ndata: before\n\n" * (line[:1] != b"\xef") + filler + b"\ndata: a\n\ndata: after\n\n"
    stream = EventStream()
    events = [event for at in range(0, len(body), step) for event in stream.feed(body[at : at + step])]

    assert events == [(None, b"before")] * (line[:1] != b"\xef")
    assert stream.overflow == "event of more than 1048576 bytes"
    assert stream.feed(b"data: later\n\n") == []


def test_a_line_that_never_ends_is_an_overflow_at_once() -> None:
    """The cap does not wait for a line end that may never come."""
    stream = EventStream()
    stream.feed(b"x" * MAX_EVENT)
    assert stream.overflow is None

    stream.feed(b"x")
    assert stream.overflow == "event of more than 1048576 bytes"


@pytest.mark.parametrize("step", [65_521, MAX_STREAM + 100])
def test_a_stream_over_the_limit_is_an_overflow(step: int) -> None:
    """Events within the first 16 MiB are passed on, and nothing after."""
    event = b"data: " + b"x" * 1016 + b"\n\n"
    body = event * (MAX_STREAM // len(event)) + b"data: too much\n\n"
    stream = EventStream()
    events = [event for at in range(0, len(body), step) for event in stream.feed(body[at : at + step])]

    assert len(events) == MAX_STREAM // len(event)
    assert stream.overflow == "stream of more than 16777216 bytes"


def test_a_stream_of_just_the_limit_is_no_overflow() -> None:
    """The limit itself is allowed, one byte more is not."""
    stream = EventStream()
    for _ in range(MAX_STREAM // 65_536 - 1):
        stream.feed(b":" * 65_534 + b"\n\n")

    assert stream.feed(b"data: " + b"x" * 65_528 + b"\n\n") == [(None, b"x" * 65_528)]
    assert stream.overflow is None
    assert stream.feed(b"\n") == []
    assert stream.overflow == "stream of more than 16777216 bytes"


@pytest.mark.parametrize(
    ("before", "chunk"),
    [
        (b"", b""),
        (b"", b"data: a"),
        (b"", b"data: a\n"),
        (b"", b"data: a\n\n\n"),
        (b"", b"data: a\ndata: b\n\n"),
        (b"", b"data: a\n\ndata: b\n\n"),
        (b"", b"data: a\r\n\n"),
        (b"", b"data:a\n\n"),
        (b"", b"event: x\ndata: a\n\n"),
        (b"", b"data: " + b"x" * MAX_EVENT + b"\n\n"),
        (b"data: a\n", b"data: b\n\n"),
        (b"event: x\n", b"data: b\n\n"),
        (b": comm", b"data: b\n\n"),
        (b"data: a\n\r", b"data: b\n\n"),
        ((b":" * 65_534 + b"\n\n") * (MAX_STREAM // 65_536), b"data: b\n\n"),
    ],
    ids=lambda value: value[:20].decode(),
)
def test_a_chunk_that_needs_the_whole_parser_is_no_sole_event(before: bytes, chunk: bytes) -> None:
    """Part of an event, several, one that others' fields belong to, or one over a cap is left for `feed`."""
    stream = EventStream()
    stream.feed(before)

    assert stream.sole(chunk) is None


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf\n", b": comment\n\n", b"event: x\r\n\r\n\n", b"data: a\n\n"])
def test_a_sole_event_is_what_feed_would_return(before: bytes) -> None:
    """The short way and the long one leave the same state behind."""
    chunk = b"data: {}\n\n"
    short, long = EventStream(), EventStream()
    short.feed(before)
    long.feed(before)

    assert [(None, short.sole(chunk))] == long.feed(chunk) == [(None, b"{}")]
    assert short.recognised
    for rest in (b"\xef\xbb\xbfdata: b\n\n", b"data: c\n\n", b"x" * MAX_EVENT, b"x"):
        assert short.feed(rest) == long.feed(rest)
        assert short.overflow == long.overflow


def test_a_sole_event_counts_into_the_cap_of_the_stream() -> None:
    """The stream's cap holds however its events were read."""
    stream = EventStream()
    chunk = b"data: " + b"x" * (65_536 - 8) + b"\n\n"

    assert all(stream.sole(chunk) is not None for _ in range(MAX_STREAM // len(chunk)))
    assert stream.sole(b"data: \n\n") is None
    stream.feed(b"data: \n\n")
    assert stream.overflow == "stream of more than 16777216 bytes"


LINES = [b"data", b"data: ", b"data:", b"event: ", b"event", b"id: ", b": ", b":", b" ", b"a", b"[DONE]"]
LINE_ENDS = [b"\n", b"\n\n", b"\r", b"\r\n"]
ODDITIES = [b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x00"]
PIECES = st.sampled_from([*LINES, *LINE_ENDS, *ODDITIES])


@settings(deadline=None)
@given(st.lists(PIECES, max_size=30).map(b"".join), st.lists(st.integers(0, 100), max_size=6))
def test_any_split_gives_what_the_standard_says(body: bytes, cuts: list[int]) -> None:
    """However the bytes are cut into pieces, the events are those of the whole body."""
    at = [0, *sorted(cuts), len(body)]

    assert parse(*(body[start:end] for start, end in itertools.pairwise(at))) == at_once(body)
    assert parse(*(body[i : i + 1] for i in range(len(body)))) == at_once(body)

"""Frames of the AWS event stream encoding."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.wire.aws_eventstream import MAX_FRAME, Frame, FrameStream, string_headers
from llmbench.wire.events import Malformed
from llmbench.wire.sse import MAX_STREAM
from tests.wire.frames import CONVERSE, frame, raw_frame, string_header

Outcome = tuple[list[Frame], Malformed | None, bytes]


def read(pieces: Iterable[bytes | memoryview]) -> Outcome:
    stream = FrameStream()
    frames = [frame for piece in pieces for frame in stream.feed(piece)]
    return frames, stream.malformed, stream.stray


def cut(body: bytes, at: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(body) + 1) for place in at), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(bounds)]


def prelude(total: int, headers: int) -> bytes:
    lengths = struct.pack(">II", total, headers)
    return lengths + struct.pack(">I", zlib.crc32(lengths))


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1 :]


names = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=20)
headers = st.dictionaries(names, st.text(max_size=20), max_size=4)
frames = st.lists(st.tuples(headers, st.binary(max_size=60)), max_size=5)


@settings(max_examples=50, deadline=None)
@given(written=frames, at=st.lists(st.integers(0, 2000), max_size=8))
def test_frames_are_read_as_they_were_written(written: list[tuple[dict[str, str], bytes]], at: list[int]) -> None:
    """Whatever the pieces, headers and payloads are those that were written, and those that the SDK reads."""
    body = b"".join(frame(*parts) for parts in written)
    read_frames, malformed, stray = read(cut(body, at))
    buffer = EventStreamBuffer()
    buffer.add_data(body)

    assert [(string_headers(block), payload) for block, payload in read_frames] == written
    assert [(event.headers, event.payload) for event in buffer] == written
    assert (malformed, stray) == (None, b"")


SNIPPETS = [
    *[*CONVERSE[:3], b"\0", b"\0\0\0\x10", prelude(16, 0), prelude(40, 4), prelude(12, 0), prelude(2**31, 5)],
    *[raw_frame(b"", b""), raw_frame(b"\xff", b"{}"), b'{"error"', b"<html>", b" ", b"\xff"],
]


@settings(max_examples=60, deadline=None)
@given(
    body=st.lists(st.sampled_from(SNIPPETS) | st.binary(max_size=6), max_size=8).map(b"".join),
    at=st.lists(st.integers(0, 2000), max_size=8),
)
def test_any_bytes_read_the_same_however_they_are_cut(body: bytes, at: list[int]) -> None:
    """No bytes raise, and what is reported does not depend on the pieces, nor on the buffer that they are in."""
    whole = read([body])

    assert read(map(memoryview, cut(body, at))) == whole
    assert read(body[i : i + 1] for i in range(len(body))) == whole


@pytest.mark.parametrize("at", range(0, len(CONVERSE[1]), 7))
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_damaged_byte_anywhere_is_noticed(at: int, size: int) -> None:
    """Either checksum fails; the frames before it are kept, nothing after it is read."""
    good, bad = CONVERSE[0], flipped(CONVERSE[1], at)
    body = good + bad + good
    frames, malformed, stray = read(body[i : i + size] for i in range(0, len(body), size))

    assert frames == read([good])[0]
    assert malformed is not None
    assert malformed.reason in ("invalid frame: wrong checksum", "invalid frame: wrong checksum of its lengths")
    assert malformed.excerpt.isprintable()
    assert stray == b""


@pytest.mark.parametrize(("total", "headers"), [(0, 0), (15, 0), (16, 1), (100, 85), (100, 2**32 - 1)])
def test_lengths_that_contradict_each_other_are_malformed(total: int, headers: int) -> None:
    """As soon as the prelude is there; the rest is not waited for."""
    frames, malformed, _ = read([prelude(total, headers)])

    assert (frames, malformed and malformed.reason) == ([], "invalid frame: impossible lengths")


@pytest.mark.parametrize("total", [MAX_FRAME + 1, 2**32 - 1])
def test_a_frame_over_the_cap_is_too_large(total: int) -> None:
    """That it is, its prelude says."""
    good, _, _ = read(CONVERSE)
    frames, malformed, stray = read([*CONVERSE, prelude(total, 5)])

    assert frames == good
    assert malformed is not None
    assert (malformed.reason, malformed.too_large) == ("frame of more than 1048576 bytes", True)
    assert stray == b""


@pytest.mark.parametrize("step", [65_537, 2 * MAX_FRAME])
def test_a_frame_of_just_the_cap_is_read(step: int) -> None:
    """The limit itself is allowed."""
    body = frame({}, b"x" * (MAX_FRAME - 16))
    frames, malformed, _ = read(body[at : at + step] for at in range(0, len(body), step))

    assert [len(payload) for _, payload in frames] == [MAX_FRAME - 16]
    assert malformed is None


@pytest.mark.parametrize("together", [1, 5])
def test_a_stream_over_the_cap_is_too_large(together: int) -> None:
    """What fits into the cap is read, however it comes."""
    big = frame({}, b"x" * (MAX_FRAME // 2 - 16))
    count = MAX_STREAM // len(big)
    frames, malformed, _ = read([big * together] * (count // together + 1))

    assert len(frames) == count
    assert malformed == Malformed(reason="stream of more than 16777216 bytes", too_large=True)


def test_nothing_is_read_after_an_error() -> None:
    """Not even frames that are good."""
    stream = FrameStream()
    stream.feed(prelude(1, 0))

    assert stream.feed(CONVERSE[0]) == []
    assert stream.sole(CONVERSE[0]) is None


@pytest.mark.parametrize("body", [b'{"error": "no"}', b"<html>", b"no", b" \n", b"\xef\xbb\xbf{}"])
def test_text_is_kept_as_something_else(body: bytes) -> None:
    """No frame within the cap begins with a byte other than 0."""
    assert read(body[at : at + 1] for at in range(len(body))) == ([], None, body)


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0", CONVERSE[0][:-1], CONVERSE[0], CONVERSE[0] + b"{no"])
def test_frames_and_their_beginnings_are_no_text(body: bytes) -> None:
    """A body that was cut short is not something else."""
    assert read([body])[1:] == (None, b"")


@pytest.mark.parametrize("step", [65_537, 3 * MAX_FRAME])
def test_text_without_end_is_not_kept(step: int) -> None:
    """It can't be an error object; its beginning is shown."""
    body = b"<p>" * MAX_FRAME
    frames, malformed, _ = read(body[at : at + step] for at in range(0, len(body), step))

    assert frames == []
    assert malformed == Malformed(reason="not an event stream", excerpt=("<p>" * 67)[:200])


def test_a_sole_frame_is_what_feed_would_return() -> None:
    """The short way and the long one leave the same state behind."""
    short, long = FrameStream(), FrameStream()
    for good in CONVERSE:
        assert [short.sole(good)] == long.feed(good)
    for rest in (b"<", prelude(40, 0), b"x" * 40):
        assert short.feed(rest) == long.feed(rest)
        assert (short.malformed, short.stray) == (long.malformed, long.stray)


@pytest.mark.parametrize(
    ("before", "chunk"),
    [
        (b"", b""),
        (b"", CONVERSE[0][:-1]),
        (b"", CONVERSE[0] * 2),
        (b"\0", CONVERSE[0]),
        (b"", flipped(CONVERSE[0], 9)),
        (b"", flipped(CONVERSE[0], 40)),
        (b"", flipped(CONVERSE[0], len(CONVERSE[0]) - 1)),
        (b"", prelude(16, 1) + struct.pack(">I", zlib.crc32(prelude(16, 1)))),
        (b"", b"x" * 40),
        (b"", b"x" * (MAX_FRAME + 1)),
        (frame({}, b"x" * (MAX_FRAME - 16)) * 16, CONVERSE[0]),
    ],
    ids=range(11),
)
def test_a_chunk_that_needs_the_whole_parser_is_no_sole_frame(before: bytes, chunk: bytes) -> None:
    """Part of a frame, several, one that is not valid, or one over a cap is left for `feed`."""
    stream = FrameStream()
    stream.feed(before)

    assert stream.sole(chunk) is None


def test_headers_that_are_no_strings_are_passed_over() -> None:
    """Each type has its size: booleans, integers, bytes, a timestamp, a UUID."""
    others = [b"\0", b"\1", b"\2x", b"\3xx", b"\4xxxx", b"\5" + b"x" * 8, b"\6\0\3xxx", b"\x08" + b"x" * 8]
    block = b"".join(b"\1a" + value for value in [*others, b"\x09" + b"x" * 16]) + string_header("b", "é")

    assert string_headers(block) == {"b": "é"}


@pytest.mark.parametrize("missing", range(1, len(string_header("name", "value"))))
def test_headers_that_are_cut_off_are_none(missing: int) -> None:
    """Wherever the block ends inside one."""
    block = string_header("a", "b") + string_header("name", "value")

    assert string_headers(block[:-missing]) is None


def test_a_type_that_is_not_known_has_no_size() -> None:
    """Nothing behind it can be found."""
    assert string_headers(b"\1a\x0a" + string_header("b", "c")) is None


def test_text_in_headers_may_be_broken() -> None:
    """It is shown as far as it can be."""
    assert string_headers(b"\1\xff\x07\0\1\xfe") == {"\ufffd": "\ufffd"}

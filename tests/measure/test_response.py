"""The response parser: any split of the bytes gives the same response, and what is wrong is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.measure.response import MAX_QUEUED_BYTES, ResponseReader, ResponseTooLarge
from tests.measure.support import read_at

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n8;ext=1\r\n, world!\r\n0\r\n\r\n"

RESPONSES = {
    "chunked": CHUNKED,
    "length": HEAD + b"content-length: 13\r\n\r\nhello, world!",
    "interim": INTERIM + CHUNKED,
    "trailers": CHUNKED[:-2] + b"x-checksum: 1\r\n\r\n",
    "no_length": HEAD + b"\r\nhello, world!",
    "folded_names": b"HTTP/1.1 200 OK\r\nCONTENT-TYPE:text/event-stream\r\nCONTENT-LENGTH:13\r\n\r\nhello, world!",
    "error": b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 13\r\n\r\nhello, world!",
    "nothing": b"HTTP/1.1 204 No Content\r\nx-request-id: r1\r\n\r\n",
}
every_response = pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)


class Parsed(NamedTuple):
    """A response, without where its pieces were cut."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool


def parse(*pieces: bytes) -> Parsed:
    """Feed the pieces, a read each, and then the end of the connection."""
    reader = ResponseReader()
    for number, piece in enumerate(pieces):
        reader.feed(read_at(number), piece)
    reader.feed_eof()
    return Parsed(reader.status, reader.headers, b"".join(data for _read, data in reader.take()), reader.complete)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces, cut at these places modulo its length; none is empty."""
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


def refusal(*pieces: bytes) -> httpx2.RemoteProtocolError:
    with pytest.raises(httpx2.RemoteProtocolError) as caught:
        parse(*pieces)
    return caught.value


# good responses


@every_response
@settings(deadline=None)
@given(places=st.lists(st.integers(0, 10_000), max_size=20))
def test_any_split_gives_the_same_response(response: bytes, places: list[int]) -> None:
    """Status, headers, body and completeness do not depend on where reads begin and end."""
    assert parse(*cut(response, places)) == parse(response)


@every_response
def test_byte_by_byte(response: bytes) -> None:
    """The worst split of all."""
    assert parse(*cut(response, list(range(len(response))))) == parse(response)


def test_a_response_is_what_its_bytes_say() -> None:
    """Status, headers as they came, the body without its transfer coding."""
    headers = [(b"Content-Type", b"text/event-stream"), (b"Transfer-Encoding", b"chunked")]
    assert parse(CHUNKED) == Parsed(200, headers, b"hello, world!", complete=True)


def test_interim_responses_and_trailers_leave_no_trace() -> None:
    """The headers are those of the real head alone."""
    assert parse(RESPONSES["interim"]) == parse(CHUNKED)
    assert parse(RESPONSES["trailers"]) == parse(CHUNKED)


def test_feeding_tells_when_the_response_is_complete() -> None:
    """With the last byte of the coding, not one before."""
    reader = ResponseReader()
    results = [reader.feed(read_at(0), bytes([byte])) for byte in CHUNKED]
    assert results == [False] * (len(CHUNKED) - 1) + [True]


def test_a_head_can_be_complete_before_the_body() -> None:
    """That is when an SDK may look at it."""
    reader = ResponseReader()
    head, body = CHUNKED.split(b"\r\n\r\n", 1)
    reader.feed(read_at(0), head + b"\r\n")
    assert not reader.head_complete
    reader.feed(read_at(1), b"\r\n" + body[:7])
    assert (reader.head_complete, reader.complete, reader.status) == (True, False, 200)


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    """As RFC 9112 has it; until then the body may go on."""
    reader = ResponseReader()
    assert not reader.feed(read_at(0), RESPONSES["no_length"])
    reader.feed_eof()
    assert reader.complete


def test_each_piece_of_the_body_keeps_its_read() -> None:
    """The piece that a read completed is found under that read's stamp, and `take` forgets what it returned."""
    first, second = read_at(1), read_at(2)
    reader = ResponseReader()
    reader.feed(first, HEAD + b"content-length: 13\r\n\r\nhello")
    reader.feed(second, b", world!")
    assert reader.take() == [(first, b"hello"), (second, b", world!")]
    assert reader.take() == []


def test_what_comes_behind_the_response_is_ignored() -> None:
    """Junk, or a second response that would overwrite the first: in the same read or a later one."""
    expected = parse(CHUNKED)
    for behind in (b"junk", b"HTTP/1.1 500 No\r\nx: y\r\ncontent-length: 3\r\n\r\nbad"):
        assert parse(CHUNKED + behind) == expected
        assert parse(CHUNKED, behind) == expected


@pytest.mark.parametrize("encoding", [b"identity", b"Identity", b""])
def test_identity_is_no_compression(encoding: bytes) -> None:
    """Some servers say that they did nothing."""
    assert parse(HEAD + b"content-encoding: " + encoding + b"\r\n\r\nhello").body == b"hello"


# bad responses


@pytest.mark.parametrize(
    "response", [CHUNKED, RESPONSES["length"], RESPONSES["interim"]], ids=["chunked", "length", "interim"]
)
@settings(deadline=None)
@given(data=st.data())
def test_a_response_that_stops_too_soon_is_truncated(response: bytes, data: st.DataObject) -> None:
    """Any proper beginning of a response of known length is refused at the end of the connection."""
    short = data.draw(st.integers(0, len(response) - 1))
    assert "closed the connection" in str(refusal(response[:short]))


def test_truncation_says_where() -> None:
    """Before the head was complete, or in the middle of the body."""
    assert "before a complete response head" in str(refusal(b"HTTP/1.1 200"))
    assert "in the middle of the body" in str(refusal(CHUNKED[:-1]))


@pytest.mark.parametrize(
    "junk",
    [
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"<html>",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nnot a length\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
        HEAD + b"content-length: minus one\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(junk: bytes) -> None:
    """Another protocol, broken framing, contradictory lengths."""
    assert "not valid HTTP/1.1" in str(refusal(junk))


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"deflate", b"GZIP", b"identity, gzip"])
def test_a_compressed_body_is_refused(encoding: bytes) -> None:
    """Identity was asked for; stamps of compressed blocks would not be those of tokens."""
    assert "compressed" in str(refusal(HEAD + b"content-encoding: " + encoding + b"\r\n\r\n"))


def test_headers_are_capped() -> None:
    """At 64 KiB, whether in one field, in many, or in one that never ends."""
    for head in (
        HEAD + b"x: " + b"y" * 65_536 + b"\r\n\r\n",
        HEAD + b"x-padding: yyyyyyyy\r\n" * 4000 + b"\r\n",
        HEAD + b"x: " + b"y" * 400_000,
        INTERIM * 10_000,
    ):
        assert isinstance(refusal(head), ResponseTooLarge)


@pytest.mark.timeout(10)
def test_many_tiny_headers_cost_little() -> None:
    """60,000 fields of one letter are under the cap; counting them must not take the square of that."""
    assert len(parse(HEAD + b"a:\r\n" * 60_000 + b"\r\n").headers) == 60_001


def test_a_body_that_nobody_takes_is_capped() -> None:
    """At 16 MiB; taken in time, a body may be longer."""
    reader = ResponseReader()
    reader.feed(read_at(0), HEAD + b"\r\n")
    mebibyte = bytes(1 << 20)
    for _ in range(MAX_QUEUED_BYTES >> 20):
        reader.feed(read_at(1), mebibyte)
    reader.take()
    reader.feed(read_at(2), bytes(MAX_QUEUED_BYTES))
    with pytest.raises(ResponseTooLarge, match="16 MiB"):
        reader.feed(read_at(3), b"x")


def test_a_refusal_is_told_without_the_parsers_own_words() -> None:
    """What is stored of a run is the reason, not that a callback of httptools raised it."""
    for head in (HEAD + b"content-encoding: gzip\r\n\r\n", HEAD + b"x: " + b"y" * 65_536 + b"\r\n\r\n"):
        error = refusal(head)
        assert (error.__cause__, error.__context__) == (None, None)

"""However the network cuts a body into pieces, its events are the same."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.events import Decoder, Event, Malformed
from llmbench.wire.gemini import GeminiDecoder
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.openai_completions import CompletionsDecoder
from llmbench.wire.openai_responses import ResponsesDecoder
from tests.wire.streams import (
    CHAT_FLAVOURS,
    COMPLETIONS,
    GEMINI,
    MESSAGES,
    RESPONSES,
    RESPONSES_FAILED,
    RESPONSES_INCOMPLETE,
    chat,
    chunk,
)
from tests.wire.support import DECODERS, data, events_of

every_decoder = pytest.mark.parametrize("decoder_type", DECODERS, ids=lambda kind: kind.__name__)

UNICODE = chat(chunk("é漢😀\u2028\u2029\x85"))
WELL_FORMED: dict[str, tuple[Callable[[], Decoder], bytes]] = {
    **{flavour: (ChatDecoder, body) for flavour, body in CHAT_FLAVOURS.items()},
    "crlf": (ChatDecoder, CHAT_FLAVOURS["openai"].replace(b"\n", b"\r\n")),
    "cr": (ChatDecoder, CHAT_FLAVOURS["openrouter"].replace(b"\n", b"\r")),
    "bom": (ChatDecoder, b"\xef\xbb\xbf" + CHAT_FLAVOURS["fireworks"]),
    "unicode": (ChatDecoder, UNICODE),
    "completions": (CompletionsDecoder, COMPLETIONS),
    "responses": (ResponsesDecoder, RESPONSES),
    "responses-incomplete": (ResponsesDecoder, RESPONSES_INCOMPLETE),
    "responses-failed": (ResponsesDecoder, RESPONSES_FAILED),
    "messages": (MessagesDecoder, MESSAGES),
    "messages-crlf": (MessagesDecoder, MESSAGES.replace(b"\n", b"\r\n")),
    "gemini": (GeminiDecoder, GEMINI),
}
every_stream = pytest.mark.parametrize(("decoder_type", "body"), WELL_FORMED.values(), ids=WELL_FORMED)

FOREIGN = [
    b'{"error": {"message": "no"}}',
    b"<html>\r\n\r\n</html>",
    data({"error": "no"}, "error"),
    data(b"{broken"),
    data(b'{"type":"response.output_text.delta","delta":5}'),
]
SNIPPETS = [
    *[b"data: ", b"data:", b"event: ", b"event: error\n", b": ", b"\n", b"\n\n", b"\r", b"\r\n", b"\xef\xbb\xbf"],
    *[b"[DONE]", b"{", b"}", b"[", b"]", b'"', b",", b"null", b"5", b"\xff", b"\xe2\x80\xa8", b"\\ud800"],
    *[
        b'"choices":',
        b'"delta":',
        b'"content":',
        b'"text":',
        b'"type":',
        b'"error":',
        b'"usage":',
        b'"response":',
        b'"candidates":',
    ],
]


def outcome(decoder_type: Callable[[], Decoder], pieces: Iterator[bytes | memoryview]) -> tuple[list[Event], int]:
    decoder = decoder_type()
    return events_of(decoder, pieces), decoder.unknown_events


def through_one_buffer(body: bytes, cuts: list[int]) -> Iterator[memoryview]:
    """Yield the pieces of ``body`` in the same memory, each overwriting the one before, as a socket's reader does."""
    buffer = bytearray(len(body) + 1)
    for start, end in itertools.pairwise([0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]):
        buffer[: end - start] = body[start:end]
        yield memoryview(buffer)[: end - start]
        buffer[:] = b"\n" * len(buffer)


def event_by_event(body: bytes) -> Iterator[bytes]:
    """Yield ``body`` in pieces that end with an event, which is how most servers send theirs."""
    return (match[0] for match in re.finditer(rb".*?\n\n|.+", body, re.DOTALL))


def assert_same_however_cut(decoder_type: Callable[[], Decoder], body: bytes, cuts: list[int]) -> None:
    whole = outcome(decoder_type, iter([body]))

    assert outcome(decoder_type, through_one_buffer(body, cuts)) == whole
    assert outcome(decoder_type, event_by_event(body)) == whole
    assert outcome(decoder_type, (body[at : at + 1] for at in range(len(body)))) == whole


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Return ``body`` with a few bytes replaced by something else."""
    for at in draw(st.lists(st.integers(0, len(body)), min_size=1, max_size=3)):
        junk = draw(st.sampled_from(SNIPPETS) | st.binary(max_size=4))
        body = body[:at] + junk + body[at + draw(st.integers(0, 40)) :]
    return body


# The cost of one example is that of a whole stream, read three times.
enough = settings(max_examples=50, deadline=None)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@every_stream
@enough
@given(cuts=cuts)
def test_a_good_stream_reads_the_same_however_it_is_cut(
    decoder_type: Callable[[], Decoder], body: bytes, cuts: list[int]
) -> None:
    """Pieces may end anywhere, inside a character or a line end too, and lie in a buffer that is used again."""
    assert outcome(decoder_type, through_one_buffer(body, cuts)) == outcome(decoder_type, iter([body]))


@every_stream
def test_a_good_stream_reads_the_same_byte_by_byte_and_event_by_event(
    decoder_type: Callable[[], Decoder], body: bytes
) -> None:
    """The smallest pieces that there are, and those that most servers send."""
    assert_same_however_cut(decoder_type, body, [])


@every_stream
@enough
@given(drawn=st.data(), cuts=cuts)
def test_a_damaged_stream_reads_the_same_however_it_is_cut(
    decoder_type: Callable[[], Decoder], body: bytes, drawn: st.DataObject, cuts: list[int]
) -> None:
    """Damage never raises, and what is reported does not depend on the pieces."""
    assert_same_however_cut(decoder_type, drawn.draw(damaged(body)), cuts)


@every_decoder
@enough
@given(
    body=st.lists(st.sampled_from([*SNIPPETS, *FOREIGN]), max_size=25).map(b"".join) | st.binary(max_size=200),
    cuts=cuts,
)
def test_any_bytes_read_the_same_however_they_are_cut(
    decoder_type: Callable[[], Decoder], body: bytes, cuts: list[int]
) -> None:
    """No bytes at all raise, and what is reported does not depend on the pieces."""
    assert_same_however_cut(decoder_type, body, cuts)


@every_stream
def test_a_stream_cut_short_gives_the_beginning_of_its_events(decoder_type: Callable[[], Decoder], body: bytes) -> None:
    """A truncated body is never malformed: wherever it ends, its events are the first of the whole one's."""
    whole, _ = outcome(decoder_type, iter([body]))
    for length in range(len(body)):
        events, _ = outcome(decoder_type, iter([body[:length]]))

        assert events == whole[: len(events)]
    assert not any(isinstance(event, Malformed) for event in whole)

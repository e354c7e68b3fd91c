"""Reasoning between tags in the text of Chat Completions."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.wire.events import End, Event, Finish, ReasoningDelta, StreamFault, TextDelta
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.thinking import ThinkingSplitter
from tests.wire.streams import DONE, chat, chunk
from tests.wire.support import data, events_of, reasoning, visible
from tests.wire.test_chunk_boundaries import assert_same_however_cut


def bare(text: Any, **choice: Any) -> bytes:
    return data({"choices": [{"index": 0, "delta": {"content": text}, **choice}]})


def said(*texts: Any) -> list[Event]:
    """Return the events of a proper stream with a delta for each text."""
    *events, end = events_of(ChatDecoder(), [*map(bare, texts), DONE])
    assert end == End()
    return events


R, T = ReasoningDelta, TextDelta


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["<think>Hm.</think>Rivers"], [R("Hm."), T("Rivers")]),
        (["<think>", "Hm", ".", "</think>", "Rivers", " move"], [R("Hm"), R("."), T("Rivers"), T(" move")]),
        (["<th", "ink", ">Hm.</", "think>Riv", "ers"], [R("Hm."), T("Riv"), T("ers")]),
        (["\n", " <think>\nHm.\n</think>\n\n", "\r\n", "\nRivers\n", "\n"], [R("\nHm.\n"), T("Rivers\n"), T("\n")]),
        (["<think></think>Rivers"], [T("Rivers")]),
        (["<think>a < b </ c </thin k</think>d"], [R("a < b </ c </thin k"), T("d")]),
        (["<think>a <", "/t", "hin", "king <", "</think", ">d"], [R("a "), R("</thinking "), R("<"), T("d")]),
        (["<think>a</think>b<think>c</think>"], [R("a"), T("b<think>c</think>")]),
        (["<think>a<think>b</think>c"], [R("a<think>b"), T("c")]),
    ],
)
def test_text_between_the_tags_is_reasoning(texts: list[str], expected: list[Event]) -> None:
    """The tags may be cut anywhere, the line ends behind them are dropped, and only the first pair counts."""
    assert said(*texts) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Rivers", "<think>a</think>"], [T("Rivers"), T("<think>a</think>")]),
        (["\n", "\n", "Rivers", "\n"], [T("\n\nRivers"), T("\n")]),
        (["<", "b", ">"], [T("<b"), T(">")]),
        (["<thinking>", "a"], [T("<thinking>"), T("a")]),
        ([" <", "thin", "g", ">"], [T(" <thing"), T(">")]),
        (["</think>a"], [T("</think>a")]),
        (["<Think>a"], [T("<Think>a")]),
        ([" " * 257, "<think>a"], [T(" " * 257), T("<think>a")]),
        ([" " * 200, " " * 57 + "<think>", "a"], [T(" " * 257 + "<think>"), T("a")]),
        ([" " * 256, "<think>a"], [R("a")]),
    ],
)
def test_text_that_begins_otherwise_is_visible(texts: list[str], expected: list[Event]) -> None:
    """Nothing of it is lost, not even the white space in front, which is no token of its own."""
    assert said(*texts) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["\n", " "], [T("\n ")]),
        (["<th"], [T("<th")]),
        (["<think>"], []),
        (["<think>", "Hm", ". </thi"], [R("Hm"), R(". "), R("</thi")]),
        (["<think>Hm.</think>\n"], [R("Hm.")]),
    ],
)
def test_what_was_held_back_comes_out_at_the_end(texts: list[str], expected: list[Event]) -> None:
    """Whatever ends the text: a finish reason, the terminator, or the body's end."""
    pieces = list(map(bare, texts))
    finish = bare("", finish_reason="length")

    assert events_of(ChatDecoder(), [*pieces, finish, DONE]) == [*expected, Finish("length"), End()]
    assert events_of(ChatDecoder(), [*pieces, DONE]) == [*expected, End()]
    assert events_of(ChatDecoder(), pieces) == expected


def test_held_text_is_out_before_the_decoder_is_done() -> None:
    """Held text and what is pending at the end of the body both come out, and once."""
    decoder = ChatDecoder()
    decoder.feed(bare("<th") + data({"error": "Overloaded"}).rstrip())

    assert decoder.finish() == [StreamFault(message="Overloaded"), T("<th")]
    assert decoder.finish() == []


def test_a_reasoning_field_leaves_the_text_as_it_is() -> None:
    """Reasoning that the server splits off itself does not decide about the text."""
    events = events_of(
        ChatDecoder(),
        [data({"choices": [{"delta": {"reasoning_content": "Hm."}}]}), bare("\n"), bare("<think>a</think>b"), DONE],
    )

    assert events == [R("Hm."), R("a"), T("b"), End()]


def test_parts_of_content_are_not_split() -> None:
    """Where content is a list, thinking has parts of its own; text that was held back comes first."""
    assert said(" ", [{"type": "text", "text": "<think>a"}], "<think>b") == [T(" "), T("<think>a"), T("<think>b")]


def test_endless_white_space_is_not_held_forever() -> None:
    """Holding it all would cost more with every delta."""
    splitter = ThinkingSplitter()
    held = [splitter.split("\n") for _ in range(256)]

    assert set(held) == {("", "")}
    assert not splitter.decided
    assert splitter.split("\n") == ("", "\n" * 257)
    assert splitter.decided


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think", ">", "\n", " ", "ab"]), max_size=12).map(
        "".join
    ),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_the_deltas_do_not_matter(text: str, cuts: list[int]) -> None:
    """However a text is cut into deltas, the same part of it is reasoning, and only tags and line ends are dropped."""
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    whole = said(text)
    cut = said(*(text[start:end] for start, end in itertools.pairwise(bounds)))

    assert (reasoning(cut), visible(cut)) == (reasoning(whole), visible(whole))
    if not reasoning(whole) and not text.lstrip().startswith("<think>"):
        assert visible(whole) == text


THINKING = chat(
    *map(chunk, ["", "\n", "<th", "ink>", "\nHm", " <", "b> </th", "ink", ">\n", "\n", "Rivers", " <think>"]),
    chunk(finish="stop"),
)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_the_pieces_of_the_body_do_not_matter(cuts: list[int]) -> None:
    """As for any stream, the same bytes give the same events."""
    assert_same_however_cut(ChatDecoder, THINKING, cuts)

"""Live events over the wire: what is read is what was sent, whatever stands in it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmbench.bridge import live
from llmbench.messages import (
    Commanded,
    LaneFigures,
    LaneState,
    LaneStatus,
    LiveEvent,
    RunFinished,
    RunProgress,
    RunStarted,
    StoreState,
)
from llmbench.wire.sse import EventStream
from tests.stores.documents import NOON, failure, sample

texts = st.text(st.characters(codec="utf-8")) | st.sampled_from(
    ["\n\n", "\r\r", "\r\n\r\n", "data: {}\n\n", "\u2028\u2029\x85", "\x00", "event: dropped", '"', "\\n\\n", "🦄"]
)
dates = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  st wants them
numbers = st.floats(0, 1e9, allow_nan=False)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | numbers | texts
free = st.dictionaries(
    texts, plain | st.lists(plain, max_size=3) | st.dictionaries(texts, plain, max_size=3), max_size=3
)

samples = st.builds(
    sample,
    model_name=texts,
    misc=free,
    times_between_tokens=st.lists(numbers, max_size=5),
    run_ts=dates,
    warnings=st.lists(texts, max_size=2),
)
failures = st.builds(failure, model_name=texts, message=texts, traceback=texts, partial=free, ts=dates)
events: st.SearchStrategy[LiveEvent] = st.one_of(
    st.builds(
        LaneState,
        lane=texts,
        status=st.sampled_from(get_args(LaneStatus)),
        at=dates,
        reason=st.none() | texts,
        until=st.none() | dates,
        restarts=st.integers(0, 2**40),
    ),
    st.builds(RunStarted, outcome_id=texts, provider=texts, model_id=texts, at=dates),
    st.builds(
        RunProgress,
        outcome_id=texts,
        provider=texts,
        model_id=texts,
        visible_chunks=st.integers(0, 2**40),
        text=texts,
        elapsed=numbers,
    ),
    st.builds(RunFinished, provider=texts, model_id=texts, outcome=samples | failures),
    st.builds(
        StoreState,
        status=st.sampled_from(["ok", "failing"]),
        at=dates,
        waiting=st.integers(0, 2**40),
        reason=st.none() | texts,
    ),
    st.builds(
        LaneFigures,
        lane=texts,
        at=dates,
        models=st.integers(0, 2**40),
        in_flight=st.integers(0, 2**40),
        due=st.integers(0, 2**40),
        next_due=st.none() | dates,
        concurrency=st.integers(0, 2**40),
        requests_per_minute=numbers,
        paused_since=st.none() | dates,
    ),
    st.builds(Commanded, at=dates, done=texts),
)


def progress(text: str) -> RunProgress:
    return RunProgress(outcome_id="1", provider="p", model_id="m", visible_chunks=1, text=text, elapsed=0.5)


@given(events)
def test_what_is_read_is_what_was_sent(event: LiveEvent) -> None:
    """Every event comes out of its frame equal to what went in."""
    assert live.parse(live.encode(event)) == event


@given(events)
def test_no_text_can_break_a_frame(event: LiveEvent) -> None:
    """A frame has one line for the name, one for the data, and ends in the only blank line that it has."""
    name, data, *end = live.encode(event).split(b"\n")

    assert (name, end) == (b"event: " + type(event).__name__.encode(), [b"", b""])
    assert data.startswith(b"data: ")
    assert b"\r" not in data


@given(events)
def test_any_reader_of_server_sent_events_sees_the_same(event: LiveEvent) -> None:
    """The parser of the measuring path, which follows the standard, finds the tag and JSON with the tag in it."""
    [(name, data)] = EventStream().feed(live.encode(event))

    assert name == type(event).__name__.encode()
    assert msgspec.json.decode(data)["type"] == type(event).__name__


@given(st.lists(events, max_size=3), st.lists(st.integers(1, 4000), max_size=8))
@example([progress("a"), progress("b")], [1] * 400)
def test_a_body_may_arrive_in_any_parts(sent: list[LiveEvent], cuts: list[int]) -> None:
    """However the bytes are split, the same events come out, in their order."""
    body = live.HEARTBEAT.join(map(live.encode, sent))
    ends = [0, *itertools.takewhile(lambda end: end < len(body), itertools.accumulate(cuts)), len(body)]
    frames = live.Frames()
    parts = [body[start:end] for start, end in itertools.pairwise(ends)]
    read = [live.parse(frame) for part in parts for frame in frames.feed(part)]

    assert [event for event in read if event is not None] == sent


def test_losses_are_told() -> None:
    """The event ``dropped`` says how many events a reader has missed."""
    assert live.dropped(17) == b'event: dropped\ndata: {"count":17}\n\n'
    assert live.parse(live.dropped(17)) == live.Dropped(count=17)


def test_a_heartbeat_is_no_event() -> None:
    """To us and to any other reader it is a comment."""
    assert live.parse(live.HEARTBEAT) is None
    assert EventStream().feed(live.HEARTBEAT) == []


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    """A viewer does not fail when the engine is newer; new fields of a known event are passed over, too."""
    newer = msgspec.json.encode(msgspec.to_builtins(progress("a")) | {"colour": "red"})

    assert live.parse(b'event: LaneRepainted\ndata: {"type":"LaneRepainted"}\n\n') is None
    assert live.parse(b"event: RunProgress\ndata: " + newer + b"\n\n") == progress("a")


def test_a_lone_surrogate_is_replaced() -> None:
    """UTF-8 has none, so it becomes U+FFFD, in nested keys and values, too; whole characters stay."""
    event = RunFinished(provider="p", model_id="m\ud800", outcome=sample(misc={"k\udfff": ["a\ud83e🦄"]}))
    read = live.parse(live.encode(event))

    assert isinstance(read, RunFinished)
    assert read.model_id == "m\ufffd"
    assert read.outcome == msgspec.structs.replace(event.outcome, misc={"k\ufffd": ["a\ufffd🦄"]})


@pytest.mark.parametrize(
    "frame",
    [
        b"event: RunStarted\ndata: {\n\n",
        b"event: RunStarted\n\n",
        b"event: RunStarted\ndata: \xff\n\n",
        b'event: RunStarted\ndata: {"type":"RunStarted"}\n\n',
        b'event: RunStarted\ndata: {"type":"StoreState","status":"ok","at":"2026-03-14T12:00:00Z","waiting":0}\n\n',
        b'event: RunFinished\ndata: {"type":"RunFinished","provider":"p","model_id":"m","outcome":7}\n\n',
        b'event: RunFinished\ndata: {"type":"RunFinished","provider":"p","model_id":"m","outcome":{}}\n\n',
        b"event: RunFinished\ndata: " + b'{"a":' * 100_000 + b"\n\n",
        b"event: dropped\ndata: {}\n\n",
        b"HTTP/1.1 500 Oops\n\n",
    ],
    ids=[
        "JSON",
        "no data",
        "not UTF-8",
        "a field",
        "another event",
        "no document",
        "no outcome",
        "deep",
        "no count",
        "",
    ],
)
def test_what_is_no_frame_is_refused_with_a_sentence(frame: bytes) -> None:
    """Neither a damaged event nor another protocol gets any further than the parser."""
    with pytest.raises(live.BadFrame, match=r"^(event|line of an event) "):
        live.parse(frame)


@given(st.binary() | st.builds(lambda name, data: b"event: %s\ndata: %s\n\n" % (name, data), st.binary(), st.binary()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but `BadFrame` is raised, and nothing is read that was not sent."""
    try:
        found: Any = live.parse(data)
    except live.BadFrame:
        return
    assert found is None


def test_a_frame_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never ends an event can't fill the memory."""
    monkeypatch.setattr(live, "LONGEST_FRAME", 100)
    frames = live.Frames()
    frames.feed(b"x" * 100)

    with pytest.raises(live.BadFrame, match="more than 100 bytes"):
        frames.feed(b"x")


def test_dates_keep_their_microseconds() -> None:
    """What a viewer shows is as exact as what the engine knew."""
    event = RunStarted(outcome_id="1", provider="p", model_id="m", at=NOON.replace(microsecond=123456))

    assert live.parse(live.encode(event)) == event

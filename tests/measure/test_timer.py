"""The token-streaming timer: what it keeps of a stream whose reads have chosen stamps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.measure.stamps import Read
from llmbench.measure.timer import StreamTimer
from llmbench.wire.bedrock_converse import ConverseDecoder
from llmbench.wire.events import Identity, Usage
from llmbench.wire.openai_chat import ChatDecoder
from tests.measure.support import DONE, MS, counted, delta, event, finished, read_at, said, thought, timed
from tests.wire import frames


def test_each_visible_chunk_has_its_reads_stamp_and_its_length() -> None:
    """One chunk a read: three stamps, three lengths in characters."""
    timer = timed((read_at(100), said("one")), (read_at(120), said("zwölf")), (read_at(140), said("漢字")))
    assert timer.visible_ns == [100 * MS, 120 * MS, 140 * MS]
    assert timer.visible_chars == [3, 5, 2]
    assert (timer.reads, timer.coalesced_reads, timer.doubtful_chunks) == (3, 0, 0)


def test_chunks_of_one_read_share_its_stamp() -> None:
    """It is counted as one coalesced read, however many chunks it held."""
    timer = timed((read_at(100), said("a")), (read_at(150), said("b", "c", "d")), (read_at(160), said("e", "f")))
    assert timer.visible_ns == [100 * MS, *[150 * MS] * 3, *[160 * MS] * 2]
    assert timer.coalesced_reads == 2


def test_pieces_of_one_read_are_one_read() -> None:
    """HTTP may cut a read into pieces; they stay one arrival."""
    read = read_at(100)
    timer = timed((read, said("a")), (read, said("b")))
    assert (timer.reads, timer.coalesced_reads) == (1, 1)
    assert timer.first_read_coalesced


def test_a_chunk_split_over_reads_arrived_with_its_last_byte() -> None:
    """Its stamp is that of the read that completed it, and nothing was coalesced."""
    data = said("split")
    timer = timed((read_at(100), data[:20]), (read_at(130), data[20:]))
    assert timer.visible_ns == [130 * MS]
    assert timer.coalesced_reads == 0


def test_a_role_an_empty_delta_a_comment_and_usage_are_no_chunks() -> None:
    """Only text counts; what shares a read with these alone is not coalesced."""
    quiet = b": keep-alive\n\n" + delta(role="assistant", content="") + delta(content="") + delta() + counted(1)
    timer = timed((read_at(50), quiet), (read_at(100), quiet + said("a") + quiet), (read_at(110), DONE))
    assert timer.visible_ns == [100 * MS]
    assert timer.coalesced_reads == 0
    assert timer.terminated


# doubt


@pytest.mark.parametrize(
    ("read", "chunks", "doubtful"),
    [
        (read_at(100, doubt=5), 1, 0),
        (read_at(100, doubt=5), 3, 2),
        (read_at(100, doubt=0.9), 3, 0),
        (read_at(100, wait=5), 1, 0),
        (read_at(100, wait=5), 3, 2),
        (read_at(100, doubt=5, kernel=False), 1, 1),
        (read_at(100, doubt=5, kernel=False), 3, 3),
        (read_at(100, doubt=0.9, kernel=False), 3, 0),
    ],
)
def test_doubt(read: Read, chunks: int, doubtful: int) -> None:
    """By the kernel's clock the last chunk of a read is certain; the others, or any by our clock, may be older.

    So they may where the loop had not looked for a while, or where the read came late.
    """
    assert timed((read, said(*"x" * chunks))).doubtful_chunks == doubtful


def test_a_chunk_that_shares_its_read_with_the_end_is_in_doubt_too() -> None:
    """The stamp may be that of the finish reason behind it."""
    late = read_at(100, doubt=5)
    assert timed((late, said("x") + finished("stop"))).doubtful_chunks == 1
    assert timed((late, delta(role="assistant") + said("x"))).doubtful_chunks == 0


def test_a_first_read_with_more_than_one_chunk_is_an_upper_bound() -> None:
    """The first token may have come before its stamp, which is that of the newest one in the read."""
    assert timed((read_at(100), said("a", "b"))).first_read_coalesced


def test_a_later_coalesced_read_is_no_upper_bound_of_the_first_token() -> None:
    """The first chunk came alone."""
    assert not timed((read_at(100), said("a")), (read_at(120), said("b", "c"))).first_read_coalesced


def test_one_read_by_the_user_clock_taints_the_run() -> None:
    """The row may say kernel only if every read of the body was stamped by it."""
    assert timed((read_at(100), said("a")), (read_at(110), said("b"))).kernel
    assert not timed((read_at(100), said("a")), (read_at(110, kernel=False), said("b"))).kernel


def test_the_longest_wait_is_kept() -> None:
    """How late the loop was to take what lay ready."""
    timer = timed((read_at(1), said("a")), (read_at(2, wait=7), said("b")), (read_at(3, wait=3), said("c")))
    assert timer.longest_wait_ns == 7 * MS


# what was said


def test_reasoning_is_not_visible() -> None:
    """It has a first arrival and a length of its own, and shares reads like any chunk."""
    timer = timed((read_at(50), thought("let me")), (read_at(60), thought(" see")), (read_at(90), said("yes")))
    assert timer.first_reasoning_ns == 50 * MS
    assert timer.reasoning_chars == 10
    assert timer.visible_ns == [90 * MS]


def test_reasoning_without_text_has_no_time() -> None:
    """That there was some is all that a signature says."""
    timer = StreamTimer(ConverseDecoder())
    known = []
    for at_ms, said_now in ((50, {"text": "yes"}), (60, {"reasoningContent": {"signature": "EqQB"}})):
        timer.feed(read_at(at_ms), frames.delta(**said_now))
        known.append(timer.reasoned)
    assert known == [False, True]
    assert (timer.first_reasoning_ns, timer.reasoning_chars) == (None, 0)


def test_a_later_usage_replaces_what_it_names() -> None:
    """What only the earlier report said stays; the source is the latest one's."""
    timer = timed((read_at(1), counted(5, prompt_tokens=7)), (read_at(2), counted(9, reasoning=2)))
    assert timer.usage == Usage(input_tokens=7, output_tokens=9, reasoning_tokens=2, source="usage")


def test_identity_grows() -> None:
    """Later chunks may say more of the response, or something else."""
    first = event({"id": "r1", "model": "m-latest", "choices": []})
    second = event({"id": "r1", "model": "m-2026", "system_fingerprint": "fp", "choices": []})
    timer = timed((read_at(1), first), (read_at(2), second))
    assert timer.identity == Identity(response_id="r1", served_model="m-2026", system_fingerprint="fp")


def test_the_first_error_is_the_one_that_counts() -> None:
    """A fault ends the stream: what follows is not believed, and a second fault changes nothing."""
    timer = StreamTimer(ChatDecoder())
    assert timer.feed(read_at(1), event({"error": {"message": "first"}}) + event({"error": {"message": "second"}}))
    assert timer.fault is not None
    assert timer.fault.message == "first"


def test_malformed_data_ends_the_stream() -> None:
    """It is kept, and nothing behind it is decoded."""
    timer = StreamTimer(ChatDecoder())
    assert not timer.feed(read_at(1), said("a"))
    assert timer.feed(read_at(2), b"data: {broken\n\n" + said("b"))
    assert timer.malformed is not None
    assert len(timer.visible_ns) == 1


def test_the_terminator_ends_the_stream() -> None:
    """From then on `feed` says that it has all it wants."""
    timer = StreamTimer(ChatDecoder())
    assert not timer.feed(read_at(1), said("a") + finished("stop"))
    assert timer.feed(read_at(2), DONE)
    assert (timer.finish_reason, timer.terminated) == ("stop", True)


def test_a_last_event_without_its_blank_line_is_not_lost() -> None:
    """`finish` completes it, with the stamp of the last read."""
    timer = timed((read_at(1), said("a")), (read_at(5), said("b").rstrip(b"\n")))
    assert timer.visible_ns == [1 * MS, 5 * MS]


def test_a_body_without_bytes_says_nothing() -> None:
    """Nothing is made up."""
    timer = timed()
    assert (timer.reads, timer.visible_ns, timer.terminated, timer.over) == (0, [], False, False)


def test_unknown_events_are_counted() -> None:
    """They are no error, but they are told."""
    assert timed((read_at(1), event({"object": "novelty"}))).unknown_events == 1


def test_who_watches_gets_each_text_behind_its_stamp() -> None:
    """`on_text` is called for each visible chunk, when the timer has noted it."""
    seen: list[tuple[int, str]] = []
    timer = StreamTimer(ChatDecoder(), lambda timer, text: seen.append((len(timer.visible_ns), text)))
    timer.feed(read_at(1), thought("hm") + said("a", "b"))
    assert seen == [(1, "a"), (2, "b")]


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=20))
def test_counts_add_up(chunks_per_read: list[int]) -> None:
    """However chunks fall into reads: none is lost, and each read with company is counted once."""
    pieces = [(read_at(10 * n), said(*"x" * chunks)) for n, chunks in enumerate(chunks_per_read, 1)]
    timer = timed(*pieces)
    assert len(timer.visible_ns) == sum(chunks_per_read)
    assert timer.coalesced_reads == sum(chunks > 1 for chunks in chunks_per_read)
    assert timer.first_read_coalesced == (chunks_per_read[0] > 1)
    assert timer.visible_ns == sorted(timer.visible_ns)

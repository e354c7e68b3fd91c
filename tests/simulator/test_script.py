"""What is written when: the promise, without a clock."""

from __future__ import annotations

import itertools
import random
import zlib

import msgspec
import pytest

from llmbench.simulator.apis.base import Call
from llmbench.simulator.apis.openai_chat import ChatStream
from llmbench.simulator.behaviour import behaviour_of
from llmbench.simulator.flavours import flavour_of
from llmbench.simulator.framing import repacked
from llmbench.simulator.problems import Problem
from llmbench.simulator.script import Content, Ending, Script, Step, make_plan

MS = 1_000_000


def _steps(words: str, *, budget: int = 64, seed: int = 1, provider: str = "groq") -> list[Step]:
    behaviour = behaviour_of(f"sim-{words}")
    assert behaviour is not None
    call = Call(
        flavour=flavour_of(provider), model="sim", body={}, behaviour=behaviour, sequence=1, created=1_700_000_000
    )
    plan = make_plan(behaviour, budget, 5)
    rng = random.Random(seed)
    script = Script(behaviour, ChatStream(call, plan), plan, Problem("server"), rng)
    return list(repacked(script.steps(), behaviour, rng))


def _due(steps: list[Step], content: Content = Content.VISIBLE) -> list[float]:
    return [step.due_ns / MS for step in steps if step.content is content]


def _bytes(steps: list[Step]) -> bytes:
    return b"".join(step.data if isinstance(step.data, bytes) else step.data(0) for step in steps)


def test_tokens_are_due_at_multiples_of_the_gap_behind_the_first() -> None:
    """Token k is due at ttft + k gaps, and the end takes the place of one more token."""
    steps = _steps("ttft200-gap20-tok4")
    assert _due(steps) == [200, 220, 240, 260]
    assert steps[-1].due_ns == 280 * MS
    assert steps[-1].ending is Ending.COMPLETE


def test_a_burst_is_one_write_of_several_events() -> None:
    """With burst<N>, N events share a write, every N gaps; the last write takes what is left."""
    steps = _steps("ttft100-gap10-tok7-burst3")
    visible = [step for step in steps if step.content is Content.VISIBLE]
    assert _due(steps) == [100, 130, 160]
    assert [_bytes([step]).count(b"data: ") for step in visible] == [3, 3, 1]


def test_a_chunk_is_one_event_of_several_tokens() -> None:
    """With chunk<N>, N tokens share an event, every N gaps."""
    visible = [step for step in _steps("ttft100-gap10-tok4-chunk2") if step.content is Content.VISIBLE]
    assert [step.due_ns / MS for step in visible] == [100, 120]
    assert [_bytes([step]).count(b"data: ") for step in visible] == [1, 1]
    assert b'"content":" the river"' in _bytes(visible)


@pytest.mark.parametrize(
    ("words", "reasoning", "visible"),
    [
        ("ttft100-reason300-gap10-tok2", [100], [400, 410]),
        ("ttft100-rtok3-gap10-tok2", [100, 110, 120], [130, 140]),
        ("ttft100-rtok2-reason50-gap10-tok1", [100, 110], [160]),
    ],
)
def test_reasoning_comes_before_the_visible_text(words: str, reasoning: list[float], visible: list[float]) -> None:
    """Reasoning deltas start at ttft; the visible text follows after a gap, or after the pause asked for."""
    steps = _steps(words)
    assert (_due(steps, Content.REASONING), _due(steps)) == (reasoning, visible)


def _contents(steps: list[Step]) -> list[str]:
    """Return the content of each delta that has some."""
    lines = [line[6:] for line in _bytes(steps).splitlines() if line.startswith(b"data: {")]
    deltas = [msgspec.json.decode(line)["choices"][0]["delta"] for line in lines]
    assert all(set(delta) <= {"role", "content"} for delta in deltas)
    return [delta["content"] for delta in deltas if delta.get("content")]


def test_thoughts_can_be_in_the_content() -> None:
    """With think, reasoning is text between tags that are split, at the times that it would have anyway."""
    steps = _steps("think-rtok2-tok2-ttft100-gap10")
    assert _contents(steps) == ["<thi", "nk>\n the", " river", "\n</thi", "nk>\n\n", " the", " river"]
    assert (_due(steps, Content.REASONING), _due(steps)) == ([100, 110], [120, 130])
    other = [step for step in steps if step.content is Content.OTHER]
    assert b"nk>\\n\\n" in _bytes([step for step in other if step.due_ns == 110 * MS])


def test_thoughts_without_an_answer_are_never_closed() -> None:
    """With budget the limit comes before the end tag; without reasoning there is no tag at all."""
    assert "".join(_contents(_steps("think-budget", budget=3))) == "<think>\n the river turns"
    assert _contents(_steps("think-tok2")) == [" the", " river"]


@pytest.mark.parametrize("provider", ["openai", "groq", "deepinfra", "any-other"])
def test_thoughts_in_the_content_are_the_same_everywhere(provider: str) -> None:
    """Where reasoning is hidden or has a field of its own, think shows it in the content all the same."""
    assert "".join(_contents(_steps("think-rtok1-tok1", provider=provider))) == "<think>\n the\n</think>\n\n the"


def test_jitter_is_bounded_reproducible_and_never_reorders() -> None:
    """The same seed gives the same times, each within the jitter; another seed gives others."""
    steps = _due(_steps("ttft100-gap10-tok50-jitter3"))
    plain = _due(_steps("ttft100-gap10-tok50"))
    assert steps == _due(_steps("ttft100-gap10-tok50-jitter3"))
    assert steps != _due(_steps("ttft100-gap10-tok50-jitter3", seed=2))
    assert steps == sorted(steps)
    assert all(abs(due - promised) <= 3 for due, promised in zip(steps, plain, strict=True))
    assert steps[0] == 100


def test_jitter_larger_than_the_gap_keeps_the_order_to_the_end() -> None:
    """However wild the jitter, no step is due before the one in front of it."""
    due = [step.due_ns for step in _steps("gap2-tok40-jitter30")]
    assert due == sorted(due)


@pytest.mark.parametrize(
    ("words", "budget", "reasoning", "visible", "exhausted"),
    [
        ("tok10", 64, 0, 10, False),
        ("tok100", 64, 0, 64, True),
        ("sim", 64, 0, 64, True),
        ("rtok10", 64, 10, 54, True),
        ("rtok100", 64, 64, 0, True),
        ("budget", 64, 64, 0, True),
        ("empty", 64, 0, 0, False),
        ("tok0", 64, 0, 0, False),
    ],
)
def test_the_plan_keeps_to_the_budget(words: str, budget: int, reasoning: int, visible: int, exhausted: bool) -> None:
    """Reasoning and visible text together never exceed the request's limit; reaching it is said."""
    behaviour = behaviour_of(f"sim-{words}" if words != "sim" else "sim")
    assert behaviour is not None
    plan = make_plan(behaviour, budget, 5)
    assert (plan.reasoning, plan.visible, plan.exhausted) == (reasoning, visible, exhausted)
    assert plan.output == reasoning + visible


def test_stamped_text_is_the_time_of_its_write() -> None:
    """A stamped token's text is whatever stamp its write was given."""
    visible = [step for step in _steps("stamp-tok2") if step.content is Content.VISIBLE]
    assert [callable(step.data) for step in visible] == [True, True]
    step = visible[1]
    assert callable(step.data)
    assert b'"content":" t123456789012345"' in step.data(123456789012345)


def test_crlf_changes_line_ends_only_and_splits_events() -> None:
    """With crlf, the pieces join to the same events with CRLF, and some split is between CR and LF."""
    steps = _steps("crlf-tok60")
    assert _bytes(steps) == _bytes(_steps("tok60")).replace(b"\n", b"\r\n")
    pieces = [step.data for step in steps if isinstance(step.data, bytes)]
    assert any(first.endswith(b"\r") and second.startswith(b"\n") for first, second in itertools.pairwise(pieces))
    assert _due(steps) == _due(_steps("tok60"))


def test_drip_sends_the_same_bytes_one_by_one() -> None:
    """With drip, every step has one byte, 50 ms behind the one before it."""
    steps = _steps("drip-tok1")
    assert _bytes(steps) == _bytes(_steps("tok1"))
    assert {len(step.data) for step in steps if isinstance(step.data, bytes)} == {1}
    gaps = {later.due_ns - earlier.due_ns for earlier, later in itertools.pairwise(steps)}
    assert gaps == {50 * MS}
    assert [step.ending for step in steps if step.ending] == [Ending.COMPLETE]


def test_badgzip_packs_the_same_bytes() -> None:
    """With badgzip, each write can be unpacked by itself, and all together are a whole gzip file."""
    steps = _steps("badgzip-tok3")
    unpacker = zlib.decompressobj(wbits=31)
    unpacked = [unpacker.decompress(step.data) for step in steps if isinstance(step.data, bytes)]
    assert b"".join(unpacked) == _bytes(_steps("tok3"))
    assert all(unpacked)
    assert unpacker.eof


def test_only_the_last_step_has_an_ending() -> None:
    """Whatever the words, a script ends once."""
    for words in ("tok3", "stall2", "truncate2", "reset0", "badchunk1", "errormid1", "errorobj", "silent", "flood1"):
        endings = [step.ending for step in _steps(words)]
        assert endings[-1] is not None, words
        assert endings[:-1] == [None] * (len(endings) - 1), words

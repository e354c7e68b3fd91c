"""How a stream is told to fill: seldom, little at a time, and only if anybody watches."""

from __future__ import annotations

import pytest

from llmbench.actors import progress
from llmbench.actors.bus import Bus
from llmbench.actors.progress import Progress
from llmbench.bridge.live import encode
from llmbench.ids import new_outcome_id
from llmbench.measure.timer import StreamTimer
from llmbench.messages import PROGRESS_TEXT, Job, RunProgress
from llmbench.wire.openai_chat import ChatDecoder
from tests.actors.engine import PROFILE
from tests.stores.documents import model

TIMER = StreamTimer(ChatDecoder())
JOB = Job(outcome_id=new_outcome_id(), model=model("m", provider="groq"), profile=PROFILE)


async def told(bus: Bus, *pieces: str) -> list[RunProgress]:
    """Stream these pieces of text to somebody who watches; return what is told."""
    with bus.subscribe() as watcher:
        tell = Progress(bus, JOB)
        for piece in pieces:
            tell(TIMER, piece)
        events = [await anext(watcher) for _ in range(watcher.waiting)]
    return [event for event in events if isinstance(event, RunProgress)]


async def test_pieces_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come meanwhile is told with the next one; nothing is left out."""
    times = iter([0.0, 1.0, 1.05, 1.09, 1.2])
    monkeypatch.setattr(progress, "perf_counter", lambda: next(times))
    first, second = await told(Bus(), "a", "b", "c", "d")
    assert (first.text, first.elapsed, second.text, second.cut) == ("a", 1.0, "bcd", 0)


@pytest.mark.parametrize("letter", ["x", "\x00", "\U0001f600"])
async def test_no_event_is_huge(monkeypatch: pytest.MonkeyPatch, letter: str) -> None:
    """Of an endless text its end is told, and how much is missing, however it came."""
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    (huge,) = await told(Bus(), letter * 1_000_000 + "end")
    assert (len(huge.text), huge.text[-3:]) == (PROGRESS_TEXT, "end")
    assert huge.cut == 1_000_003 - PROGRESS_TEXT
    assert len(huge.text.encode()) <= 4 * PROGRESS_TEXT
    assert len(encode(huge)) < 6 * PROGRESS_TEXT + 500  # a control character has six in JSON


async def test_many_pieces_at_once_are_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are those that come between two events."""
    times = iter([0.0, *(1.0 + n / 1_000_000 for n in range(10_000)), 2.0])
    monkeypatch.setattr(progress, "perf_counter", lambda: next(times))
    first, second = await told(Bus(), *("word " * 10_001).split(" ")[:10_001])
    assert (first.text, first.cut) == ("word", 0)
    assert (len(second.text), second.cut) == (PROGRESS_TEXT, 4 * 10_000 - PROGRESS_TEXT)
    assert second.elapsed == 2.0


async def test_nobody_watches() -> None:
    bus = Bus()
    with bus.subscribe(progress=False) as watcher:
        Progress(bus, JOB)(TIMER, "text")
        assert watcher.waiting == 0

"""The feed: what an engine tells arrives whole and in order, and the connection comes back by itself."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import ByteStream

from llmbench.actors.engine_requests import ENGINE_SOCKET, EngineAnswer, Pause, Watch
from llmbench.bridge import live
from llmbench.bridge.live import HEARTBEAT, Dropped, dropped, encode
from llmbench.messages import RunProgress
from llmbench.tui.connection import SocketWay
from llmbench.tui.feed import FeedError, LiveFeed, Trouble
from llmbench.tui.items import LinkChange, Unreadable
from llmbench.tui.ring import CAPACITY, Ring
from tests.stores.documents import moment
from tests.tui.engines import following, listening, progress, saying, started


def feed_of(folder: Path, silence: float = 20.0) -> LiveFeed:
    return LiveFeed(SocketWay(folder / ENGINE_SOCKET), silence=silence, now=moment)


async def test_what_an_engine_tells_arrives_in_order(tmp_path: Path) -> None:
    """First that the connection is there, and that it takes commands; then every event, and what the engine lost."""
    events = [started(number) for number in range(5)]
    async with (
        listening(tmp_path, saying(HEARTBEAT, *events, dropped(7))) as engine,
        following(feed_of(tmp_path)) as it,
    ):
        items = await it.until(lambda items: Dropped(count=7) in items)
    assert engine.asked == [Watch(progress=True)]
    assert items == [
        LinkChange(status="connecting", at=moment()),
        LinkChange(status="live", at=moment(), commands=True),
        *events,
        Dropped(count=7),
    ]


async def test_large_events_are_dropped_before_they_fill_the_memory(tmp_path: Path) -> None:
    """By their size on the wire: of three of which two fit, the first goes, and is counted."""
    large = [msgspec.structs.replace(progress(number), text="x" * 5000) for number in range(3)]
    feed = LiveFeed(SocketWay(tmp_path / ENGINE_SOCKET), now=moment, ring=Ring(most_bytes=12_000))
    async with listening(tmp_path, saying(b"".join(map(encode, large)), stay=True)), following(feed) as it:
        items = await it.until(lambda items: any(isinstance(item, Dropped) for item in items))
    assert [item for item in items if not isinstance(item, LinkChange)] == [*large[1:], Dropped(count=1)]


async def test_a_heartbeat_is_heard_and_is_no_event(tmp_path: Path) -> None:
    async with listening(tmp_path, saying(HEARTBEAT)), following(feed_of(tmp_path)) as it:
        await it.until(lambda _: bool(it.heard))
        assert it.events == []


async def test_an_engine_that_ends_each_connection_at_once_is_asked_less_and_less(tmp_path: Path) -> None:
    """Events that come in between change nothing of that."""
    async with listening(tmp_path, saying(started(1), stay=False)) as engine, following(feed_of(tmp_path)):
        await anyio.sleep(3)
    assert 2 <= len(engine.asked) <= 6


async def test_an_engine_that_ends_is_lost_and_found_again(tmp_path: Path) -> None:
    """Between two engines the reason is told; the second is followed without anybody's doing."""
    async with following(feed_of(tmp_path)) as it:
        async with listening(tmp_path, saying(started(1), stay=False)):
            await it.until_there(started(1))
        await it.until(lambda _: any(change.status == "lost" for change in it.changes))
        async with listening(tmp_path, saying(started(2))):
            await it.until_there(started(2))
    assert [change.status for change in it.changes][-1] == "live"
    assert it.events[0] == started(1)
    assert it.events[-1] == started(2)


START = "start one with llmbench tui or llmbench --headless"


async def test_no_engine(tmp_path: Path) -> None:
    """The socket that is not there is named; the same reason is told once, however often it is tried."""
    async with following(feed_of(tmp_path)) as it:
        assert await it.until_lost() == f"no engine runs: there is no {tmp_path / ENGINE_SOCKET}; {START}"
        async with listening(tmp_path, saying(started(1))):
            await it.until_there(started(1))
    assert [change.status for change in it.changes] == ["connecting", "lost", "live"]


async def test_an_engine_that_was_killed(tmp_path: Path) -> None:
    """Its socket is still there, and nobody listens."""
    async with await anyio.create_unix_listener(tmp_path / ENGINE_SOCKET):
        pass
    async with following(feed_of(tmp_path)) as it:
        assert await it.until_lost() == f"no engine runs: nobody listens at {tmp_path / ENGINE_SOCKET}; {START}"


async def test_a_silent_engine_is_lost(tmp_path: Path) -> None:
    """One that was heard and then says nothing, not even a heartbeat."""
    async with listening(tmp_path, saying(HEARTBEAT)), following(feed_of(tmp_path, silence=0.05)) as it:
        assert await it.until_lost() == "nothing was heard of the engine for 0.05 s"
    assert it.changes[1].status == "live"


async def test_a_frozen_engine_is_never_live(tmp_path: Path) -> None:
    """Its system takes the connection; it does not answer."""
    async with listening(tmp_path, saying()), following(feed_of(tmp_path, silence=0.05)) as it:
        await it.until_lost()
    assert all(change.status != "live" for change in it.changes)


async def test_a_frame_that_is_none_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    noise = b"event: RunStarted\ndata: {}\n\n"
    async with listening(tmp_path, saying(noise, started(1))), following(feed_of(tmp_path)) as it:
        await it.until_there(started(1))
    unreadable, event = it.events
    assert isinstance(unreadable, Unreadable)
    assert unreadable.why.startswith("event can't be read")
    assert event == started(1)


async def test_an_event_of_a_newer_engine_is_passed_over(tmp_path: Path) -> None:
    newer = b'event: Weather\ndata: {"type":"Weather"}\n\n'
    async with listening(tmp_path, saying(newer, started(1))), following(feed_of(tmp_path)) as it:
        await it.until_there(started(1))
    assert it.events == [started(1)]


async def test_a_frame_without_end_ends_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not for whoever sends to take."""
    monkeypatch.setattr(live, "LONGEST_FRAME", 100_000)
    async with listening(tmp_path, saying(b"x" * 200_000)), following(feed_of(tmp_path)) as it:
        assert await it.until_lost() == "event of more than 100000 bytes"


async def test_a_refusal_is_told(tmp_path: Path) -> None:
    """In the engine's words, with nothing in them that a terminal would obey."""
    refusal = b'{"error":"too many viewers: ask again\\u001b[31m"}\n'
    async with listening(tmp_path, saying(refusal, stay=False)), following(feed_of(tmp_path)) as it:
        assert await it.until_lost() == r"the engine says: too many viewers: ask again\x1b[31m"


async def test_trouble_is_told_as_whoever_started_the_engine_has_it(tmp_path: Path) -> None:
    """Before the engine was heard, and after."""

    def explain(reason: str, *, heard_before: bool) -> Trouble:
        return Trouble("lost" if heard_before else "connecting", "ended" if heard_before else "starting")

    feed = LiveFeed(SocketWay(tmp_path / ENGINE_SOCKET), explain=explain, now=moment)
    async with following(feed) as it:
        starting = LinkChange(status="connecting", at=moment(), reason="starting")
        await it.until_there(starting)
        async with listening(tmp_path, saying(HEARTBEAT, stay=False)):
            await it.until_there(LinkChange(status="lost", at=moment(), reason="ended"))
    assert [change.status for change in it.changes][:3] == ["connecting", "connecting", "live"]


async def test_a_flood_that_nobody_takes(tmp_path: Path) -> None:
    """Of 50,000 events what is kept is bounded, what is lost is counted, and no memory is taken for it."""
    flood = b"".join(map(encode, map(progress, range(1000))))
    finished = anyio.Event()

    async def pour(stream: ByteStream) -> None:
        await stream.send(encode(started(0)))
        for _ in range(50):
            await stream.send(flood)
        await stream.send(encode(started(1)))
        finished.set()
        await anyio.sleep_forever()

    feed = feed_of(tmp_path)
    tracemalloc.start()
    try:
        async with listening(tmp_path, pour), following(feed) as it:
            with anyio.fail_after(30):
                await finished.wait()
            _, peak = tracemalloc.get_traced_memory()
            items = await it.until_there(started(1))
    finally:
        tracemalloc.stop()
    kept = [item for item in items if isinstance(item, RunProgress)]
    lost = sum(item.count for item in items if isinstance(item, Dropped))
    assert len(kept) + lost == 50_000
    assert lost >= 50_000 - 2 * CAPACITY
    assert started(0) in items
    assert peak < 20 * 2**20


class TestCommands:
    """What a person asks for, and what is answered."""

    async def test_done(self, tmp_path: Path) -> None:
        async with listening(tmp_path, saying(b'{"done":"paused: groq"}\n')) as engine:
            assert await feed_of(tmp_path).command(Pause(lane="groq")) == EngineAnswer(done="paused: groq")
        assert engine.asked == [Pause(lane="groq")]

    async def test_not_done(self, tmp_path: Path) -> None:
        """The engine's sentence is its answer, not an error of the connection."""
        async with listening(tmp_path, saying(b'{"error":"there is no lane \'grok\'"}\n')):
            answer = await feed_of(tmp_path).command(Pause(lane="grok"))
        assert answer == EngineAnswer(error="there is no lane 'grok'")

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            (b"", "the engine ended before it answered"),
            (b'{"done":', "the engine ended before it answered"),
            (b'["what?"]\n', "the engine does not answer as this llmbench expects: is it another version?"),
            (b"x" * 100_000, "the engine does not answer as this llmbench expects: is it another version?"),
        ],
    )
    async def test_no_answer(self, tmp_path: Path, said: bytes, reason: str) -> None:
        async with listening(tmp_path, saying(said, stay=False)):
            with pytest.raises(FeedError) as caught:
                await feed_of(tmp_path).command(Pause())
        assert str(caught.value) == reason

    async def test_no_engine(self, tmp_path: Path) -> None:
        with pytest.raises(FeedError, match="no engine runs: there is no /"):
            await feed_of(tmp_path).command(Pause())

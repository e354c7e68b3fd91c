"""The engine's desk: who may watch and command, what they are sent, and what becomes of everybody else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import UNIXSocketStream

from llmbench.actors import local_socket
from llmbench.actors.bus import Bus
from llmbench.actors.engine_desk import EngineDesk
from llmbench.actors.engine_requests import (
    ENGINE_SOCKET,
    LONGEST_REQUEST,
    DisableModel,
    EnableModel,
    EngineAnswer,
    Order,
    Pause,
    Resume,
    RunNow,
    Watch,
)
from llmbench.actors.supervision import ActorDown
from llmbench.bridge.live import Dropped, Frames, parse
from llmbench.messages import LaneState, LiveEvent, RunProgress, RunStarted
from tests.stores.documents import NOON

LIMIT = 20.0
DONE = EngineAnswer(done="so be it")


def event(number: int, model_id: str = "m\n\ndata: x") -> RunStarted:
    return RunStarted(outcome_id=str(number), provider="groq", model_id=model_id, at=NOON)


class Desk:
    """A desk that is open, its bus, and what it was ordered to do."""

    def __init__(self, folder: Path, **options: float) -> None:
        self.path = str(folder / ENGINE_SOCKET)
        self.bus = Bus()
        self.orders: list[Order] = []
        self.desk = EngineDesk(self.bus, folder, self._obey, **options)

    async def _obey(self, order: Order) -> EngineAnswer:
        self.orders.append(order)
        return DONE

    async def connect(self) -> UNIXSocketStream:
        return await anyio.connect_unix(self.path)

    async def asked(self, *sent: bytes) -> list[EngineAnswer]:
        """Send lines on one connection, end it, and return the answers."""
        async with await self.connect() as stream:
            with contextlib.suppress(anyio.BrokenResourceError):  # it may have ended with a word before it was asked
                await stream.send(b"".join(sent))
            await stream.send_eof()
            return [msgspec.json.decode(line, type=EngineAnswer) for line in (await until_closed(stream)).splitlines()]


@asynccontextmanager
async def opened(folder: Path, **options: float) -> AsyncIterator[Desk]:
    desk = Desk(folder, **options)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            await group.start(desk.desk.run)
            yield desk
            group.cancel_scope.cancel()


async def until_closed(stream: UNIXSocketStream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received


class Watcher:
    """Reads frames; heartbeats are counted and passed over."""

    def __init__(self, stream: UNIXSocketStream) -> None:
        self.stream = stream
        self.heartbeats = 0
        self._frames = Frames()
        self._ready: list[bytes] = []

    async def next(self) -> LiveEvent | Dropped:
        while True:
            while not self._ready:
                self._ready = self._frames.feed(await self.stream.receive())
            told = parse(self._ready.pop(0))
            if told is not None:
                return told
            self.heartbeats += 1


@asynccontextmanager
async def watching(desk: Desk, **options: bool) -> AsyncIterator[Watcher]:
    """Watch, once the desk has begun to tell."""
    async with await desk.connect() as stream:
        await stream.send(request(Watch(**options)))
        while not desk.bus.attended:
            await anyio.lowlevel.checkpoint()
        yield Watcher(stream)


def request(asked: Order | Watch) -> bytes:
    return msgspec.json.encode(asked) + b"\n"


class TestWatching:
    async def test_first_how_things_are_and_then_what_happens(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as desk:
            state = LaneState(lane="groq", status="ok", at=NOON)
            desk.bus.publish(event(1))
            desk.bus.publish(state)
            async with watching(desk) as watcher:
                for number in range(2, 50):
                    desk.bus.publish(event(number))
                expected = [state, event(1), *map(event, range(2, 50))]
                assert [await watcher.next() for _ in expected] == expected
                assert watcher.heartbeats == 1

    async def test_without_progress(self, tmp_path: Path) -> None:
        """Who does not look at streams is not told how they fill, and nobody takes the trouble."""
        progress = RunProgress(outcome_id="1", provider="groq", model_id="m", visible_chunks=1, text="a", elapsed=0.1)
        async with opened(tmp_path) as desk, watching(desk, progress=False) as watcher:
            assert not desk.bus.watched
            desk.bus.publish(progress)
            desk.bus.publish(event(2))
            assert await watcher.next() == event(2)

    async def test_heartbeats_while_nothing_happens(self, tmp_path: Path) -> None:
        async with opened(tmp_path, heartbeat=0.01) as desk, watching(desk) as watcher:
            while watcher.heartbeats < 4:
                watcher._ready += watcher._frames.feed(await watcher.stream.receive())
                watcher.heartbeats += len(watcher._ready)
                watcher._ready.clear()
            desk.bus.publish(event(1))
            assert await watcher.next() == event(1)

    async def test_losses_are_told(self, tmp_path: Path) -> None:
        """A watcher that is slow loses the oldest, learns how many, and gets the newest."""
        async with opened(tmp_path) as desk, watching(desk) as watcher:
            for number in range(3000):  # nothing is read meanwhile: the ring has room for 1,024
                desk.bus.publish(event(number))
            told: list[LiveEvent | Dropped] = []
            while event(2999) not in told[-1:]:
                told.append(await watcher.next())
        lost = [one.count for one in told if isinstance(one, Dropped)]
        assert sum(lost) == 3000 - 1024
        assert len(told) - len(lost) == 1024

    async def test_who_reads_nothing_is_cut_off(self, tmp_path: Path) -> None:
        """It is forgotten; others, who read, are not affected."""
        async with opened(tmp_path, stuck=0.1) as desk, await desk.connect() as frozen, watching(desk) as watcher:
            await frozen.send(request(Watch()))
            while len(desk.bus._subscriptions) < 2:
                await anyio.lowlevel.checkpoint()
            number = 0
            while len(desk.bus._subscriptions) > 1:
                desk.bus.publish(event(number, "m" * 100_000))
                assert await watcher.next() == event(number, "m" * 100_000)
                number += 1

    @pytest.mark.parametrize("last", [b"", b"x", request(RunNow("groq"))])
    async def test_who_ends_or_says_more_is_done(self, tmp_path: Path, last: bytes) -> None:
        """A connection is for one thing: nothing that comes after is carried out."""
        async with opened(tmp_path) as desk:
            async with watching(desk) as watcher:
                if last:
                    await watcher.stream.send(last)
                    await until_closed(watcher.stream)
            while desk.bus.attended:
                await anyio.lowlevel.checkpoint()
            assert desk.orders == []

    async def test_the_end_of_the_engine_is_told(self, tmp_path: Path) -> None:
        """What was published last is sent before the connection ends."""
        last = LaneState(lane="groq", status="stopped", at=NOON)
        async with anyio.create_task_group() as group:
            desk = Desk(tmp_path)
            await group.start(desk.desk.run)
            stream = await desk.connect()
            await stream.send(request(Watch()))
            assert await stream.receive() == b": alive\n\n"
            await anyio.wait_all_tasks_blocked()
            desk.bus.publish(last)
            group.cancel_scope.cancel()
        with anyio.fail_after(LIMIT):
            async with stream:
                assert [parse(frame) for frame in Frames().feed(await until_closed(stream))] == [last]


class TestOrders:
    async def test_each_is_carried_out_and_answered(self, tmp_path: Path) -> None:
        """Several may come on one connection, and are answered in their order."""
        orders: list[Order] = [
            RunNow("groq"),
            RunNow("groq", "m"),
            Pause(),
            Resume("groq"),
            EnableModel("groq", "m"),
            DisableModel("groq", "m", "too dear"),
        ]
        async with opened(tmp_path) as desk:
            assert await desk.asked(*map(request, orders)) == [DONE] * len(orders)
            assert desk.orders == orders

    async def test_an_order_may_come_in_pieces(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as desk, await desk.connect() as stream:
            for byte in request(Pause("groq")):
                await stream.send(bytes([byte]))
            assert msgspec.json.decode(await stream.receive(), type=EngineAnswer) == DONE
            assert desk.orders == [Pause("groq")]

    @pytest.mark.parametrize("error", [RuntimeError("provoked"), OSError("no disk"), TimeoutError()])
    async def test_one_that_meets_a_bug(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        """Who gave it learns so, the log has the traceback, and the desk goes on, as do those who watch."""

        async def stumble(order: Order) -> EngineAnswer:
            if isinstance(order, Pause):
                raise error
            return DONE

        async with opened(tmp_path) as desk, watching(desk) as watcher:
            desk.desk._obey = stumble
            (failed, done) = await desk.asked(request(Pause()), request(Resume()))
            assert failed.error == f"pause failed: {type(error).__name__}; the engine's log says more"
            assert done == DONE
            desk.bus.publish(event(1))
            assert await watcher.next() == event(1)
        (record,) = caplog.records
        assert record.exc_info is not None
        assert record.exc_info[1] is error


class TestRefusals:
    @pytest.mark.parametrize(
        "sent",
        [
            b"hello\n",
            b"\n",
            b"\xff\n",
            b"[]\n",
            b"[" * 60_000 + b"\n",
            b"GET /live HTTP/1.1\r\n",
            b'{"ask": "stop"}\n',
            b'{"ask": "pause", "lane": ""}\n',
            b'{"ask": "pause", "lane": 1}\n',
            b'{"ask": "run_now"}\n',
            b'{"ask": "run_now", "provider": "\\ud800"}\n',
            b'{"ask": "run_now", "provider": "groq", "more": 1}\n',
            b'{"ask": "disable", "provider": "groq", "model_id": "m"}\n',
            b'{"ask": "pause", "lane": "%s"}\n' % (b"x" * 201),
        ],
    )
    async def test_what_is_no_request(self, tmp_path: Path, sent: bytes) -> None:
        """It is said to be none, and nothing that comes after it is carried out; the next connection is served."""
        async with opened(tmp_path) as desk:
            (answer,) = await desk.asked(sent, request(Pause()))
            assert "this is no request" in str(answer.error)
            assert len(str(answer.error)) < 5000
            assert desk.orders == []
            assert await desk.asked(request(Pause())) == [DONE]

    async def test_a_line_without_end(self, tmp_path: Path) -> None:
        """It is not read to its end."""
        async with opened(tmp_path) as desk:
            (answer,) = await desk.asked(b'"' + b"x" * (LONGEST_REQUEST + 10))
            assert "at most 65536 bytes" in str(answer.error)

    async def test_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the socket's mode, it neither sees nor commands anything."""
        async with opened(tmp_path) as desk:
            assert stat.S_IMODE((await anyio.Path(desk.path).stat()).st_mode) == 0o600
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
            for asked in (Watch(), Pause()):
                (answer,) = await desk.asked(request(asked))
                assert "another user" in str(answer.error)
            assert desk.orders == []

    async def test_so_many_and_no_more(self, tmp_path: Path) -> None:
        async with opened(tmp_path) as desk:
            streams = [await desk.connect() for _ in range(8)]
            await anyio.wait_all_tasks_blocked()
            (answer,) = await desk.asked()
            assert "too many" in str(answer.error)
            await streams[0].send(request(Pause()))
            assert msgspec.json.decode(await streams[0].receive(), type=EngineAnswer) == DONE
            for stream in streams:
                await stream.aclose()

    async def test_who_asks_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It does not keep a place for long, not even by sending a byte now and then."""
        monkeypatch.setattr(local_socket, "_IDLE_SECONDS", 0.1)
        async with opened(tmp_path) as desk, await desk.connect() as silent, await desk.connect() as slow:
            with anyio.fail_after(LIMIT):
                with contextlib.suppress(anyio.BrokenResourceError):
                    while True:
                        await slow.send(b"x")
                        await anyio.sleep(0.01)
                assert await until_closed(silent) == b""

    async def test_what_is_no_socket_stays(self, tmp_path: Path) -> None:
        (tmp_path / ENGINE_SOCKET).write_text("mine")
        with pytest.raises(ActorDown, match=r"llmbench tui can't attach to this engine: .*is no socket"):
            await Desk(tmp_path).desk.run()
        assert (tmp_path / ENGINE_SOCKET).read_text() == "mine"

    async def test_a_killed_engine_leaves_a_socket_that_is_replaced(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / ENGINE_SOCKET))
        async with opened(tmp_path) as desk:
            assert await desk.asked(request(Pause())) == [DONE]
        assert not (tmp_path / ENGINE_SOCKET).exists()

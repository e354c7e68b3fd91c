"""The spool's desk: who is answered, what, and what becomes of everybody else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
from anyio.abc import UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from llmbench.actors import local_socket
from llmbench.actors.local_socket import address
from llmbench.actors.spool_desk import SpoolDesk
from llmbench.actors.spool_requests import LONGEST_REQUEST, SOCKET, Line
from llmbench.actors.supervision import ActorDown
from llmbench.messages import StoreState
from llmbench.stores.spool import Spool
from tests.stores.documents import NOON
from tests.stores.spooling import filled, opened_spool

FAILING = StoreState(status="failing", at=NOON, waiting=3, reason="no route to host")


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Spool]:
    """A spool with its desk open."""
    async with opened_spool(folder) as spool, anyio.create_task_group() as group:
        await group.start(SpoolDesk(spool, folder, lambda: FAILING).run)
        yield spool
        group.cancel_scope.cancel()


async def asked(folder: Path, *requests: bytes) -> list[Line]:
    """Send lines on one connection, and return all that is answered until the other side or this one has enough."""
    with anyio.fail_after(20):
        async with await _connected(folder) as stream:
            with contextlib.suppress(anyio.BrokenResourceError):  # it may have ended with a word before it was asked
                await stream.send(b"".join(requests))
            await stream.send_eof()
            received = b""
            while True:
                try:
                    received += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return [msgspec.json.decode(line, type=Line) for line in received.splitlines()]


async def _connected(folder: Path) -> UNIXSocketStream:
    near = address(folder, SOCKET)
    place = await anyio.to_thread.run_sync(near.__enter__)
    try:
        return await anyio.connect_unix(place)
    finally:
        await anyio.to_thread.run_sync(near.__exit__, None, None, None)


def request(ask: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"ask": ask, **fields}) + b"\n"


class TestAnswers:
    """Whoever looks after the spool."""

    async def test_status(self, tmp_path: Path) -> None:
        """It tells the counts, the damages, and how the engine gets on with the store."""
        async with desk(tmp_path) as spool:
            await filled(spool, 3)
            (line,) = await asked(tmp_path, request("status"))
            assert line.answer is not None
            assert line.answer.status is not None
            assert line.answer.status.counts == await spool.counts()
            assert (line.answer.status.damages, line.answer.status.delivery) == ([], FAILING)

    async def test_pages(self, tmp_path: Path) -> None:
        """Rows come a hundred at a time, in order, as they are in the spool."""
        async with desk(tmp_path) as spool:
            await filled(spool, 120)
            kept = [one async for one in spool.export("waiting")]
            first = await asked(tmp_path, request("page", state="waiting"))
            rest = await asked(tmp_path, request("page", state="waiting", after=kept[99].seq, limit=50))
        assert [line.row for line in first[:-1]] == kept[:100]
        assert [line.row for line in rest[:-1]] == kept[100:]
        assert first[-1].answer is not None

    async def test_quarantine(self, tmp_path: Path) -> None:
        """Rows are found by their ids, released, all or some, and deleted."""
        async with desk(tmp_path) as spool:
            ids = [item.outcome.id for item in await filled(spool, 5)]
            for one in ids:
                await spool.quarantine(one, "rejected", "no such field")
            *found, _ = await asked(tmp_path, request("find", ids=[ids[0], "unknown"]))
            assert [line.row.id for line in found if line.row is not None] == [ids[0]]
            seqs = [line.row.seq for line in found if line.row is not None]
            answers = await asked(
                tmp_path,
                request("discard", seqs=seqs),
                request("retry", ids=ids[:2]),
                request("retry"),
                request("acknowledge"),
            )
            assert [line.answer.count for line in answers if line.answer is not None] == [1, 1, 3, 0]
            counts = await spool.counts()
            assert (counts.waiting, counts.quarantined) == (4, {})

    async def test_long_path(self, tmp_path: Path) -> None:
        """A folder whose path is longer than a socket's address may be has a desk, too."""
        folder = tmp_path / ("x" * 120)
        async with desk(folder):
            assert (await asked(folder, request("status")))[0].answer is not None
        assert not (folder / SOCKET).exists()

    async def test_failed_spool(self, tmp_path: Path) -> None:
        """What the spool says is told as it is."""
        async with desk(tmp_path) as spool:
            await spool.close()
            (line,) = await asked(tmp_path, request("status"))
            assert "is not open" in str(line.error)
            await spool.open()


class TestRefusals:
    """Everybody else."""

    @pytest.mark.parametrize(
        "sent",
        [
            b"hello\n",
            b"\xff\n",
            b"[]\n",
            b"[" * 60_000 + b"\n",
            request("drop"),
            request("page", state="all"),
            request("page", state="waiting", limit=101),
            request("page", state="waiting", after=2**64),
            request("discard", seqs=[-1]),
            request("retry", ids=["x"] * 101),
            request("status", more=1),
            b'{"ask": "retry", "ids": ["\\ud800"]}\n',
        ],
    )
    async def test_malformed(self, tmp_path: Path, sent: bytes) -> None:
        """What is no request is said to be none, and ends the connection; the next one is answered."""
        async with desk(tmp_path) as spool:
            await filled(spool, 1)
            (line,) = await asked(tmp_path, sent, request("status"))
            assert "this is no request" in str(line.error)
            assert len(str(line.error)) < 2100
            assert (await asked(tmp_path, request("status")))[0].answer is not None

    async def test_too_long(self, tmp_path: Path) -> None:
        """A line without end is not read to its end."""
        async with desk(tmp_path):
            (line,) = await asked(tmp_path, b'"' + b"x" * (LONGEST_REQUEST + 10))
            assert "at most 65536 bytes" in str(line.error)

    async def test_other_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process of another user learns nothing, whatever the socket's mode."""
        async with desk(tmp_path):
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
            (line,) = await asked(tmp_path, request("status"))
            assert "another user" in str(line.error)

    async def test_many(self, tmp_path: Path) -> None:
        """So many connections and no more; those that are open go on."""
        async with desk(tmp_path):
            streams = [await anyio.connect_unix(str(tmp_path / SOCKET)) for _ in range(8)]
            await anyio.wait_all_tasks_blocked()
            (line,) = await asked(tmp_path)
            assert "too many" in str(line.error)
            await streams[0].send(request("status"))
            assert b"counts" in await BufferedByteReceiveStream(streams[0]).receive_until(b"\n", 10_000)
            for stream in streams:
                await stream.aclose()

    async def test_silent_and_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who asks nothing, does not take the answer or goes away in the middle is cut off without any ado."""
        monkeypatch.setattr(local_socket, "_IDLE_SECONDS", 0.05)
        monkeypatch.setattr(local_socket, "_SEND_SECONDS", 0.05)
        async with desk(tmp_path) as spool:
            await filled(spool, 100)
            with socket.socket(socket.AF_UNIX) as lazy, socket.socket(socket.AF_UNIX) as gone:
                lazy.connect(str(tmp_path / SOCKET))
                lazy.sendall(request("page", state="waiting") * 20)
                gone.connect(str(tmp_path / SOCKET))
                gone.sendall(request("page", state="waiting") * 20)
                await anyio.sleep(0.02)
                gone.close()
                async with await anyio.connect_unix(str(tmp_path / SOCKET)) as silent:
                    with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
                        await silent.receive()
                await anyio.sleep(0.1)
            assert (await asked(tmp_path, request("status")))[0].answer is not None


class TestPlace:
    """The socket's file."""

    async def test_stale(self, tmp_path: Path) -> None:
        """A killed engine's socket is replaced, and this one's is removed at the end."""
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / SOCKET))
        (tmp_path / SOCKET).chmod(0o644)
        async with desk(tmp_path):
            assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
            assert (await asked(tmp_path, request("status")))[0].answer is not None
        assert not (tmp_path / SOCKET).exists()

    async def test_something_else(self, tmp_path: Path) -> None:
        """What is no socket stays, and the desk says so."""
        (tmp_path / SOCKET).write_text("mine")
        async with opened_spool(tmp_path) as spool:
            with pytest.raises(ActorDown, match="is no socket"):
                await SpoolDesk(spool, tmp_path, lambda: None).run()
        assert (tmp_path / SOCKET).read_text() == "mine"

    def test_no_way_around_a_long_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system offers none, that is said."""
        monkeypatch.setattr(Path, "is_dir", lambda _: False)
        with pytest.raises(OSError, match="too long"), address(tmp_path / ("x" * 120), SOCKET):
            pass

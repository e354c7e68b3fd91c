"""Faults at the engine's socket, one test a row of the fault matrix: viewers that die, stop or lag, and strangers."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import gettempdir
from time import monotonic

import anyio
import anyio.to_thread
import msgspec
import pytest

from llmbench.actors.bus import Bus
from llmbench.actors.engine_desk import EngineDesk
from llmbench.actors.engine_requests import ENGINE_SOCKET, EngineAnswer, Order, Pause, RunNow, Watch
from llmbench.bridge.live import Dropped, Frames, parse
from llmbench.messages import LiveEvent, RunProgress, RunStarted
from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import SECONDS, SOURCES, Place, ended, until_logged
from tests.e2e.watching import CHUNK, Viewer, connected, folder_of, line, ordered, send, until_ended
from tests.faults.memory import resident
from tests.stores.documents import NOON

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path, simulator: SpawnedSimulator) -> Place:
    return Place(tmp_path, simulator)


VIEWER = """
import socket, sys
near = socket.socket(socket.AF_UNIX)
near.connect(sys.argv[1])
near.sendall(b'{"ask":"watch"}\\n')
print(len(near.recv(65536)), flush=True)
sys.stdin.readline()
while chunk := near.recv(65536):
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
"""
"""Watches, and writes what comes, once it is told to."""


@contextmanager
def viewing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a viewer as a process of its own; it has begun to watch."""
    with subprocess.Popen(
        [sys.executable, "-c", VIEWER, path.name],
        cwd=path.parent,
        env={"PYTHONPATH": SOURCES},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 0
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_K16_a_viewer_that_dies_or_stops_changes_nothing(place: Place, number: signal.Signals) -> None:
    """The engine measures, obeys, shows itself to others, and ends in good order and in time."""
    name = unique("ttft20-gap5-tok64")
    place.configure(groq=[name])
    folder = folder_of(place)
    with place.started("--headless") as process:
        before = until_logged(process, name)
        with viewing(folder / ENGINE_SOCKET) as viewer, connected(folder) as near:
            other = Viewer(near)
            viewer.send_signal(number)
            assert ordered(folder, RunNow("groq", name)).error is None
            before += until_logged(process, name)
            other.until(lambda event: isinstance(event, RunStarted))
            began = monotonic()
            done = ended(process, signal.SIGTERM, before=before)

    assert (done.code, done.err) == (0, "")
    assert monotonic() - began < 15
    assert len(place.samples()) == len(done.runs()) == 2
    assert not [line for line in done.lines() if line["level"] in ("warning", "error")]


async def test_K16_what_a_viewer_was_too_slow_for_is_counted(tmp_path: Path) -> None:
    """A frozen viewer is offered 50,000 events: nobody waits, no more than a ring of them is kept, and it is told."""
    count = 50_000
    bus = Bus()
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            await group.start(EngineDesk(bus, tmp_path, _no_orders).run)
            async with _viewing(tmp_path / ENGINE_SOCKET) as viewer:
                viewer.send_signal(signal.SIGSTOP)
                began = monotonic()
                for number in range(count):
                    bus.publish(_progress(number))
                    if number % 500 == 0:
                        await anyio.lowlevel.checkpoint()
                published = monotonic() - began
                (ring,) = [one.waiting for one in bus._subscriptions]
                viewer.send_signal(signal.SIGCONT)
                bus.publish(RunStarted(outcome_id="last", provider="groq", model_id="m", at=NOON))
                told = await anyio.to_thread.run_sync(_until_last, viewer)
            group.cancel_scope.cancel()

    lost = sum(event.count for event in told if isinstance(event, Dropped))
    assert lost + sum(isinstance(event, RunProgress) for event in told) == count
    assert lost > count / 2
    assert ring <= 1024
    assert published < 5


async def _no_orders(_order: Order) -> EngineAnswer:
    raise AssertionError("nobody gives any")


@asynccontextmanager
async def _viewing(path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a viewer without keeping the loop from its desk meanwhile."""
    running = viewing(path)
    process = await anyio.to_thread.run_sync(running.__enter__)
    try:
        yield process
    finally:
        await anyio.to_thread.run_sync(running.__exit__, None, None, None)


def _progress(number: int) -> RunProgress:
    return RunProgress(
        outcome_id="1", provider="groq", model_id="m", visible_chunks=number, text="word " * 10, elapsed=1.0
    )


def test_X17_what_is_no_request_is_refused(place: Place) -> None:
    """Rubbish, HTTP, half a request, a line of a gigabyte: each is refused at once, and none of it is kept.

    The engine obeys its owner as before.
    """
    name = unique()
    place.configure(groq=[name])
    folder = folder_of(place)
    with place.started("--headless") as process:
        before = until_logged(process, name)
        for rubbish in (b"\x00" * 100 + b"\n", b"GET / HTTP/1.1\r\n\r\n", b"event: Pause\ndata: {}\n\n", b"[" * 65_000):
            with connected(folder) as near:
                send(near, rubbish + b"\n")
                answer = msgspec.json.decode(until_ended(near, b"\n"), type=EngineAnswer)
                assert "this is no request" in str(answer.error)
        with connected(folder) as near:
            send(near, line(Pause())[:-3])
        held = resident(process.pid)
        sent = _pour(folder, 2**30)
        assert sent < 8 * 2**20
        assert resident(process.pid) - held < 16 * 2**20
        assert ordered(folder, RunNow("groq", name)).error is None
        before += until_logged(process, name)
        done = ended(process, signal.SIGTERM, before=before)

    assert (done.code, done.err, len(place.samples())) == (0, "", 2)


def _pour(folder: Path, size: int) -> int:
    """Send one line of so many bytes; return how many were taken before the engine ended it."""
    sent = 0
    with connected(folder) as near:
        try:
            while sent < size:
                sent += near.send(b"x" * CHUNK)
        except (BrokenPipeError, ConnectionResetError):
            pass
    return sent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_X17_another_user_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder keeps it out; if somebody opened folder and socket to all, the engine itself does."""
    name = unique()
    place.configure(groq=[name])
    folder = folder_of(place)
    with place.started("--headless") as process:
        before = until_logged(process, name)
        monkeypatch.chdir(folder)  # an address has a hundred bytes, which the folder's path may use up
        with pytest.raises(PermissionError), _somebody_else(), socket.socket(socket.AF_UNIX) as near:
            near.connect(ENGINE_SOCKET)
        for part in (folder, *folder.parents):
            if part.stat().st_uid == 0 and part.is_relative_to(gettempdir()):
                part.chmod(part.stat().st_mode | 0o055)
        (folder / ENGINE_SOCKET).chmod(0o666)
        for asked in (Watch(), Pause()):
            with socket.socket(socket.AF_UNIX) as near:
                near.settimeout(SECONDS)
                with _somebody_else():
                    near.connect(ENGINE_SOCKET)
                send(near, line(asked))
                answer = msgspec.json.decode(until_ended(near), type=EngineAnswer)
            assert answer.error == "this engine belongs to another user"
        assert ordered(folder, RunNow("groq", name)).done == f"groq/{name} is due now"
        done = ended(process, signal.SIGTERM, before=before)
    assert done.code == 0


@contextmanager
def _somebody_else() -> Iterator[None]:
    """Connect as another user: the kernel notes who it was that connected."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _until_last(viewer: subprocess.Popen[bytes]) -> list[LiveEvent | Dropped | None]:
    assert viewer.stdin is not None
    assert viewer.stdout is not None
    viewer.stdin.write(b"\n")
    viewer.stdin.flush()
    frames = Frames()
    told: list[LiveEvent | Dropped | None] = []
    while not (told and isinstance(told[-1], RunStarted)):
        told += [parse(frame) for frame in frames.feed(os.read(viewer.stdout.fileno(), CHUNK))]
    return told

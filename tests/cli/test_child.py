"""An engine as a child of a viewer: found by its socket, ended gracefully, and clear about why it could not start."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from llmbench.actors.engine_requests import ENGINE_SOCKET, Pause, RunNow
from llmbench.cli import child
from llmbench.cli.child import LOG, AlreadyStarted, Child, last_lines
from llmbench.cli.tui import _started
from llmbench.cli.watching import how_it_ended
from llmbench.config import Config, load
from llmbench.log_file import LIMIT_BYTES
from llmbench.messages import LaneFigures, LaneState, RunFinished, RunStarted
from llmbench.simulator import SpawnedSimulator
from llmbench.tui.connection import SocketWay
from llmbench.tui.feed import LiveFeed, Trouble
from llmbench.tui.items import FeedItem
from tests.actors.engine import unique
from tests.e2e.program import KEYS, Place
from tests.tui.engines import following


@pytest.fixture
def place(tmp_path: Path, simulator: SpawnedSimulator) -> Place:
    return Place(tmp_path, simulator)


def configure(place: Place, *models: str) -> Config:
    """Configure one lane with these models, and a spool in the test's folder."""
    place.configure(groq=models)
    path = place.folder / "config.toml"
    path.write_text(path.read_text() + '\n[spool]\nfolder = "spool"\n')
    return load(place.folder / "config.toml", place.environment(KEYS))


@asynccontextmanager
async def started(place: Place, config: Config) -> AsyncIterator[Child]:
    """Start an engine there, and have it ended in the end."""
    engine = child.start(config, place.environment(KEYS))
    try:
        yield engine
    finally:
        if engine.code is None:
            os.kill(engine.pid, signal.SIGKILL)
            await engine.ended()


async def test_an_engine_is_started_watched_and_ended(place: Place) -> None:
    """It is said to start until it is heard; it tells its runs; it ends well, and its log is beside its spool."""
    config = configure(place, unique())
    folder = config.spool_folder
    async with started(place, config) as engine:
        feed = LiveFeed(SocketWay(folder / ENGINE_SOCKET), explain=engine.explain)
        async with following(feed) as it:
            await it.until(lambda items: any(map(_is_measured, items)))
            begun = len(it.items)
            assert (await feed.command(RunNow(provider="groq"))).error is None
            items = await it.until(lambda items: any(isinstance(item, RunFinished) for item in items[begun:]))
        assert any(isinstance(item, RunStarted) for item in items[begun:])
        assert [change.status for change in it.changes if change.status != "connecting"] == ["live"]
        assert any(str(engine.pid) in (change.reason or "") for change in it.changes)
        assert any(isinstance(item, LaneState) and (item.lane, item.status) == ("groq", "ok") for item in items)
        engine.terminate()
        with anyio.fail_after(20):
            assert await engine.ended() == 0
        assert engine.ended_by is None
        assert how_it_ended(engine, heard=True) == "the engine ended with exit code 0"
    assert engine.log == folder / LOG
    assert engine.log.stat().st_mode & 0o777 == 0o600
    assert engine.last_lines()[-1].startswith("ended: ")


def _is_measured(item: FeedItem) -> bool:
    """Say whether this tells that the lane's models are all measured, and stored: what is in flight is never due."""
    return isinstance(item, LaneFigures) and item.next_due is not None


async def test_an_engine_that_can_not_start_says_why(place: Place) -> None:
    """Its exit code and its last words are told, and stay to be read."""
    async with started(place, configure(place)) as engine:
        with anyio.fail_after(20):
            assert await engine.ended() == 2
    trouble = engine.explain("nobody is there", heard_before=False)
    assert trouble.status == "lost"
    assert trouble.reason.startswith("the engine that this window started ended with exit code 2: ")
    assert engine.last_lines()[0].startswith(
        "llmbench: there is nothing to measure: the catalogue has no enabled model"
    )


async def test_an_engine_that_is_stopped_before_it_listens(place: Place) -> None:
    """Its end is the signal's own, and is told as what it was; that of one which heeds a signal is not."""
    async with started(place, configure(place, unique())) as engine:
        engine.terminate()
        with anyio.fail_after(20):
            assert await engine.ended() == 128 + signal.SIGTERM
        assert engine.ended_by == signal.SIGTERM
        assert how_it_ended(engine, heard=False) == "the engine was stopped before it had begun (exit code 143)"


async def test_an_engine_that_is_killed(place: Place) -> None:
    """Who watches it learns that it ended, with the exit code that a shell would give it."""
    config = configure(place, unique())
    async with started(place, config) as engine:
        feed = LiveFeed(SocketWay(config.spool_folder / ENGINE_SOCKET), explain=engine.explain)
        async with following(feed) as it:
            await it.until_live()
            os.kill(engine.pid, signal.SIGKILL)
            told = "the engine that this window started ended with exit code 137"
            await it.until(lambda _: any((change.reason or "").startswith(told) for change in it.changes))


def test_what_an_engine_goes_through_does_not_end_with_the_window(place: Place) -> None:
    """It has a session of its own: neither a terminal's Ctrl-C nor its end is sent to it."""
    engine = child.start(configure(place, unique()), place.environment(KEYS))
    try:
        assert os.getsid(engine.pid) == engine.pid
    finally:
        os.kill(engine.pid, signal.SIGKILL)
        anyio.run(engine.ended)


STARTS_ONE = """
import os, sys
from pathlib import Path
from llmbench.cli import child
from llmbench.config import load
engine = child.start(load(Path("config.toml"), os.environ), os.environ, ends_with_us=sys.argv[1] == "ends")
print(engine.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ends", [True, False])
async def test_what_becomes_of_an_engine_whose_window_is_killed(place: Place, *, ends: bool) -> None:
    """One that is there for the window alone ends in good order; every other goes on, and is found by the next."""
    config = configure(place, unique())
    way = SocketWay(config.spool_folder / ENGINE_SOCKET)
    command = [sys.executable, "-c", STARTS_ONE, "ends" if ends else "stays"]
    async with await anyio.open_process(command, cwd=place.folder, env=place.environment(KEYS), stderr=None) as window:
        assert window.stdout is not None
        number = int(await window.stdout.receive())
        engine = os.pidfd_open(number)
        try:
            async with following(LiveFeed(way)) as it:
                await it.until(lambda items: any(map(_is_measured, items)))
                window.kill()
                await window.wait()
                if ends:
                    await it.until_lost()
                else:
                    heard = len(it.items)
                    await it.until(lambda items: any(isinstance(item, LaneFigures) for item in items[heard:]))
                    signal.pidfd_send_signal(engine, signal.SIGTERM)
            with anyio.fail_after(20):
                await anyio.wait_readable(engine)
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(engine, signal.SIGKILL)
            os.close(engine)
    log = last_lines(config.spool_folder / LOG)
    assert log[-1] == "ended: 1 outcomes recorded, 1 stored, 0 wait in the spool, 0 lost"
    assert any("has ended without a word" in line for line in log) == ends


async def test_the_log_does_not_grow_without_bound(place: Place) -> None:
    """The engine keeps it and one old one, for its owner alone."""
    config = configure(place, unique())
    old = config.spool_folder / f"{LOG}.1"
    async with started(place, config) as engine:
        feed = LiveFeed(SocketWay(config.spool_folder / ENGINE_SOCKET), explain=engine.explain)
        async with following(feed) as it:
            await it.until(lambda items: any(map(_is_measured, items)))
            with engine.log.open("a") as log:
                log.truncate(LIMIT_BYTES)
            assert (await feed.command(Pause())).error is None
        engine.terminate()
        with anyio.fail_after(20):
            assert await engine.ended() == 0
    assert old.stat().st_size == LIMIT_BYTES
    assert "from the dashboard: all lanes are paused" in engine.log.read_text()
    assert {one.stat().st_mode & 0o777 for one in (engine.log, old)} == {0o600}


async def test_an_engine_that_another_window_started_is_left_alone(place: Place) -> None:
    """From its first moment to its last, whether it answers or not; its log stays its own."""
    config = configure(place, unique())
    async with started(place, config) as engine:
        before = engine.log.stat().st_ino
        with pytest.raises(AlreadyStarted):
            child.start(config, place.environment(KEYS))
        assert engine.log.stat().st_ino == before
        os.kill(engine.pid, signal.SIGKILL)
        await engine.ended()
        async with started(place, config) as another:
            assert another.code is None


async def test_two_windows_at_once_start_one_engine(place: Place) -> None:
    """The second one watches the engine of the first."""
    config = configure(place, unique())
    found: list[Child | None] = []
    way = SocketWay(config.spool_folder / ENGINE_SOCKET)

    async def window() -> None:
        found.append(await _started(config, way, place.environment(KEYS)))

    async with anyio.create_task_group() as group:
        group.start_soon(window)
        group.start_soon(window)
    engine, nothing = sorted(found, key=lambda one: one is None)
    assert (type(engine), nothing, await way.answers()) == (Child, None, True)
    assert engine is not None
    engine.terminate()
    with anyio.fail_after(20):
        assert await engine.ended() == 0


async def test_an_end_that_is_known_already_is_not_waited_for(place: Place) -> None:
    """A process that was seen to have ended has no number any more."""
    async with started(place, configure(place)) as engine:
        await anyio.to_thread.run_sync(engine._process.wait)
        assert await engine.ended() == engine.code == 2


def test_the_log_of_the_engine_before_is_kept(place: Place) -> None:
    """One log is kept beside the new one."""
    config = configure(place)
    folder = config.spool_folder
    folder.mkdir(parents=True, mode=0o700)
    (folder / LOG).write_text("earlier\n")
    engine = child.start(config, place.environment(KEYS))
    anyio.run(engine.ended)
    assert (folder / f"{LOG}.1").read_text() == "earlier\n"
    assert "earlier" not in engine.last_lines()


def test_what_a_log_says_is_safe_to_show(tmp_path: Path) -> None:
    """Messages of its lines, and lines that are none as they are; foreign escapes are visible; only the end."""
    log = tmp_path / LOG
    log.write_text(
        "first\n" * 100
        + '{"level":"error","message":"no \\u001b[31mroute"}\n\nllmbench: \x1b[2Jgone\n{"event":"run","model":"m"}\n'
    )
    assert last_lines(log)[-2:] == [r"no \x1b[31mroute", r"llmbench: \x1b[2Jgone"]
    assert len(last_lines(log)) <= 9
    assert last_lines(tmp_path / "none") == []


def test_an_engine_that_was_heard_is_lost_for_the_reason_of_the_connection(place: Place) -> None:
    engine = child.start(configure(place, unique()), place.environment(KEYS))
    try:
        assert engine.explain("nothing was heard", heard_before=True) == Trouble("lost", "nothing was heard")
        assert engine.explain("nobody is there", heard_before=False).status == "connecting"
    finally:
        os.kill(engine.pid, signal.SIGKILL)
        anyio.run(engine.ended)

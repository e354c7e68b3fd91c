"""The event loop's own watch: how long it was away, and since when it was blind."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import threading
from time import perf_counter_ns

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbench.measure.loopwatch import HeldUp, LoopWatch, current_watch
from tests.measure.support import MS, stall

HOUR = 3600 * 1_000_000_000
"""Far longer than any real absence of a test's loop."""


async def test_a_blocking_call_is_seen() -> None:
    """30 ms of blocking are the worst absence of everything that was going on meanwhile."""
    start = perf_counter_ns()
    stall(0.03)
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    assert current_watch().worst_since(start) >= 30 * MS


async def test_the_current_iteration_counts() -> None:
    """A run that ends right behind the blocking call has seen it, though the loop has not come round yet."""
    start = perf_counter_ns()
    stall(0.03)
    assert current_watch().worst_since(start) >= 30 * MS


async def test_what_was_before_does_not_count() -> None:
    """Blocking of 200 ms is not charged to a run that begins behind it."""
    stall(0.2)
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    start = perf_counter_ns()
    await anyio.sleep(0.01)
    assert current_watch().worst_since(start) < 200 * MS


async def test_waiting_is_no_absence() -> None:
    """An idle loop looks at its sockets all the time."""
    start = perf_counter_ns()
    await anyio.sleep(0.2)
    assert current_watch().worst_since(start) < 200 * MS


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=60), st.integers(0, 1500))
def test_the_worst_of_any_stretch_is_remembered(absences: list[tuple[int, int]], start: int) -> None:
    """Whatever is forgotten on the way, the answer is the longest absence that ended since the start."""
    watch = LoopWatch()
    ended, seen = 0, list[tuple[int, int]]()
    for step, absence in absences:
        ended += step
        watch._note_absence(ended, absence * HOUR)
        seen.append((ended, absence * HOUR))
    expected = max((absence for end, absence in seen if end >= start), default=0)
    found = watch.worst_since(start)
    watch.close()
    assert found == expected or found < HOUR > expected


async def test_a_loop_that_waited_is_blind_since_it_woke_up() -> None:
    """What is read behind a wait arrived as the wait ended."""
    before = perf_counter_ns()
    await anyio.sleep(0.05)
    assert before < current_watch().blind_since_ns <= perf_counter_ns()


async def test_a_loop_that_was_away_is_blind_since_before_that() -> None:
    """What is read behind a blocking call may be as old as the call; one turn later it can't be any more."""
    watch = current_watch()
    await anyio.sleep(0.01)
    before = perf_counter_ns()
    stall(0.03)
    await anyio.lowlevel.checkpoint()
    assert watch.blind_since_ns <= before
    await anyio.lowlevel.checkpoint()
    assert watch.blind_since_ns >= before + 30 * MS


class _Busy(selectors.DefaultSelector):
    """A selector on a busy machine: it is kept from returning for 2 ms."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        stall(0.002)
        return ready


class _BusyWatch(LoopWatch, _Busy):
    """Watches that one."""


def test_a_busy_machine_does_not_pass_for_a_wait() -> None:
    """Bytes lay ready behind an absence: that the call itself took long doesn't mean that it had to wait for them."""
    ours, theirs = socket.socketpair()
    with _BusyWatch() as watch, ours, theirs:
        watch.register(ours, selectors.EVENT_READ)
        watch.select(0)
        before = perf_counter_ns()
        theirs.send(b"x")
        stall(0.005)
        assert watch.select(5.0)
        assert watch.blind_since_ns <= before
        ours.recv(1)
        stall(0.005)
        waited_from = perf_counter_ns()
        watch.select(0.01)
        assert watch.blind_since_ns > waited_from


_HOG = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[2])})
from socket import fromfd, AF_UNIX, SOCK_STREAM
ours = fromfd(int(sys.argv[1]), AF_UNIX, SOCK_STREAM)
while ours.recv(1):
    sent = time.perf_counter_ns()
    ours.send(b"x")
    while time.perf_counter_ns() < sent + 40_000_000:
        pass
    ours.send(b"%20d" % sent)
"""
"""Sends a byte whenever it is told to, and keeps the processor to itself behind that, for 40 ms; then tells when."""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells for how long a thread stood in the queue")
def test_a_loop_that_is_woken_late_is_blind_since_it_could_have_run() -> None:
    """Both on one processor, and the loop runs only while nobody else wants to: its bytes are there long before it."""
    ours, theirs = socket.socketpair()
    found: list[tuple[int, int, int]] = []
    processor = min(os.sched_getaffinity(0))
    hog = [sys.executable, "-c", _HOG, str(theirs.fileno()), str(processor)]
    with ours, theirs, subprocess.Popen(hog, pass_fds=[theirs.fileno()]):
        thread = threading.Thread(target=_woken_late, args=(ours, processor, found))
        thread.start()
        thread.join()
        ours.shutdown(socket.SHUT_RDWR)
    late = [(sent, blind, returned) for sent, blind, returned in found if returned > sent + 10 * MS]
    assert late, "it was never woken late"
    assert all(blind < sent + 5 * MS for sent, blind, _ in late)


def _woken_late(ours: socket.socket, processor: int, found: list[tuple[int, int, int]]) -> None:
    """Wait for a byte, again and again, as the last in the queue; note when it was sent, and what the watch says."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # of this thread alone
    os.sched_setaffinity(0, {processor})
    with LoopWatch() as watch:
        watch.register(ours, selectors.EVENT_READ)
        for _ in range(10):
            ours.send(b"?")
            watch.select(10.0)
            returned = perf_counter_ns()
            blind = watch.blind_since_ns
            told = b""
            while len(told) < 21:
                told += ours.recv(64)
            found.append((int(told[1:]), blind, returned))


@pytest.mark.parametrize("told", [b"", b"12\n", b"- - -\n", OSError("not here")])
def test_a_kernel_that_tells_nothing_of_use_ends_no_loop(
    told: bytes | OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be empty, or made up by a sandbox: then nothing is known, and the loop goes on."""

    def answer(*_arguments: object) -> bytes:
        if isinstance(told, OSError):
            raise told
        return told

    monkeypatch.setattr(os, "pread", answer)
    with contextlib.closing(HeldUp()) as held_up:
        assert held_up.since_last_ns() == 0


def test_what_is_known_of_a_thread_that_has_ended_stays() -> None:
    """Its file is gone. No time in a queue has been added, nor is any taken back."""
    made: list[HeldUp] = []
    thread = threading.Thread(target=lambda: made.append(HeldUp()))
    thread.start()
    thread.join()
    with contextlib.closing(made[0]) as held_up:
        assert held_up.since_last_ns() >= 0


def test_a_queue_before_the_wait_makes_nobody_blind_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that stood in the scheduler's queue for a second says nothing of bytes that come after a long wait."""
    counted = [0]
    monkeypatch.setattr(os, "pread", lambda *_arguments: b"0 %d 0\n" % counted[0])
    with LoopWatch() as watch:
        watch.select(0.01)
        counted[0] += 1_000_000_000
        waited_from = perf_counter_ns()
        watch.select(0.05)
        assert watch.blind_since_ns >= waited_from + 40 * MS


def test_another_loop_is_refused() -> None:
    """On a loop without a watch no row could say how good its stamps are, and the error says how to start it."""

    async def ask() -> None:
        current_watch()

    with pytest.raises(RuntimeError, match="BACKEND_OPTIONS"):
        anyio.run(ask)

"""Signals of a command that draws: told in the event loop, also when it is stuck, and handed back in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio
import pytest

from llmbench.cli.signals import Signals

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

STUCK = """
import os, queue, sys, anyio
from llmbench.cli.signals import Signals

async def main(signals):
    with signals.told_to(print, lambda: os.write(1, b"given back")):
        os.write(1, b"stuck ")
        queue.Queue(0).get()

with Signals(patience=0.1) as signals:
    anyio.run(main, signals)
"""
"""Stands for a viewer whose terminal takes nothing any more: its event loop waits for a queue."""


@pytest.mark.parametrize("number", NUMBERS)
async def test_each_is_told_in_the_event_loop(number: signal.Signals) -> None:
    """The listener is called by the loop, not in the middle of something else; the first one is remembered."""
    told: list[int] = []
    with Signals() as signals, signals.told_to(told.append):
        os.kill(os.getpid(), number)
        assert told == []
        await anyio.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.wait_all_tasks_blocked()
    assert told == [number, signal.SIGTERM]
    assert signals.first == number


async def test_one_that_came_before_anybody_listened_is_told() -> None:
    """To the first who listens, and once."""
    told: list[int] = []
    later: list[int] = []
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with signals.told_to(told.append):
            pass
        with signals.told_to(later.append):
            pass
    assert (told, later) == ([signal.SIGTERM], [])


def test_what_was_there_before_is_there_again() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with Signals():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_loop_that_is_stuck_ends_all_the_same(number: signal.Signals) -> None:
    """What has to be given back is given back, and the exit code tells of the signal."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(6) == b"stuck "
            process.send_signal(number)
            out, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out) == (128 + number, b"given back")

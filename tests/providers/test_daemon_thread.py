"""Look-ups in daemon threads: results and errors come back, limits and cancellations take effect at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import anyio
import pytest

from llmbench.providers.daemon_thread import run_in_daemon

_SOON = 1.0


async def test_the_result_comes_back_from_another_daemon_thread() -> None:
    """What the function returns is returned, and it runs in a daemon thread."""

    def look_up(name: str) -> tuple[str, bool, bool]:
        thread = threading.current_thread()
        return name, thread.daemon, thread is threading.main_thread()

    assert await run_in_daemon(look_up, "keys", seconds=_SOON) == ("keys", True, False)


async def test_what_the_function_raises_is_raised() -> None:
    """An exception crosses over as it is."""

    def look_up() -> None:
        raise LookupError("no keys")

    with pytest.raises(LookupError, match="no keys"):
        await run_in_daemon(look_up, seconds=_SOON)


async def test_a_function_that_takes_too_long_is_given_up() -> None:
    """After the limit TimeoutError is raised, while the thread still blocks."""
    release = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            await run_in_daemon(release.wait, 60.0, seconds=0.01)
    finally:
        release.set()


async def test_a_cancellation_does_not_wait_for_the_thread() -> None:
    """Whoever cancels goes on at once, and a result that comes later disturbs nobody."""
    release = threading.Event()
    done = threading.Event()

    def look_up() -> str:
        release.wait(60)
        done.set()
        return "late"

    begin = time.monotonic()
    with anyio.move_on_after(0.01) as scope:
        await run_in_daemon(look_up, seconds=60)
    assert scope.cancelled_caught
    assert time.monotonic() - begin < _SOON
    release.set()
    assert done.wait(5)
    assert await run_in_daemon(str, "next", seconds=_SOON) == "next"


def test_the_process_ends_while_a_thread_still_blocks() -> None:
    """The exit waits for no look-up."""
    program = """
import anyio, threading
from llmbench.providers.daemon_thread import run_in_daemon
async def main():
    with anyio.move_on_after(0.01):
        await run_in_daemon(threading.Event().wait, 60.0, seconds=60)
anyio.run(main)
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=20, check=False, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")

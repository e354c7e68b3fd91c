"""Blocking look-ups of the clouds' SDKs in threads that nothing waits for: neither a cancelled run nor the exit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, TypeVarTuple

import anyio

Result = TypeVar("Result")
Args = TypeVarTuple("Args")


async def run_in_daemon(func: Callable[[*Args], Result], *args: *Args, seconds: float) -> Result:
    """Return what ``func`` returns, which runs in a daemon thread of its own; needs asyncio's loop.

    Cancelling it takes effect at once: the thread is left to itself, and what it brings is dropped. anyio's worker
    threads are no daemons, so that a silent server would keep the process from its end. Raises TimeoutError after
    ``seconds``, and what ``func`` raises.
    """
    outcome: Future[Result] = Future()
    threading.Thread(target=_settle, args=(outcome, func, args), name=f"look-up {func!r}", daemon=True).start()
    with anyio.fail_after(seconds):
        return await asyncio.wrap_future(outcome)


def _settle(outcome: Future[Result], func: Callable[[*Args], Result], args: tuple[*Args]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = func(*args)
    except BaseException as error:  # noqa: BLE001  nothing is swallowed: whoever waits gets it
        outcome.set_exception(error)
    else:
        outcome.set_result(result)

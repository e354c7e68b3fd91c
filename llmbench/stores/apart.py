"""Where work goes that takes an event loop too long: into a thread, or, where nobody else needs the loop, nowhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")


class Apart(Protocol):
    """Calls a function with these arguments, and returns what it returns."""

    def __call__(self, function: Callable[..., T], *arguments: object) -> Awaitable[T]: ...


async def in_a_thread(function: Callable[..., T], *arguments: object) -> T:
    """For a loop that has something else to do meanwhile, such as measuring."""
    return await to_thread.run_sync(function, *arguments)


async def on_the_loop(function: Callable[..., T], *arguments: object) -> T:
    """For a process that does nothing else: threads that compete for the interpreter would cost it half its speed."""
    return function(*arguments)


def one_at_a_time() -> Apart:
    """Return `in_a_thread` for one call at a time: many threads would keep the event loop waiting all the longer."""
    limiter = CapacityLimiter(1)

    async def call(function: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(function, *arguments, limiter=limiter)

    return call

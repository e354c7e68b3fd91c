"""Doing things at their time."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

import anyio
import pytest

from llmbench.measure.loopwatch import current_watch
from llmbench.simulator.pacing import PACED_BACKEND_OPTIONS, PacedWatch, Pacer, lower_timer_slack

MS = 1_000_000


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that the simulator's own process runs on."""
    return "asyncio", PACED_BACKEND_OPTIONS


class _Call:
    """Fires a function."""

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self.fire: Callable[[], None] = partial(function, *arguments)


async def test_the_loop_is_watched() -> None:
    """The paced loop still is a watched one, which stamped streams need."""
    assert isinstance(current_watch(), PacedWatch)


async def test_things_are_done_in_the_order_of_their_times() -> None:
    """The order of the calls matters only among those due at the same time."""
    pacer, done, finished = Pacer(), list[str](), anyio.Event()
    start = perf_counter_ns()
    pacer.at(start + 9 * MS, _Call(finished.set))
    for name, due in (("c", 6), ("a", 2), ("b", 4), ("d", 6)):
        pacer.at(start + due * MS, _Call(done.append, name))
    with anyio.fail_after(5):
        await finished.wait()
    assert done == ["a", "b", "c", "d"]


async def test_nothing_is_done_early() -> None:
    """Whatever the rounding on the way, a deadline is the earliest time."""
    pacer, early, finished = Pacer(keen=True), list[int](), anyio.Event()
    start = perf_counter_ns()
    for number in range(200):
        due = start + number * 137_000
        pacer.at(due, _Call(lambda due: early.append(perf_counter_ns() - due), due))
    pacer.at(start + 40 * MS, _Call(finished.set))
    with anyio.fail_after(5):
        await finished.wait()
    assert len(early) == 200
    assert min(early) >= 0


async def _median_lateness() -> float:
    """Return how late 100 deadlines are that are 300 µs apart."""
    pacer, late, finished = Pacer(), list[int](), anyio.Event()
    start = perf_counter_ns() + MS
    for number in range(100):
        due = start + number * 300_000
        pacer.at(due, _Call(lambda due: late.append(perf_counter_ns() - due), due))
    pacer.at(start + 31 * MS, _Call(finished.set))
    with anyio.fail_after(5):
        await finished.wait()
    return statistics.median(late)


async def test_waits_are_shorter_than_a_millisecond_where_asked() -> None:
    """Deadlines are met to far less than the millisecond that epoll counts in (the best of twenty medians)."""
    lower_timer_slack()
    assert min([await _median_lateness() for _ in range(20)]) < 250_000


async def test_one_that_is_always_late_leaves_the_others_their_turn() -> None:
    """Something that is due again at once, for ever, keeps neither other deadlines nor the loop from theirs."""
    pacer, finished = Pacer(), anyio.Event()
    past = perf_counter_ns() - 10**9

    def again() -> None:
        pacer.at(past, _Call(again))

    again()
    pacer.at(perf_counter_ns() + MS, _Call(finished.set))
    with anyio.fail_after(5):
        await finished.wait()
    pacer.close()


async def test_an_error_in_one_does_not_stop_the_others() -> None:
    """What raises is reported to the loop; the rest of its turn is done all the same."""
    pacer, finished, reports = Pacer(), anyio.Event(), list[str]()
    loop = pacer._loop
    loop.set_exception_handler(lambda _loop, context: reports.append(str(context["exception"])))

    def fail() -> None:
        raise ValueError("broken step")

    due = perf_counter_ns() + MS
    pacer.at(due, _Call(fail))
    pacer.at(due, _Call(finished.set))
    try:
        with anyio.fail_after(5):
            await finished.wait()
    finally:
        loop.set_exception_handler(None)
    assert reports == ["broken step"]


async def test_a_closed_pacer_does_nothing_more() -> None:
    """What was due is forgotten."""
    pacer, done = Pacer(), list[str]()
    pacer.at(perf_counter_ns(), _Call(lambda: done.append("too late")))
    pacer.close()
    after, finished = Pacer(), anyio.Event()
    after.at(perf_counter_ns() + MS, _Call(finished.set))
    with anyio.fail_after(5):
        await finished.wait()
    assert done == []

"""Workers of the bridge, as real processes: orders and answers, and what becomes of both when a worker ends."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec
import pytest

from llmbench.bridge import process
from llmbench.bridge.process import Crew, Patience, ProcessTaker
from llmbench.bridge.taking import Order, Taken
from tests.bridge.working import COMMAND, order

BIG = 3 * 1024 * 1024
PATIENT = {"first_pause": 0.02, "longest_pause": 0.1, "start": 30.0}


def taker(*manner: str, **seconds: float) -> ProcessTaker:
    return ProcessTaker([*COMMAND, *manner], b"the setup", Patience(**PATIENT | seconds))


@asynccontextmanager
async def running(*takers: ProcessTaker) -> AsyncIterator[Crew]:
    crew = Crew(takers)
    async with anyio.create_task_group() as group:
        await group.start(crew.run)
        with anyio.fail_after(60):
            yield crew
        group.cancel_scope.cancel()


async def until(found: Callable[[], bool]) -> None:
    """Look until it is so: nobody tells what becomes of a process."""
    for _ in range(10_000):
        if found():
            return
        await anyio.sleep(0.005)
    raise AssertionError("this took too long")


async def pid_of(one: ProcessTaker) -> int:
    return int((await one.take(order())).body)


async def all_of(takes: ProcessTaker | Crew, *orders: Order) -> list[Taken]:
    """Give orders at the same time; return what became of each."""
    taken: dict[int, Taken] = {}

    async def take(number: int, one: Order) -> None:
        taken[number] = await takes.take(one)

    async with anyio.create_task_group() as group:
        for number, one in enumerate(orders):
            group.start_soon(take, number, one)
    return [taken[number] for number in range(len(orders))]


async def under_way(one: ProcessTaker, count: int) -> None:
    await until(lambda: one.under_way == count)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_put_off(taken: Taken) -> None:
    assert (taken.status, taken.retry_after) == (503, 5.0)
    assert "send it again" in taken.body.decode()


async def test_each_gets_its_own_answer() -> None:
    """However many ask at once, and however large their bodies are."""
    bodies = [b"%d" % number * (BIG if number % 50 == 0 else 10) for number in range(150)]
    async with running(one := taker()) as crew:
        assert [taken.body for taken in await all_of(crew, *map(order, bodies))] == bodies
    assert one.under_way == 0


async def test_work_is_for_who_has_least() -> None:
    """Of two workers one that is held up leaves the rest to the other one."""
    first, second = taker(), taker()
    async with running(first, second) as crew, anyio.create_task_group() as group:
        await all_of(crew, order(), order())
        group.start_soon(first.take, order(b"never"))
        await under_way(first, 1)
        pid = await pid_of(second)
        assert {int((await crew.take(order())).body) for _ in range(5)} == {pid}
        group.cancel_scope.cancel()


async def test_a_bug_costs_one_order(capfd: pytest.CaptureFixture[str]) -> None:
    """Its sender is told so, and the worker goes on."""
    async with running(one := taker()):
        pid = await pid_of(one)
        [broken, other] = await all_of(one, order(b"break"), order())
    assert (broken.status, other.body) == (500, b"%d" % pid)
    assert msgspec.json.decode(broken.body)["status"] == "error"
    assert "ZeroDivisionError" in capfd.readouterr().err


async def test_a_killed_worker_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for it is told to come again; then a new one takes what comes, and the log has told of both."""
    caplog.set_level(logging.INFO, "llmbench.bridge.process")
    async with running(one := taker()) as crew:
        pid = await pid_of(one)
        async with anyio.create_task_group() as group:
            group.start_soon(_killed_with, one, 3, pid)
            lost = await all_of(one, *[order(b"never")] * 3)
        for taken in lost:
            assert_put_off(taken)
        await until(lambda: crew.problem is None and one.working)
        assert await pid_of(one) != pid
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith("the process that takes outcomes was ended by SIGKILL; it is started again in")
    assert messages[1] == "the process that takes outcomes runs again"


async def _killed_with(one: ProcessTaker, count: int, pid: int) -> None:
    await under_way(one, count)
    os.kill(pid, signal.SIGKILL)


async def test_while_one_is_away_the_other_takes_it_all() -> None:
    """A crew has no problem while one of its workers has none; only what was in the dead one's hands comes again."""
    first, second = taker(), taker(first_pause=1000.0, longest_pause=1000.0)
    async with running(first, second) as crew:
        pids = {await pid_of(first), (dead := await pid_of(second))}
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not second.working)
        assert crew.problem is None
        assert {int((await crew.take(order())).body) for _ in range(5)} == pids - {dead}


async def test_without_any_worker_nothing_is_taken() -> None:
    """The problem says how it ended, and is the fault that an answer tells the log."""
    async with running(one := taker(first_pause=1000.0, longest_pause=1000.0)) as crew:
        os.kill(await pid_of(one), signal.SIGKILL)
        await until(lambda: crew.problem is not None and "SIGKILL" in crew.problem)
        assert_put_off(taken := await crew.take(order()))
        assert taken.fault == crew.problem


async def test_a_frozen_worker_is_replaced() -> None:
    """One that says nothing for as long as an answer may take is killed, and whoever waits for it is put off."""
    async with running(one := taker(answer=0.5)):
        os.kill(pid := await pid_of(one), signal.SIGSTOP)
        for taken in (lost := await all_of(one, order(), order())):
            assert_put_off(taken)
        assert "the process that takes outcomes is stuck, and is killed" in [taken.fault for taken in lost]
        await until(lambda: one.working and not is_alive(pid))
        assert await pid_of(one) != pid


async def test_a_slow_order_kills_no_worker() -> None:
    """One that answers others is not stuck: only who waited too long comes again."""
    async with running(one := taker(answer=1.0)):
        pid = await pid_of(one)
        async with anyio.create_task_group() as group:
            group.start_soon(_keep_asking, one)
            assert_put_off(taken := await one.take(order(b"never")))
            group.cancel_scope.cancel()
        assert taken.fault == "the process that takes outcomes took too long for one"
        assert await pid_of(one) == pid


async def _keep_asking(one: ProcessTaker) -> None:
    while True:
        await one.take(order())


async def test_what_nobody_waits_for_is_not_sent() -> None:
    """Orders that are given up while they wait to be sent take no memory, and no time of the worker."""
    async with running(one := taker()):
        os.kill(pid := await pid_of(one), signal.SIGSTOP)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(one.take, order(b"x" * BIG))
            await under_way(one, 20)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        os.kill(pid, signal.SIGCONT)
        # The one for the pid, the one that was being sent, and this one.
        assert int((await one.take(order(b"count"))).body) == 3


async def test_a_program_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again and again, in longer and longer intervals; meanwhile everything else goes on."""
    one = ProcessTaker(["/nowhere/python"], b"", Patience(first_pause=0.01, longest_pause=0.05))
    async with running(one) as crew:
        assert crew.problem is not None
        assert "can't be started" in crew.problem
        assert_put_off(await crew.take(order()))
        await until(lambda: len(caplog.records) >= 5)
    pauses = [str(record.args[1]) for record in caplog.records[:5] if isinstance(record.args, tuple)]
    assert pauses == ["0.01", "0.02", "0.04", "0.05", "0.05"]


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("unfit", "can't do its work: the store is of a newer llmbench"),
        ("babble", "can't do its work: it says what is not understood"),
    ],
)
async def test_a_worker_that_is_none(manner: str, reason: str) -> None:
    """What it says of itself is the problem."""
    async with running(taker(manner, first_pause=1000.0)) as crew:
        assert crew.problem is not None
        assert reason in crew.problem


async def test_a_worker_that_ends_at_once() -> None:
    """Its exit code is all that is known."""
    one = ProcessTaker(["/bin/sh", "-c", "exit 3"], b"", Patience(first_pause=1000.0))
    async with running(one) as crew:
        assert crew.problem == "the process that takes outcomes has ended with exit code 3"


async def test_a_start_that_takes_long_holds_nothing_up() -> None:
    """The program begins without it, and says that nothing is taken."""
    one = ProcessTaker(["/bin/sleep", "1000"], b"", Patience(start=0.0, end=0.0))
    async with running(one) as crew:
        assert crew.problem == "the process that takes outcomes has not begun yet"
        assert_put_off(await crew.take(order()))


@pytest.mark.parametrize("body", [b"never", b"linger"])
async def test_it_ends_with_the_program(body: bytes) -> None:
    """By itself, or, if it does not, by force."""
    async with running(one := taker(end=0.5)):
        pid = await pid_of(one)
        async with anyio.create_task_group() as group:
            group.start_soon(one.take, order(body))
            await under_way(one, 1)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert not is_alive(pid)


async def test_it_runs_again() -> None:
    """A server that crashed is run again, and its takers with it."""
    one = taker()
    for _ in range(2):
        async with running(one) as crew:
            assert crew.problem is None
            assert (await crew.take(order())).status == 200
        assert not one.working


def test_how_long_is_waited() -> None:
    """An answer that the worker itself gives up on comes before the worker counts as stuck."""
    from llmbench.cli import taking

    assert taking._PATIENCE.answer > taking.ANSWER_SECONDS
    assert process.Patience().end < taking._END_SECONDS

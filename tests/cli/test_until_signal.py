"""What signals do to something that measures or serves: the first ends it in good order, the second at once."""

from __future__ import annotations

import os
import signal

import anyio
import pytest

from llmbench.cli.engine import run_until_signal

LIMIT = 20.0


class Stoppable:
    """Something that ends only when the test says so."""

    grace_seconds = 1.0

    def __init__(self) -> None:
        self.stopping = False
        self.aborts = 0
        self.may_end = anyio.Event()
        self.changed = anyio.Event()

    async def run(self) -> None:
        await self.may_end.wait()

    def stop(self) -> None:
        self.stopping = True
        self._change()

    def abort(self) -> None:
        self.aborts += 1
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


@pytest.mark.parametrize("numbers", [[], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
async def test_signals_are_told(numbers: list[signal.Signals]) -> None:
    """The first stops it, the second cuts off what runs; both are returned."""
    found = await sent(Stoppable(), numbers)

    assert found == (*numbers, None, None)[:2]


async def test_more_signals_change_nothing() -> None:
    """What was cut off is still to be recorded: whoever goes on pressing Ctrl-C does not kill that."""
    one = Stoppable()

    assert await sent(one, [signal.SIGTERM] * 2, extra=signal.SIGTERM) == (signal.SIGTERM, signal.SIGTERM)
    assert one.aborts == 1


async def sent(
    one: Stoppable, numbers: list[signal.Signals], extra: signal.Signals | None = None
) -> tuple[int | None, int | None]:
    """Run it with these signals, one after the other, and one more of which nothing is seen."""
    found: list[tuple[int | None, int | None]] = []

    async def run() -> None:
        found.append(await run_until_signal(one, lambda _sentence: None))

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            for number in numbers:
                changed = one.changed
                os.kill(os.getpid(), number)
                await changed.wait()
            if extra is not None:
                os.kill(os.getpid(), extra)
                await anyio.wait_all_tasks_blocked()
            one.may_end.set()
    return found[0]

"""A process that has an engine's desk and nothing behind it: as many live events as are asked for, and marks in them.

A mark is a number in the reason of a lane that is down, which every screen shows. Prints one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec

from llmbench.actors.bus import Bus
from llmbench.actors.engine_desk import EngineDesk
from llmbench.actors.engine_requests import EngineAnswer, Order
from llmbench.ids import new_outcome_id
from llmbench.messages import EngineFigures, LaneState, RunProgress, RunStarted

LANES = 8
_STREAMS = 256
_STEP_SECONDS = 0.02
_MARK_SECONDS = 0.23
"""Not a multiple of what anything is drawn with."""


class Result(msgspec.Struct, frozen=True):
    """``marks``: when each was published (`time.monotonic_ns`), by number; ``published`` counts all events."""

    marks: dict[int, int]
    published: int
    seconds: float


async def _flood(folder: Path, rate: float, seconds: float) -> Result:
    bus = Bus()
    desk = EngineDesk(bus, folder, _refuse)
    async with anyio.create_task_group() as group:
        await group.start(_desk, desk)
        while not bus.watched:  # noqa: ASYNC110  a bus tells nobody that it is watched
            await anyio.sleep(0.02)
        result = await _publish(bus, rate, seconds)
        group.cancel_scope.cancel()
    return result


async def _desk(desk: EngineDesk, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await desk.run(task_status=task_status)


async def _refuse(_order: Order) -> EngineAnswer:
    return EngineAnswer(error="there is no engine")


async def _publish(bus: Bus, rate: float, seconds: float) -> Result:
    began = time.monotonic()
    names = [f"lane-{number}" for number in range(LANES)]
    now = datetime.now(UTC)
    bus.publish(
        EngineFigures(
            at=now,
            started_at=now,
            version="0",
            runner_id="bench",
            store="nowhere",
            lanes=tuple(names),
            clock="kernel",
            loop_lag=0.0,
        )
    )
    for name in names:
        bus.publish(LaneState(lane=name, status="ok", at=now))
    ids = [new_outcome_id() for _ in range(_STREAMS)]
    for number, outcome_id in enumerate(ids):
        bus.publish(RunStarted(outcome_id=outcome_id, provider=names[number % LANES], model_id=f"m{number}", at=now))
    marks: dict[int, int] = {}
    published, due_mark = 0, 0.0
    while (elapsed := time.monotonic() - began) < seconds:
        while published < rate * elapsed:
            stream = published % _STREAMS
            bus.publish(_progress(ids[stream], names[stream % LANES], stream, published // _STREAMS, elapsed))
            published += 1
        if elapsed >= due_mark:
            due_mark += _MARK_SECONDS
            number = len(marks)
            marks[number] = time.monotonic_ns()
            bus.publish(LaneState(lane=names[0], status="down", at=datetime.now(UTC), reason=f"mk{number:06}"))
        await anyio.sleep(_STEP_SECONDS)
    return Result(marks, published, time.monotonic() - began)


def _progress(outcome_id: str, lane: str, stream: int, chunks: int, elapsed: float) -> RunProgress:
    return RunProgress(
        outcome_id=outcome_id,
        provider=lane,
        model_id=f"m{stream}",
        visible_chunks=chunks,
        text=f" word{chunks}",
        elapsed=elapsed,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flooding", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    run: Callable[[], Result] = lambda: anyio.run(_flood, options.folder, options.rate, options.seconds)  # noqa: E731
    sys.stdout.buffer.write(msgspec.json.encode(run()) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

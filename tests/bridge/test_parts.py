"""Live events as bytes for one reader."""

from __future__ import annotations

from datetime import UTC, datetime

from llmbench.actors.bus import Bus
from llmbench.bridge.live import Dropped, Frames, parse
from llmbench.bridge.parts import Parts
from llmbench.messages import StoreState

_EVENT = StoreState(status="ok", at=datetime(2026, 3, 14, tzinfo=UTC), waiting=0)
_CAPACITY = 8


async def test_a_reader_that_loses_events_each_time_is_told_of_others() -> None:
    bus = Bus()
    with bus.watch(_CAPACITY) as watching:
        parts, told = Parts(watching), []
        for _ in range(3):
            for _ in range(_CAPACITY + 1):
                bus.publish(_EVENT)
            told += [parse(frame) for frame in Frames().feed(await parts.next() or b"")]

    assert told == [Dropped(count=1), *[_EVENT] * _CAPACITY] * 3

"""How the engine is, in one verdict: the worst of every lane that is expected, the store and the spool."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

import msgspec

from llmbench import __version__
from llmbench.actors.delivery import Delivery
from llmbench.bridge.health import HealthAnswer, LaneHealth, StoreHealth, Verdict
from llmbench.messages import LaneState, LiveEvent
from llmbench.stores.base import Store, StoreError
from llmbench.stores.spool import Spool, SpoolCounts, SpoolFailed

_FINE = ("ok", "stopped")


class EngineHealth:
    """Follows the bus, and answers when asked. A lane that never said anything is not fine: it is ``starting``.

    ``lanes`` are those of the configuration; the list does not shrink when one dies.
    """

    def __init__(self, lanes: Iterable[str], store: Store, delivery: Delivery, spool: Spool) -> None:
        self._store = store
        self._delivery = delivery
        self._spool = spool
        self._lanes = {lane: LaneHealth(lane=lane, status="starting") for lane in lanes}

    async def follow(self, events: AsyncIterable[LiveEvent]) -> None:
        """Take note of every actor's state, until the events end."""
        async for event in events:
            if isinstance(event, LaneState):
                self._lanes[event.lane] = LaneHealth(
                    lane=event.lane,
                    status=event.status,
                    reason=event.reason,
                    until=event.until,
                    restarts=event.restarts,
                )

    async def __call__(self) -> HealthAnswer:
        counts = await self._counts()
        lanes = list(self._lanes.values())
        fine = self._delivery.status == "ok" and counts is not None and _sound(counts)
        status: Verdict = "ok" if fine and all(lane.status in _FINE for lane in lanes) else "failing"
        store = StoreHealth(
            status="ok" if self._delivery.status == "ok" else "failing",
            description=self._store.description,
            reason=self._delivery.reason,
        )
        spool = msgspec.to_builtins(counts) if counts is not None else {"level": "unknown"}
        return HealthAnswer(status=status, version=__version__, store=store, lanes=lanes, spool=spool)

    async def _counts(self) -> SpoolCounts | None:
        try:
            return await self._spool.counts()
        except (SpoolFailed, StoreError):
            return None


def _sound(counts: SpoolCounts) -> bool:
    return counts.level != "paused" and not counts.quarantined and not counts.damages

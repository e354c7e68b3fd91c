"""What follows from how full the spool is: a spool that is nearly full stops new runs, and says so."""

from __future__ import annotations

import logging

from anyio.streams.memory import MemoryObjectSendStream

from llmbench.actors.bus import Bus
from llmbench.clock import Clock
from llmbench.messages import Hold, LaneState, SchedulerMessage
from llmbench.stores.spool import Level, Spool

logger = logging.getLogger(__name__)

NAME = "spool"
"""What the spool is called in `LaneState`."""

_FULL = "spool_full: the spool is nearly full of outcomes that the store has not taken; see llmbench spool status"


class SpoolLevel:
    """Looks at the spool's level after each change, and tells the scheduler and the watchers of a new one."""

    def __init__(self, spool: Spool, inbox: MemoryObjectSendStream[SchedulerMessage], bus: Bus, clock: Clock) -> None:
        self._spool = spool
        self._inbox = inbox
        self._bus = bus
        self._clock = clock
        self._level: Level = "ok"

    def look(self) -> None:
        before, self._level = self._level, self._spool.level
        if self._level == before:
            return
        paused = self._level == "paused"
        if paused or before == "paused":
            self._inbox.send_nowait(Hold(reason=_FULL if paused else None))
            state = LaneState(
                lane=NAME, status="blocked" if paused else "ok", at=self._clock.now(), reason=_FULL if paused else None
            )
            self._bus.publish(state)
        self._say(before)

    def _say(self, before: Level) -> None:
        if self._level == "paused":
            logger.error("nothing new is started: %s", _FULL)
        elif before == "paused":
            logger.info("the spool has room again: runs are started")
        elif self._level == "warning":
            logger.warning("the spool is 80 % full of outcomes that the store has not taken")

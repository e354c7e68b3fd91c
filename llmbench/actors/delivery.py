"""The delivery actor: takes what is recorded in the spool to the store, until the store has said that it has it.

An outcome leaves the spool only by a positive word for its id. What the store refuses for good goes into quarantine;
what it does not answer for is tried again, for ever, with growing pauses.

A store that fails is asked with one outcome, and then with twice as many each time that it answers. So the store is not
pressed when it comes back, and an outcome that makes it fail, whose fault that may not be, is soon alone; it is put off
once another one is stored, and so keeps none.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Sequence
from datetime import timedelta

import anyio

from llmbench.actors.bus import Bus
from llmbench.actors.spool_level import SpoolLevel
from llmbench.actors.supervision import ActorDown
from llmbench.clock import Clock
from llmbench.messages import StoreState, StoreStatus
from llmbench.stores.base import Store, StoreError, StoreUnusable, Verdict
from llmbench.stores.spool import Spool, SpoolFailed, Waiting

logger = logging.getLogger(__name__)

NAME = "delivery"
"""What this actor is called in `LaneState`."""

_BATCH = 200
"""Not more, as what is recorded meanwhile waits for the spool to mark a batch as delivered."""
_MOST_ALONE = 100
_RETRY_FIRST = 0.5
_RETRY_LONGEST = 60.0
_ASKED_LONGEST = 900.0
_BLOCKED_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 5.0
"""What was put off for one outcome's sake is looked for this often."""
_RETRY_WHILE_DRAINING = 1.0
_UNTOLD = "the store has no word, or more than one, for its id"


class Delivery:
    """Delivers until it is drained and nothing is left. The store is opened if it is not open yet."""

    def __init__(
        self, spool: Spool, store: Store, level: SpoolLevel, bus: Bus, clock: Clock, *, opened: bool = True
    ) -> None:
        self._spool = spool
        self._store = store
        self._level = level
        self._bus = bus
        self._clock = clock
        self._opened = opened
        self._draining = anyio.Event()
        self._tries = 0
        self._size = _BATCH
        """How many outcomes go together; less than a whole batch since the store failed."""
        self._alone: dict[str, int] = {}
        """Outcomes that the store failed with when alone, since it last answered; how often each was tried before."""
        self.status: StoreStatus = "ok" if opened else "failing"
        self.reason: str | None = None if opened else "it did not answer when llmbench started"
        """Why the store does not take outcomes now; None while it does."""
        self._logged: StoreStatus = "ok"
        self.state = StoreState(status=self.status, at=clock.now(), waiting=0, reason=self.reason)
        """What the bus was told last, or would have been at the start."""
        self.stored = 0
        self.quarantined = 0
        self.spool_failed = False
        self._patience: float | None = None
        self._answered = 0.0

    def drain(self, patience: float | None = None) -> None:
        """Say that the end is near: the store is tried again at once, and `run` returns when nothing is due.

        It also returns once the store has taken nothing for ``patience`` seconds, if that is not None.
        """
        self._patience = patience
        self._answered = anyio.current_time()
        self._draining.set()

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    async def run(self) -> None:
        """Deliver. Raises `ActorDown` once the spool can't be used any more."""
        try:
            while await self._round():
                pass
        except SpoolFailed as error:
            self.spool_failed = True
            raise ActorDown(str(error)) from error

    async def _round(self) -> bool:
        """Deliver what is due, or wait for something; say whether there may be more."""
        self._level.look()  # the spool makes room by itself, once what was delivered has been marked
        seen = self._spool.recorded
        now = self._clock.now()
        if self._draining.is_set():  # there is no later: what was put off is due
            now += timedelta(seconds=_RETRY_LONGEST)
        waiting = self._chosen(await self._spool.peek(max(self._size, len(self._alone) + 2), now))
        self._level.look()
        if not waiting and self._draining.is_set():
            return False
        if waiting or not self._opened:
            await self._try(waiting)
            return not self._given_up
        await self._wait(seen)
        return True

    def _chosen(self, due: list[Waiting]) -> list[Waiting]:
        """Return what goes now; if that is to be one, then one that has not failed alone yet, if there is any."""
        if self._size > 1:
            return due[: self._size]
        return [one for one in due if one.id not in self._alone][:1] or due[:1]

    @property
    def _given_up(self) -> bool:
        if self._patience is None or self.status == "ok" or not self._draining.is_set():
            return False
        return anyio.current_time() - self._answered > self._patience

    async def _wait(self, seen: int) -> None:
        """Wait until there is something new, or what was put off may be due, or the end is near."""
        async with anyio.create_task_group() as group:

            async def first(event: anyio.Event) -> None:
                await event.wait()
                group.cancel_scope.cancel()

            group.start_soon(first, self._draining)
            # A spool that failed is met again by the next call; from here its error would come in a group.
            with anyio.move_on_after(_LOOK_AGAIN_SECONDS), contextlib.suppress(SpoolFailed):
                await self._spool.more_than(seen)
            group.cancel_scope.cancel()

    async def _try(self, waiting: Sequence[Waiting]) -> None:
        try:
            if not self._opened:
                await self._open()
            elif waiting:
                verdicts = _matched(waiting, await self._store.put([one.envelope for one in waiting]))
                await self._settle(waiting, verdicts)
                await self._look_at(verdicts)
        except StoreError as error:  # the store's, or the spool's if there is no room to note what became of them
            await self._failed(waiting if self._opened else (), error)

    async def _open(self) -> None:
        """Open the store, also with nothing to deliver: the catalogue and the leases need it, too."""
        await self._store.open()
        self._opened = True
        await self._works()

    async def _look_at(self, verdicts: Sequence[Verdict]) -> None:
        if any(verdict.status != "unknown" for verdict in verdicts):
            self._size = min(_BATCH, 2 * self._size)
            await self._put_off()
            await self._works()
        else:
            raise StoreError(next((v.reason for v in verdicts if v.reason), "the store said nothing"))

    async def _failed(self, waiting: Sequence[Waiting], error: StoreError) -> None:
        """Rest, and go on with one outcome: if this was one, with another."""
        self._size = 1
        if len(waiting) == 1 and not isinstance(error, StoreUnusable):
            if len(self._alone) >= _MOST_ALONE:
                self._alone.clear()
            self._alone[waiting[0].id] = waiting[0].tries
        await self._away(error)

    async def _put_off(self) -> None:
        """The store answers: what it failed with is let be for a while, lest it keeps the others."""
        now = self._clock.now()
        for one, tries in self._alone.items():
            again = now + timedelta(seconds=_pause(tries))
            await self._spool.retry_later([one], "the store failed when it was sent this alone", again)
        self._alone.clear()

    async def _settle(self, waiting: Sequence[Waiting], verdicts: Sequence[Verdict]) -> None:
        stored = [one.id for one, verdict in zip(waiting, verdicts, strict=True) if verdict.acknowledged]
        if stored:
            await self._spool.delivered(stored)
            self.stored += len(stored)
            self._level.look()
        unknown: dict[tuple[int, str], list[str]] = {}
        for one, verdict in zip(waiting, verdicts, strict=True):
            if verdict.status in ("conflict", "rejected"):
                await self._quarantine(one, verdict)
            elif verdict.status == "unknown":
                unknown.setdefault((one.tries, verdict.reason or "the store did not say"), []).append(one.id)
        for (tries, reason), ids in unknown.items():  # together: each call is a commit
            await self._spool.retry_later(ids, reason, self._clock.now() + timedelta(seconds=_pause(tries)))

    async def _quarantine(self, one: Waiting, verdict: Verdict) -> None:
        outcome, reason = one.envelope.outcome, verdict.reason or verdict.status
        await self._spool.quarantine(one.id, verdict.status, reason)
        self.quarantined += 1
        logger.error(
            "outcome %s of %s/%s was not stored, and is kept in quarantine: %s",
            one.id,
            outcome.provider,
            outcome.model_name,
            reason,
        )

    async def _works(self) -> None:
        self._answered = anyio.current_time()
        if self.status != "ok":
            logger.info("the store takes outcomes again")
            self._tries = 0
            await self._report("ok", None)

    async def _away(self, error: StoreError) -> None:
        """Say that the store takes nothing, and rest."""
        blocked = isinstance(error, StoreUnusable)
        await self._report("blocked" if blocked else "failing", str(error))
        seconds = _BLOCKED_SECONDS if blocked else max(_pause(self._tries), error.retry_after or 0.0)
        self._tries += 1
        await self._rest(min(seconds, _ASKED_LONGEST))

    async def _rest(self, seconds: float) -> None:
        if self._draining.is_set():
            await anyio.sleep(min(seconds, _RETRY_WHILE_DRAINING))
            return
        with anyio.move_on_after(seconds):
            await self._draining.wait()

    async def _report(self, status: StoreStatus, reason: str | None) -> None:
        changed, self._logged = status != self._logged, status
        self.status, self.reason = status, reason
        counts = await self._spool.counts()
        self.state = StoreState(status=status, at=self._clock.now(), waiting=counts.waiting, reason=reason)
        self._bus.publish(self.state)
        if changed and reason is not None:
            what = "is blocked" if status == "blocked" else "takes nothing now"
            logger.error("the store %s, what is measured is kept in the spool: %s", what, reason)


def _matched(waiting: Sequence[Waiting], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return a verdict for each outcome, in their order. Only one for its own id counts; without one, it is unknown."""
    told: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        told.setdefault(verdict.id, []).append(verdict)
    found = [(one.envelope.outcome.id, told.get(one.envelope.outcome.id, [])) for one in waiting]
    return [ones[0] if len(ones) == 1 else Verdict(key, "unknown", _UNTOLD) for key, ones in found]


def _pause(tries: int) -> float:
    """Return how many seconds to wait after so many tries: full jitter, up to a minute."""
    return random.uniform(0.1, min(_RETRY_LONGEST, _RETRY_FIRST * 2.0 ** min(tries, 16)))  # noqa: S311  no secret

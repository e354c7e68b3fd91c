"""The sink: outcomes arrive from every lane, are made durable in batches, and only then acknowledged.

The engine's are durable in its spool, from where the delivery actor takes them to the store; those of commands that
end by themselves in the store itself.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.actors.bus import Bus
from llmbench.actors.spool_level import SpoolLevel
from llmbench.actors.supervision import ActorDown
from llmbench.clock import Clock
from llmbench.logs import log_run
from llmbench.messages import (
    Acknowledged,
    Envelope,
    Failure,
    LaneState,
    NotStored,
    Outcome,
    SchedulerMessage,
    StoreState,
)
from llmbench.stores.base import StoreError, Verdict
from llmbench.stores.spool import SpoolFailed

logger = logging.getLogger(__name__)

_BATCH = 64
_RETRY_FIRST = 0.5
_RETRY_LONGEST = 60.0
_RETRY_WHILE_DRAINING = 1.0


NAME = "sink"
"""What this actor is called in `LaneState`."""


class Recorder(Protocol):
    """Where outcomes become durable: a store, or the spool before it; `put` is as in `llmbench.stores.base.Store`."""

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]: ...


class Sink:
    """Records what comes until every sender has closed. What a crash interrupted is recorded first by the next `run`.

    ``level`` is that of the spool, if the recorder is one.
    """

    def __init__(
        self,
        recorder: Recorder,
        outcomes: MemoryObjectReceiveStream[Envelope],
        inbox: MemoryObjectSendStream[SchedulerMessage],
        bus: Bus,
        clock: Clock,
        on_stored: Callable[[Outcome], None] = log_run,
        patience: float | None = None,
        level: SpoolLevel | None = None,
    ) -> None:
        self._recorder = recorder
        self._level = level
        self._outcomes = outcomes
        self._inbox = inbox
        self._bus = bus
        self._clock = clock
        self._on_stored = on_stored
        self._patience = patience
        self._draining = anyio.Event()
        self._batch: list[Envelope] = []
        self._failing = False
        self.gave_up = False
        """Patience came to its end: the store took nothing for too long."""
        self.spool_failed = False
        self.recorded = 0
        self.refused = 0
        """Outcomes that the recorder will not take: a conflict or a document that can't be encoded."""

    @property
    def waiting(self) -> int:
        """Outcomes that are not durable yet."""
        return len(self._batch) + self._outcomes.statistics().current_buffer_used

    def drain(self) -> None:
        """Say that the end is near: a recorder that fails is tried again at once, and every second from now on."""
        self._draining.set()

    async def run(self) -> None:
        """Record until the end. Raises `ActorDown` if the recorder took nothing for too long, or never will again."""
        try:
            await self._run()
        except SpoolFailed as error:
            self.spool_failed = True
            raise ActorDown(str(error)) from error

    async def _run(self) -> None:
        while True:
            if not self._batch:
                try:
                    self._batch = await self._collect()
                except anyio.EndOfStream:
                    return
            verdicts = await self._put_until_known(self._batch)
            unknown = 0
            for envelope, verdict in zip(tuple(self._batch), verdicts, strict=True):
                if verdict.status == "unknown":
                    unknown += 1
                    continue
                del self._batch[unknown]  # one by one: should a crash come, the next run settles the others
                await self._settle(envelope, verdict)

    async def _collect(self) -> list[Envelope]:
        batch = [await self._outcomes.receive()]
        while len(batch) < _BATCH:
            try:
                batch.append(self._outcomes.receive_nowait())
            except (anyio.WouldBlock, anyio.EndOfStream):
                break
        return batch

    async def _put_until_known(self, batch: list[Envelope]) -> list[Verdict]:
        """Try until the recorder has said what became of an item or more; the same ids again do no harm.

        Raises ActorDown once patience is at its end, if it has one.
        """
        delay = _RETRY_FIRST
        began = anyio.current_time()
        while True:
            try:
                verdicts = await self._put(batch)
            except StoreError as error:
                self._report("failing", str(error))
                if self._patience is not None and anyio.current_time() - began > self._patience:
                    self.gave_up = True
                    raise ActorDown(f"the {self._what} has taken nothing for {self._patience:g} s: {error}") from error
                await self._rest(delay * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
                delay = min(_RETRY_LONGEST, delay * 2)
            else:
                self._report("ok", None)
                return verdicts

    async def _put(self, batch: list[Envelope]) -> list[Verdict]:
        verdicts = await self._recorder.put(batch)
        if self._level is not None:
            self._level.look()
        if all(verdict.status == "unknown" for verdict in verdicts):
            raise StoreError(verdicts[0].reason or f"the {self._what} did not say what became of the outcomes")
        return verdicts

    async def _rest(self, seconds: float) -> None:
        if self._draining.is_set():
            await anyio.sleep(min(seconds, _RETRY_WHILE_DRAINING))
            return
        with anyio.move_on_after(seconds):
            await self._draining.wait()

    def _report(self, status: str, reason: str | None) -> None:
        failing = status == "failing"
        if failing or self._failing:
            self._bus.publish(self._state(failing, reason))
        if failing != self._failing:
            self._failing = failing
            logger.log(
                logging.ERROR if failing else logging.INFO, "%s %s", self._what, reason or "takes outcomes again"
            )

    def _state(self, failing: bool, reason: str | None) -> StoreState | LaneState:
        now = self._clock.now()
        if self._level is not None:
            return LaneState(lane=NAME, status="blocked" if failing else "ok", at=now, reason=reason)
        return StoreState(status="failing" if failing else "ok", at=now, waiting=self.waiting, reason=reason)

    @property
    def _what(self) -> str:
        return "store" if self._level is None else "spool"

    async def _settle(self, envelope: Envelope, verdict: Verdict) -> None:
        outcome = envelope.outcome
        if not verdict.acknowledged:
            self.refused += 1
            reason = verdict.reason or verdict.status
            logger.error(
                "outcome %s of %s/%s was not stored: %s", outcome.id, outcome.provider, outcome.model_name, reason
            )
            await self._inbox.send(
                NotStored(outcome_id=outcome.id, provider=outcome.provider, model_id=outcome.model_name, reason=reason)
            )
            return
        self.recorded += 1
        failed = outcome if isinstance(outcome, Failure) else None
        await self._inbox.send(
            Acknowledged(
                outcome_id=outcome.id,
                provider=outcome.provider,
                model_id=outcome.model_name,
                ok=failed is None,
                at=outcome.run_ts,
                error_kind=failed.error_kind if failed is not None else None,
                retry_after=failed.retry_after if failed is not None else None,
            )
        )
        self._on_stored(outcome)

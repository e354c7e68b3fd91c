"""The scheduler: lanes ask for work, the plan says which job is next, acknowledgements come back.

A lane asks only when it could start at once, so a job is chosen at the last moment and never waits in a mailbox.
Where models are shared with other runners, it is claimed first; meanwhile other lanes get theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.actors.leasing import Leasing
from llmbench.actors.plans import Plan
from llmbench.clock import Clock
from llmbench.messages import (
    Acknowledged,
    Deferred,
    Hold,
    Job,
    LaneReset,
    LeaseGranted,
    NotStored,
    Ready,
    SchedulerMessage,
)

Mailboxes = Mapping[str, tuple[MemoryObjectSendStream[Job], MemoryObjectReceiveStream[Job]]]
"""Both ends of each lane's mailbox, by provider."""

_LOOK_AGAIN_SECONDS = 30.0
"""At the latest after this long, what is due is looked at anew: a wall clock can be set."""


_PAUSED = "paused from the dashboard, until somebody resumes it there"


class Scheduler:
    """Answers each `Ready` with a job, now or when one becomes due. Ends when its plan is finished."""

    def __init__(
        self,
        plan: Plan,
        inbox: MemoryObjectReceiveStream[SchedulerMessage],
        mailboxes: Mailboxes,
        clock: Clock,
        leasing: Leasing | None = None,
    ) -> None:
        self._plan = plan
        self._inbox = inbox
        self._mailboxes = mailboxes
        self._clock = clock
        self._leasing = leasing
        self._claiming: dict[str, Job] = {}
        self._asked: dict[str, int] = {}
        self._asleep = anyio.CancelScope()
        self._hold: str | None = None
        self._paused: dict[str, datetime] = {}

    @property
    def hold(self) -> str | None:
        """Why nothing new is started in any lane; None if that is not so."""
        return self._hold or (_PAUSED if self._paused.keys() >= self._mailboxes.keys() else None)

    def paused(self, provider: str) -> bool:
        """Say whether a person has paused this lane."""
        return provider in self._paused

    def paused_since(self, provider: str) -> datetime | None:
        """Return when a person paused this lane, None if it is not paused."""
        return self._paused.get(provider)

    def pause(self, provider: str) -> None:
        """Start nothing new in a lane; the same again is no error.

        What it has asked for stays asked for, as a lane that waits for a job does not ask again.
        """
        self._paused.setdefault(provider, self._clock.now())
        back = self._take_back(provider, "the lane was paused")
        self._asked[provider] = self._asked.get(provider, 0) + back

    def resume(self, provider: str) -> None:
        """Undo `pause`. `LookAgain` has to tell of it."""
        self._paused.pop(provider, None)

    async def run(self) -> None:
        while not self._plan.finished:
            self._hand_out()
            with anyio.move_on_after(self._sleep_seconds()) as self._asleep:
                self._take(await self._inbox.receive())

    def look_again(self) -> None:
        """Look at once what is due: the plan has changed."""
        self._asleep.cancel()

    def _take(self, message: SchedulerMessage) -> None:
        match message:
            case Ready():
                self._asked[message.provider] = self._asked.get(message.provider, 0) + 1
            case LaneReset():
                self._asked[message.provider] = 0
                self._take_back(message.provider, "the lane was restarted")
            case LeaseGranted():
                self._send(message)
            case Hold():
                self._hold = message.reason
                self._plan.apply(message)
            case Deferred() if self._claiming.pop(message.outcome_id, None) is not None:
                self._asked[message.provider] += 1
                self._plan.apply(message)
            case _:
                self._apply(message)

    def _apply(self, message: SchedulerMessage) -> None:
        self._plan.apply(message)
        if self._leasing is not None and isinstance(message, Acknowledged | NotStored | Deferred):
            self._leasing.settle(message)

    def settle(self) -> None:
        """Take what the sink has told since the scheduler ended."""
        with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                message = self._inbox.receive_nowait()
                if isinstance(message, Acknowledged | NotStored):
                    self._apply(message)

    def _send(self, granted: LeaseGranted) -> None:
        job = self._claiming.pop(granted.outcome_id, None)
        if job is not None:
            self._mailboxes[granted.provider][0].send_nowait(msgspec.structs.replace(job, start_before=granted.until))
        elif self._leasing is not None:
            self._leasing.give_back(granted)

    def _take_back(self, provider: str, reason: str) -> int:
        """Empty a lane's mailbox, which nobody else fills: its jobs go back into the plan, as do those to be leased.

        Returns how many there were.
        """
        count = 0
        _send, receive = self._mailboxes[provider]
        for job in [job for job in self._claiming.values() if job.model.provider == provider]:
            del self._claiming[job.outcome_id]
            if self._leasing is not None:
                self._leasing.want_no_more(job)
            self._put_back(job, reason)
            count += 1
        with contextlib.suppress(anyio.WouldBlock):
            while True:
                self._put_back(receive.receive_nowait(), reason)
                count += 1
        return count

    def _put_back(self, job: Job, reason: str) -> None:
        model = job.model
        self._apply(
            Deferred(outcome_id=job.outcome_id, provider=model.provider, model_id=model.model_id, reason=reason)
        )

    def _hand_out(self) -> None:
        if self._hold is not None:
            return
        for provider, asked in self._asked.items():
            for _ in range(0 if provider in self._paused else asked):
                job = self._plan.next_job(provider, self._clock.now())
                if job is None:
                    break
                self._asked[provider] -= 1
                if self._leasing is None:
                    self._mailboxes[provider][0].send_nowait(job)
                else:
                    self._claiming[job.outcome_id] = job
                    self._leasing.want(job)

    def _sleep_seconds(self) -> float:
        now = self._clock.now()
        due = self._plan.next_due(now)
        if due is None or self._hold is not None or not any(self._asked.values()):
            return _LOOK_AGAIN_SECONDS
        return min(_LOOK_AGAIN_SECONDS, max(0.0, (due - now).total_seconds()))

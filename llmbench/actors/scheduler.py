"""The scheduler: lanes ask for work, the plan says which job is next, acknowledgements come back.

A lane asks only when it could start at once, so a job is chosen at the last moment and never waits in a mailbox.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.actors.plans import Plan
from llmbench.clock import Clock
from llmbench.messages import Deferred, Job, LaneReset, Ready, SchedulerMessage

Mailboxes = Mapping[str, tuple[MemoryObjectSendStream[Job], MemoryObjectReceiveStream[Job]]]
"""Both ends of each lane's mailbox, by provider."""

_LOOK_AGAIN_SECONDS = 30.0
"""At the latest after this long, what is due is looked at anew: a wall clock can be set, a catalogue can change."""


class Scheduler:
    """Answers each `Ready` with a job, now or when one becomes due. Ends when its plan is finished."""

    def __init__(
        self,
        plan: Plan,
        inbox: MemoryObjectReceiveStream[SchedulerMessage],
        mailboxes: Mailboxes,
        clock: Clock,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._plan = plan
        self._inbox = inbox
        self._mailboxes = mailboxes
        self._clock = clock
        self._refresh = refresh
        self._asked: dict[str, int] = {}
        self._refreshed = 0.0

    async def run(self) -> None:
        self._refreshed = anyio.current_time()
        while not self._plan.finished:
            self._hand_out()
            with anyio.move_on_after(self._sleep_seconds()):
                self._take(await self._inbox.receive())
            await self._refresh_in_time()

    async def _refresh_in_time(self) -> None:
        """Take over the catalogue once in a while, however busy the inbox is."""
        if self._refresh is not None and anyio.current_time() - self._refreshed >= _LOOK_AGAIN_SECONDS:
            self._refreshed = anyio.current_time()
            await self._refresh()

    def _take(self, message: SchedulerMessage) -> None:
        match message:
            case Ready():
                self._asked[message.provider] = self._asked.get(message.provider, 0) + 1
            case LaneReset():
                self._asked[message.provider] = 0
                self._take_back(message.provider)
            case _:
                self._plan.apply(message)

    def _take_back(self, provider: str) -> None:
        """Empty a lane's mailbox, which nobody else fills: its jobs go back into the plan."""
        _send, receive = self._mailboxes[provider]
        with contextlib.suppress(anyio.WouldBlock):
            while True:
                job = receive.receive_nowait()
                self._plan.apply(
                    Deferred(
                        outcome_id=job.outcome_id,
                        provider=provider,
                        model_id=job.model.model_id,
                        reason="the lane was restarted",
                    )
                )

    def _hand_out(self) -> None:
        for provider, asked in self._asked.items():
            for _ in range(asked):
                job = self._plan.next_job(provider, self._clock.now())
                if job is None:
                    break
                self._mailboxes[provider][0].send_nowait(job)
                self._asked[provider] -= 1

    def _sleep_seconds(self) -> float:
        now = self._clock.now()
        due = self._plan.next_due(now)
        if due is None or not any(self._asked.values()):
            return _LOOK_AGAIN_SECONDS
        return min(_LOOK_AGAIN_SECONDS, max(0.0, (due - now).total_seconds()))

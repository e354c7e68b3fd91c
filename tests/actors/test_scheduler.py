"""The scheduler: a lane that asks gets the next job, now or when one is due; what it did not take comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.actors import refreshing
from llmbench.actors.due import ModelClock
from llmbench.actors.plans import Batch, Plan, Rotation
from llmbench.actors.refreshing import Refreshing
from llmbench.actors.scheduler import Mailboxes, Scheduler
from llmbench.clock import SystemClock
from llmbench.messages import (
    Acknowledged,
    Hold,
    Job,
    LaneBlocked,
    LaneReset,
    LeaseGranted,
    LookAgain,
    Ready,
    SchedulerMessage,
)
from tests.actors.engine import LIMIT, runs

LANES = ("groq", "openai")
FRESH = timedelta(minutes=180)


class Around:
    """A scheduler's surroundings: what lanes and sink tell it, and the lanes' mailboxes."""

    def __init__(self, plan: Plan) -> None:
        self.inbox, inbox = anyio.create_memory_object_stream[SchedulerMessage](1000)
        self.mailboxes: Mailboxes = {name: anyio.create_memory_object_stream[Job](8) for name in LANES}
        self.scheduler = Scheduler(plan, inbox, self.mailboxes, SystemClock())
        self._streams: list[MemoryObjectSendStream[Job] | MemoryObjectReceiveStream[Job]] = [
            stream for pair in self.mailboxes.values() for stream in pair
        ]
        self._inbox = inbox

    def tell(self, *messages: SchedulerMessage) -> None:
        for message in messages:
            self.inbox.send_nowait(message)

    async def job(self, lane: str = "groq") -> Job:
        return await self.mailboxes[lane][1].receive()

    def handed_out(self, lane: str = "groq") -> list[Job]:
        """Return the jobs that lie in a mailbox, and take them."""
        receive = self.mailboxes[lane][1]
        return [receive.receive_nowait() for _ in range(receive.statistics().current_buffer_used)]

    def close(self) -> None:
        for stream in (self.inbox, self._inbox, *self._streams):
            stream.close()


@asynccontextmanager
async def scheduling(plan: Plan, refresh: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[Around]:
    """Run a scheduler, and who takes over the catalogue, beside the block, until it ends or the block is left."""
    around = Around(plan)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(around.scheduler.run)
            if refresh is not None:
                group.start_soon(Refreshing(refresh, around.scheduler).run)
            yield around
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    around.close()


def done(job: Job) -> Acknowledged:
    return Acknowledged(
        outcome_id=job.outcome_id,
        provider=job.model.provider,
        model_id=job.model.model_id,
        ok=True,
        at=datetime.now(UTC),
    )


async def test_a_lane_that_asks_gets_one_job_for_each_question() -> None:
    """Its own jobs, as many as it asked for, and nothing unasked."""
    async with scheduling(Batch(runs("groq", "a", "b", "c") + runs("openai", "d"), "scheduled")) as around:
        around.tell(Ready(provider="groq"), Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()

        assert [job.model.model_id for job in around.handed_out()] == ["a", "b"]
        assert around.handed_out("openai") == []


async def test_a_question_is_answered_when_a_job_becomes_due() -> None:
    """Nothing is due when the lane asks; it need not ask again."""
    last = datetime.now(UTC) - FRESH + timedelta(seconds=0.2)
    plan = Rotation(runs("groq", "a"), {("groq", "a"): ModelClock(last_success=last)}, FRESH)
    async with scheduling(plan) as around:
        around.tell(Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []

        job = await around.job()
        assert datetime.now(UTC) >= last + FRESH
        assert job.model.model_id == "a"


async def test_a_question_is_answered_when_an_acknowledgement_frees_a_model() -> None:
    """The second run of a model waits for the first; then it goes to whoever asked."""
    async with scheduling(Batch(runs("groq", "a", "a"), "bench")) as around:
        around.tell(Ready(provider="groq"), Ready(provider="groq"))
        first = await around.job()
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []
        around.tell(done(first))

        assert (await around.job()).outcome_id != first.outcome_id


async def test_it_ends_with_its_plan() -> None:
    """After the last acknowledgement there is nothing left to schedule."""
    around = Around(Batch(runs("groq", "a"), "bench"))
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(around.scheduler.run)
            around.tell(Ready(provider="groq"))
            around.tell(done(await around.job()))
    around.close()


async def test_a_lane_that_was_reset_loses_its_questions_and_its_jobs_go_back() -> None:
    """What lay in its mailbox is handed out again, to the lane's next life, and only when that asks."""
    async with scheduling(Batch(runs("groq", "a", "b"), "bench")) as around:
        around.tell(Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()
        around.tell(Ready(provider="openai"), LaneReset(provider="groq"), LaneReset(provider="openai"))
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []
        around.tell(Ready(provider="groq"), Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()

        assert [job.model.model_id for job in around.handed_out()] == ["a", "b"]


async def test_a_lane_that_is_down_does_not_hold_the_plan_up() -> None:
    """What only that lane could have run is given up, and the scheduler ends with the others' last run."""
    plan = Batch(runs("groq", "a") + runs("openai", "b"), "scheduled")
    around = Around(plan)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(around.scheduler.run)
            around.tell(Ready(provider="openai"))
            around.tell(LaneBlocked(provider="groq", reason="no key", seconds=900, lasting=True))
            around.tell(done(await around.job("openai")))
    around.close()

    assert plan.given_up == {"groq": (1, "no key")}


async def test_on_hold_nothing_is_handed_out() -> None:
    """What is due stays in the plan, questions are kept, and both meet when there is room again."""
    plan = Rotation(runs("groq", "a", "b") + runs("openai", "c"), {}, FRESH)
    async with scheduling(plan) as around:
        around.tell(Ready(provider="groq"))
        first = await around.job()
        around.tell(Hold(reason="spool_full: no room"), Ready(provider="groq"), Ready(provider="openai"), done(first))
        await anyio.wait_all_tasks_blocked()
        assert (around.handed_out(), around.handed_out("openai")) == ([], [])

        around.tell(Hold(reason=None))
        assert ((await around.job()).model.model_id, (await around.job("openai")).model.model_id) == ("b", "c")


async def test_a_round_ends_on_hold() -> None:
    """What runs is waited for, what has not begun is given up, and there is nothing left to wait for room with."""
    plan = Batch(runs("groq", "a", "b") + runs("openai", "c"), "scheduled")
    around = Around(plan)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(around.scheduler.run)
            around.tell(Ready(provider="groq"))
            running = await around.job()
            around.tell(Hold(reason="spool_full: no room"), Ready(provider="openai"))
            around.tell(done(running))
    assert around.handed_out("openai") == []
    around.close()

    assert plan.done == 1
    assert plan.given_up == dict.fromkeys(LANES, (1, "spool_full: no room"))


async def test_the_catalogue_is_taken_over_while_the_lanes_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was added while the engine runs is measured, though nothing else happens."""
    monkeypatch.setattr(refreshing, "_EVERY_SECONDS", 0.02)
    plan = Rotation([], {}, FRESH)

    async def refresh() -> None:
        plan.replace_models(runs("groq", "new"))

    async with scheduling(plan, refresh) as around:
        around.tell(Ready(provider="groq"))

        assert (await around.job()).model.model_id == "new"


async def test_a_catalogue_that_does_not_answer_keeps_no_lane_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs is asked by the scheduler, and jobs are handed out all the same."""
    monkeypatch.setattr(refreshing, "_EVERY_SECONDS", 0.02)
    asked = anyio.Event()

    async def refresh() -> None:
        asked.set()
        await anyio.sleep_forever()

    async with scheduling(Rotation(runs("groq", "known"), {}, FRESH), refresh) as around:
        await asked.wait()
        around.tell(Ready(provider="groq"))

        assert (await around.job()).model.model_id == "known"


async def test_the_catalogue_is_taken_over_while_the_inbox_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages come, with never a pause between them, a change of the catalogue is seen in time."""
    monkeypatch.setattr(refreshing, "_EVERY_SECONDS", 0.05)
    refreshed = anyio.Event()

    async def refresh() -> None:
        refreshed.set()

    async with scheduling(Rotation([], {}, FRESH), refresh) as around:
        while not refreshed.is_set():
            around.tell(LaneReset(provider="groq"))
            await checkpoint()


async def test_a_crash_loses_neither_questions_nor_jobs() -> None:
    """The next run answers what was asked before the crash: a plan that raised once is asked again."""

    class Stumbling(Batch):
        stumbled = False

        def next_job(self, provider: str, now: datetime) -> Job | None:
            if not self.stumbled:
                self.stumbled = True
                raise RuntimeError("stumbled")
            return super().next_job(provider, now)

    around = Around(Stumbling(runs("groq", "a"), "bench"))
    around.tell(Ready(provider="groq"))
    with anyio.fail_after(LIMIT):
        with pytest.raises(RuntimeError, match="stumbled"):
            await around.scheduler.run()
        async with anyio.create_task_group() as group:
            group.start_soon(around.scheduler.run)
            around.tell(done(await around.job()))
    around.close()


async def test_a_paused_lane_gets_nothing_and_keeps_its_questions() -> None:
    """Others get theirs; what it had asked for is answered once it is resumed, without being asked again."""
    async with scheduling(Rotation(runs("groq", "a", "b") + runs("openai", "c"), {}, FRESH)) as around:
        around.scheduler.pause("groq")
        around.tell(Ready(provider="groq"), Ready(provider="groq"), Ready(provider="openai"))
        assert (await around.job("openai")).model.model_id == "c"
        assert around.handed_out() == []
        assert (around.scheduler.paused("groq"), around.scheduler.hold) == (True, None)
        since = around.scheduler.paused_since("groq")
        assert since is not None
        around.scheduler.pause("groq")
        assert around.scheduler.paused_since("groq") is since

        around.scheduler.resume("groq")
        around.tell(LookAgain())
        assert [(await around.job()).model.model_id for _ in range(2)] == ["a", "b"]


async def test_a_job_that_was_handed_out_is_taken_back_by_a_pause() -> None:
    """It did not start: it lay in the mailbox, or waited for its lease, and goes back, with the question for it."""
    async with scheduling(Rotation(runs("groq", "a", "b"), {}, FRESH)) as around:
        around.tell(Ready(provider="groq"), Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()
        around.scheduler.pause("groq")
        around.scheduler.pause("groq")
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []

        around.scheduler.resume("groq")
        around.tell(LookAgain())
        assert {(await around.job()).model.model_id for _ in range(2)} == {"a", "b"}
        assert around.handed_out() == []


async def test_a_job_that_waits_for_its_lease_is_taken_back_by_a_pause() -> None:
    """A lease that comes too late is given back, and nothing starts."""
    plan = Rotation(runs("groq", "a"), {}, FRESH)
    async with scheduling(plan) as around:
        leasing = Wished()
        around.scheduler._leasing = leasing  # type: ignore[assignment]
        around.tell(Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()
        (job,) = leasing.wanted
        around.scheduler.pause("groq")
        granted = LeaseGranted(outcome_id=job.outcome_id, provider="groq", model_id="a", until=1e9)
        around.tell(granted)
        await anyio.wait_all_tasks_blocked()
        assert (leasing.wanted, leasing.returned, around.handed_out()) == ([], [granted], [])

        around.scheduler.resume("groq")
        around.tell(LookAgain())
        await anyio.wait_all_tasks_blocked()
        assert [one.model.model_id for one in leasing.wanted] == ["a"]


class Wished:
    """Leases that are never granted by themselves."""

    def __init__(self) -> None:
        self.wanted: list[Job] = []
        self.returned: list[LeaseGranted] = []

    def want(self, job: Job) -> None:
        self.wanted.append(job)

    def want_no_more(self, job: Job) -> None:
        self.wanted.remove(job)

    def settle(self, message: object) -> None:
        pass

    def give_back(self, message: LeaseGranted) -> None:
        self.returned.append(message)


async def test_a_pause_of_all_lanes_holds_everything() -> None:
    """It is told why, and a round does not give anything up for it."""
    plan = Batch(runs("groq", "a") + runs("openai", "b"), "scheduled")
    async with scheduling(plan) as around:
        for name in LANES:
            around.scheduler.pause(name)
        around.tell(Ready(provider="groq"), Ready(provider="openai"))
        await anyio.wait_all_tasks_blocked()
        assert "paused" in str(around.scheduler.hold)
        around.tell(Hold(reason=None))
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []

        around.scheduler.resume("openai")
        around.tell(LookAgain())
        around.tell(done(await around.job("openai")))
        assert around.scheduler.hold is None
        assert plan.given_up == {}


async def test_a_lane_that_crashes_stays_paused() -> None:
    """Its next life gets nothing either."""
    async with scheduling(Rotation(runs("groq", "a"), {}, FRESH)) as around:
        around.scheduler.pause("groq")
        around.tell(LaneReset(provider="groq"), Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []


async def test_a_model_that_is_asked_for_is_handed_out_to_a_lane_that_waits() -> None:
    """Though it is fresh, at once, and once."""
    plan = Rotation(runs("groq", "a"), {("groq", "a"): ModelClock(last_success=datetime.now(UTC))}, FRESH)
    async with scheduling(plan) as around:
        around.tell(Ready(provider="groq"), Ready(provider="groq"))
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []
        plan.ask_for("groq", "a")
        around.tell(LookAgain())
        job = await around.job()
        around.tell(done(job))
        await anyio.wait_all_tasks_blocked()
        assert around.handed_out() == []

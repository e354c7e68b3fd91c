"""Plans: who is next, who is in flight, and that nothing is lost, doubled or retired on the way."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from llmbench.actors.due import ModelClock, due_at
from llmbench.actors.plans import Batch, Load, Plan, Rotation
from llmbench.errors import KINDS
from llmbench.messages import (
    Acknowledged,
    Deferred,
    Hold,
    Job,
    LaneBlocked,
    LaneReset,
    Model,
    NotStored,
    Profile,
    Ready,
    SchedulerMessage,
)
from llmbench.naming import Key, key_of
from tests.stores.documents import NOON, model, moment

PROFILE = Profile(id="default", prompt="Write.", max_tokens=64)
FRESH = timedelta(minutes=180)
LANES = ("openai", "groq")
CATALOGUE = [model(name, provider=lane) for lane in LANES for name in ("a", "b", "C")]


def runs(models: Sequence[Model]) -> list[tuple[Model, Profile]]:
    return [(each, PROFILE) for each in models]


def acknowledged(
    job: Job, *, at: datetime = NOON, kind: str | None = None, retry_after: float | None = None
) -> Acknowledged:
    return Acknowledged(
        outcome_id=job.outcome_id,
        provider=job.model.provider,
        model_id=job.model.model_id,
        ok=kind is None,
        at=at,
        error_kind=kind,
        retry_after=retry_after,
    )


def not_stored(job: Job) -> NotStored:
    return NotStored(
        outcome_id=job.outcome_id, provider=job.model.provider, model_id=job.model.model_id, reason="conflict"
    )


def elsewhere(job: Job) -> Deferred:
    return msgspec.structs.replace(deferred(job), seconds=60.0)


def deferred(job: Job) -> Deferred:
    return Deferred(
        outcome_id=job.outcome_id, provider=job.model.provider, model_id=job.model.model_id, reason="paused"
    )


def blocked(provider: str, seconds: float, *, lasting: bool = False) -> LaneBlocked:
    return LaneBlocked(provider=provider, reason="no key", seconds=seconds, lasting=lasting)


def settled(job: Job, how: str) -> SchedulerMessage:
    match how:
        case "refused":
            return not_stored(job)
        case "back":
            return deferred(job)
        case _:
            return acknowledged(job)


def next_one(plan: Plan, lane: str = "openai", now: datetime = NOON) -> Job:
    job = plan.next_job(lane, now)
    assert job is not None
    return job


def take_all(plan: Plan, lane: str = "openai", now: datetime = NOON) -> list[Job]:
    """Return all that the plan has for a lane now."""
    return list(iter(lambda: plan.next_job(lane, now), None))


class TestRotation:
    def test_a_lane_gets_its_own_models_stalest_first(self) -> None:
        """What was never measured comes before what is stale, and another lane's models never come."""
        clocks = {
            ("openai", "a"): ModelClock(last_success=moment(-200)),
            ("openai", "b"): ModelClock(last_success=moment(-300)),
        }
        plan = Rotation(runs(CATALOGUE), clocks, FRESH)

        assert [job.model.model_id for job in take_all(plan)] == ["C", "b", "a"]

    def test_what_is_fresh_is_not_handed_out_but_named_as_next(self) -> None:
        """The scheduler learns when to look again: at the earliest time that is not now."""
        clocks = {
            ("openai", "a"): ModelClock(last_success=moment(-100)),
            ("openai", "b"): ModelClock(last_success=moment(-170)),
        }
        plan = Rotation(runs(CATALOGUE[:2]), clocks, FRESH)

        assert plan.next_job("openai", NOON) is None
        assert plan.next_due(NOON) == moment(10)
        assert next_one(plan, now=moment(10)).model.model_id == "b"

    def test_an_acknowledged_success_makes_fresh(self) -> None:
        """The freshness counts from the time of the run, not from that of its acknowledgement."""
        plan = Rotation(runs(CATALOGUE[:1]), {}, FRESH)
        plan.apply(acknowledged(next_one(plan), at=moment(-1)))

        assert plan.next_job("openai", moment(178.9)) is None
        assert next_one(plan, now=moment(179)).model.model_id == "a"

    def test_only_an_acknowledgement_makes_fresh(self) -> None:
        """A job that came back unstarted is due as before; one whose result was refused waits a little."""
        plan = Rotation(runs(CATALOGUE[:1]), {}, FRESH)
        plan.apply(deferred(next_one(plan)))
        plan.apply(not_stored(next_one(plan)))

        assert plan.next_job("openai", moment(1)) is None
        assert plan.due_count(moment(1)) == 0
        assert next_one(plan, now=moment(6)).model.model_id == "a"

    def test_a_past_in_the_future_keeps_no_model_back(self) -> None:
        """After a wall clock was set back, what it had said is no reason to wait for it; a minute is no matter."""
        clocks = {
            ("openai", "a"): ModelClock(last_success=moment(60 * 24 * 30)),
            ("openai", "b"): ModelClock(last_success=moment(1)),
            ("openai", "c"): ModelClock(
                last_success=moment(60), last_failure=moment(61), last_failure_kind="auth", failures_in_a_row=3
            ),
        }
        plan = Rotation(runs(CATALOGUE[:3]), clocks, FRESH)

        assert plan.due_count(NOON) == 2
        plan.apply(acknowledged(next_one(plan), at=NOON))
        assert plan.due_count(moment(1)) == 1

    def test_an_unknown_outcome_changes_nothing(self) -> None:
        """A late word on a job that nobody waits for frees no model that is in flight by now."""
        plan = Rotation(runs(CATALOGUE[:1]), {}, FRESH)
        first = next_one(plan)
        plan.apply(deferred(first))
        next_one(plan)
        plan.apply(acknowledged(first))
        plan.apply(not_stored(first))

        assert plan.next_job("openai", NOON) is None
        assert plan.due_count(NOON) == 1

    def test_the_catalogue_can_change_on_the_way(self) -> None:
        """What left is not handed out again, what came is due now, and a result of what left still counts."""
        plan = Rotation(runs(CATALOGUE[:2]), {}, FRESH)
        job = next_one(plan)
        plan.replace_models(runs(CATALOGUE[1:3]))

        assert {job.model.model_id for job in take_all(plan)} == {"b", "C"}
        plan.apply(acknowledged(job))
        plan.replace_models(runs(CATALOGUE[:1]))
        assert plan.next_job("openai", NOON) is None

    def test_lanes_and_questions_do_not_disturb_it(self) -> None:
        """It never ends, and what concerns a lane or the spool as such changes no model."""
        plan = Rotation(runs(CATALOGUE), {}, FRESH)
        lane = (blocked("openai", 1e9, lasting=True), LaneReset(provider="openai"), Ready(provider="openai"))
        for message in (*lane, Hold(reason="spool_full")):
            plan.apply(message)

        assert not plan.finished
        assert len(take_all(plan)) == 3


class TestAskedFor:
    """A model that a person wants to be measured now."""

    FRESHLY = dict.fromkeys((("openai", name) for name in "abc"), ModelClock(last_success=NOON))

    def test_it_is_due_until_it_is_measured(self) -> None:
        """A job that came back unstarted is still asked for; an outcome, or another runner's, settles it."""
        plan = Rotation(runs(CATALOGUE), self.FRESHLY, FRESH)
        assert plan.next_job("openai", NOON) is None
        for settle in (acknowledged, not_stored, elsewhere):
            assert plan.ask_for("OpenAI", "A") == 1
            plan.apply(deferred(next_one(plan)))
            job = next_one(plan)
            assert (job.model.model_id, job.asked) == ("a", True)
            plan.apply(settle(job))
            assert plan.next_job("openai", NOON) is None

    def test_it_goes_before_what_has_waited_longer(self) -> None:
        plan = Rotation(runs(CATALOGUE[:2]), {("openai", "b"): ModelClock(last_success=NOON)}, FRESH)
        plan.ask_for("openai", "b")

        assert [job.model.model_id for job in take_all(plan)] == ["b", "a"]

    def test_what_is_in_flight_is_being_measured_already(self) -> None:
        """It is not measured once more afterwards."""
        plan = Rotation(runs(CATALOGUE[:1]), {}, FRESH)
        job = next_one(plan)
        assert plan.ask_for("openai") == plan.ask_for("openai", "a") == 0
        assert plan.standing(("openai", "a")) == "in_flight"
        plan.apply(acknowledged(job))

        assert plan.standing(("openai", "a")) == "waiting"
        assert plan.standing(("openai", "z")) is None
        assert plan.next_job("openai", NOON) is None

    def test_a_model_that_is_disabled_is_not_asked_for_any_more(self) -> None:
        """Not even when it comes back."""
        plan = Rotation(runs(CATALOGUE), self.FRESHLY, FRESH)
        plan.ask_for("openai", "a")
        plan.replace_models(runs(CATALOGUE[1:]))
        assert not plan.measures(("openai", "a"))
        plan.replace_models(runs(CATALOGUE))

        assert plan.next_job("openai", NOON) is None

    def test_another_runners_time_and_a_backoff_are_passed_over(self) -> None:
        """A person may know that it works again."""
        plan = Rotation(runs(CATALOGUE[:1]), {}, FRESH)
        plan.apply(elsewhere(next_one(plan)))
        assert plan.ask_for("openai") == 1
        plan.apply(acknowledged(next_one(plan), kind="auth"))
        assert plan.next_job("openai", NOON) is None
        plan.ask_for("openai", "a")

        assert next_one(plan).asked


class RotationMachine(RuleBasedStateMachine):
    """A day in the life of a Rotation, against what is known of it from outside."""

    jobs: Bundle[Job] = Bundle("jobs")

    @initialize(enabled=st.sets(st.sampled_from(range(len(CATALOGUE)))))
    def begin(self, enabled: set[int]) -> None:
        self.now = NOON
        self.flying: dict[str, tuple[Key, datetime]] = {}
        self.clocks: dict[Key, ModelClock] = {}
        self.asked: set[Key] = set()
        self.plan = Rotation([], {}, FRESH)
        self.change_catalogue(enabled)

    @rule(enabled=st.sets(st.sampled_from(range(len(CATALOGUE)))))
    def change_catalogue(self, enabled: set[int]) -> None:
        models = [CATALOGUE[index] for index in sorted(enabled)]
        self.enabled = {key_of(each) for each in models}
        self.asked &= self.enabled
        self.plan.replace_models(runs(models))

    @rule(minutes=st.floats(0, 400))
    def wait(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(target=jobs, lane=st.sampled_from(LANES))
    def ask(self, lane: str) -> Job:
        job = self.plan.next_job(lane, self.now)
        expected = self._due(lane)
        if job is None:
            assert expected == []
            return Job(outcome_id="none", model=CATALOGUE[0], profile=PROFILE)
        key = key_of(job.model)
        assert key in expected, "it is enabled, of this lane, due and not in flight"
        first = self.asked.intersection(expected) or expected
        assert key in first, "what a person asks for goes first"
        assert self._success(key) == min(map(self._success, first)), "no other that is due has waited longer"
        assert job.asked == (key in self.asked)
        assert job.outcome_id not in self.flying
        self.flying[job.outcome_id] = key, self.now
        return job

    def _idle(self) -> set[Key]:
        return self.enabled - {key for key, _at in self.flying.values()}

    def _due(self, lane: str) -> list[Key]:
        return [key for key in self._idle() if key[0] == lane and self._due_at(key) <= self.now]

    def _due_at(self, key: Key) -> datetime:
        return moment(-1e6) if key in self.asked else due_at(key, self.clocks.get(key, ModelClock()), FRESH)

    @rule(lane=st.sampled_from(LANES), name=st.none() | st.sampled_from("abcx"))
    def want(self, lane: str, name: str | None) -> None:
        wanted = {key for key in self._idle() if key[0] == lane and name in (None, key[1])}
        assert self.plan.ask_for(lane.upper(), name and name.upper()) == len(wanted)
        self.asked |= wanted

    def _success(self, key: Key) -> datetime:
        return self.clocks.get(key, ModelClock()).last_success or moment(-1e6)

    @rule(job=consumes(jobs), kind=st.none() | st.sampled_from(KINDS), retry_after=st.none() | st.floats(0, 1e9))
    def acknowledge(self, job: Job, kind: str | None, retry_after: float | None) -> None:
        message = acknowledged(job, at=self.now, kind=kind, retry_after=retry_after)
        self.plan.apply(message)
        if known := self.flying.pop(job.outcome_id, None):
            self.asked.discard(known[0])
            self.clocks[known[0]] = self.clocks.get(known[0], ModelClock()).after(message)

    @rule(job=consumes(jobs))
    def refuse(self, job: Job) -> None:
        self.plan.apply(not_stored(job))
        if known := self.flying.pop(job.outcome_id, None):
            self.asked.discard(known[0])
            self.clocks[known[0]] = self.clocks.get(known[0], ModelClock()).after_refusal(known[1])

    @rule(job=consumes(jobs))
    def give_back(self, job: Job) -> None:
        self.plan.apply(deferred(job))
        self.flying.pop(job.outcome_id, None)

    @invariant()
    def no_model_is_in_flight_twice(self) -> None:
        flying = Counter(key for key, _at in self.flying.values())
        assert all(count == 1 for count in flying.values())

    @invariant()
    def it_says_when_to_look_again(self) -> None:
        at = self.plan.next_due(self.now)
        later = map(self._due_at, self._idle())
        assert at == min((each for each in later if each > self.now), default=None)

    @invariant()
    def it_says_what_a_lane_has_to_do(self) -> None:
        for lane in LANES:
            load = self.plan.load(lane, self.now)
            times = [self._due_at(key) for key in self._idle() if key[0] == lane]
            due = sum(at <= self.now for at in times)
            assert (load.models, load.due) == (sum(key[0] == lane for key in self.enabled), due)
            assert load.next_due == (None if due else min(times, default=None))

    def teardown(self) -> None:
        """In the end everything that is enabled gets its turn once more: nothing was retired or lost."""
        for outcome_id, (key, _at) in self.flying.items():
            lane, name = key
            self.plan.apply(Deferred(outcome_id=outcome_id, provider=lane, model_id=name, reason="over"))
        much_later = self.now + timedelta(days=2)
        seen = [key_of(job.model) for lane in LANES for job in take_all(self.plan, lane, much_later)]
        assert sorted(seen) == sorted(self.enabled)


TestRotationMachine = RotationMachine.TestCase
TestRotationMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestBatch:
    def test_each_run_is_handed_out_once_and_then_it_is_finished(self) -> None:
        """In the given order, by lane; finished is when the last outcome is settled, not when it is handed out."""
        batch = Batch(runs(CATALOGUE), "bench")
        jobs = take_all(batch)

        assert [job.model.model_id for job in jobs] == ["a", "b", "C"]
        assert {job.role for job in jobs} == {"bench"}
        jobs += take_all(batch, "groq")
        assert batch.next_due(NOON) is None
        for job in jobs:
            assert not batch.finished
            batch.apply(acknowledged(job, kind="timeout"))
        assert batch.finished
        assert (batch.done, batch.total, batch.given_up) == (6, 6, {})

    def test_without_runs_it_is_finished(self) -> None:
        """Nothing due is a round that is over."""
        assert Batch([], "scheduled").finished

    def test_a_refused_outcome_is_settled_too(self) -> None:
        """The run was made; that the store would not have it is told elsewhere."""
        batch = Batch(runs(CATALOGUE[:1]), "demo")
        batch.apply(not_stored(next_one(batch)))

        assert batch.finished
        assert batch.done == 1

    def test_a_model_is_not_in_flight_twice(self) -> None:
        """Several runs of one model follow each other; another model may go on beside them."""
        batch = Batch(runs([CATALOGUE[0], CATALOGUE[0], CATALOGUE[1]]), "bench")
        first = next_one(batch)

        assert [job.model.model_id for job in take_all(batch)] == ["b"]
        batch.apply(acknowledged(first))
        assert [job.model.model_id for job in take_all(batch)] == ["a"]

    def test_with_a_limit_what_is_left_to_others_makes_room_for_the_next(self) -> None:
        """At most so many are made, and models that others have keep nobody from those that come after them."""
        batch = Batch(runs([*CATALOGUE]), "scheduled", limit=2)
        first, second = take_all(batch)
        assert (batch.total, batch.finished) == (2, False)
        batch.apply(elsewhere(first))
        [third] = take_all(batch)
        batch.apply(acknowledged(third))
        batch.apply(acknowledged(second))

        assert [job.model.model_id for job in (first, second, third)] == ["a", "b", "C"]
        assert batch.finished
        assert (batch.done, batch.elsewhere, batch.given_up) == (2, 1, {})

    def test_with_a_limit_a_closed_lane_gives_up_what_comes_to_it(self) -> None:
        """The place of a model that was left to others is not taken by one that nobody can run."""
        batch = Batch(runs([model("a", provider="openai"), model("b", provider="groq")]), "scheduled", limit=1)
        batch.close_lane("groq", "no key")
        batch.apply(elsewhere(next_one(batch)))

        assert batch.finished
        assert batch.given_up == {"groq": (1, "no key")}

    def test_what_a_lane_has_to_do(self) -> None:
        """Models count once, runs that wait each; what is in flight is not due, and nothing will be later."""
        batch = Batch(runs(CATALOGUE * 2), "bench")
        next_one(batch)

        assert batch.load("openai", NOON) == Load(3, 5)
        assert batch.load("nobody", NOON) == Load(0, 0)

    def test_overlap_lets_runs_of_one_model_go_on_together(self) -> None:
        """A bench that asks for it measures a model under load of its own."""
        batch = Batch(runs([CATALOGUE[0]] * 3), "bench", overlap=True)

        assert len({job.outcome_id for job in take_all(batch)}) == 3

    def test_a_deferred_run_is_the_next_one_again(self) -> None:
        """A job that a lane gave back is not lost, and keeps its id and its place."""
        batch = Batch(runs(CATALOGUE[:3]), "bench")
        first = next_one(batch)
        batch.apply(deferred(first))

        assert next_one(batch).outcome_id == first.outcome_id
        assert not batch.finished

    @pytest.mark.parametrize("message", [blocked("openai", 900, lasting=True), blocked("openai", 121)])
    def test_a_lane_that_is_closed_for_long_is_given_up(self, message: LaneBlocked) -> None:
        """What that lane has not started is not waited for, and the reason is kept; other lanes go on."""
        batch = Batch(runs(CATALOGUE), "bench")
        running = next_one(batch)
        batch.apply(message)

        assert batch.next_job("openai", NOON) is None
        assert batch.given_up == {"openai": (2, "no key")}
        assert len(take_all(batch, "groq")) == 3
        batch.apply(acknowledged(running))
        assert batch.done == 1

    def test_a_short_pause_is_waited_for(self) -> None:
        """Two minutes are worth waiting; nothing is given up."""
        batch = Batch(runs(CATALOGUE), "bench")
        batch.apply(blocked("openai", 120))

        assert len(take_all(batch)) == 3

    def test_what_a_closed_lane_gives_back_is_given_up_as_well(self) -> None:
        """A job that was on its way when the lane closed counts with the others, under the first reason."""
        batch = Batch(runs(CATALOGUE[:3]), "bench")
        job = next_one(batch)
        batch.apply(blocked("openai", 900, lasting=True))
        batch.apply(
            LaneBlocked(provider="openai", reason="something later", seconds=900, lasting=True),
        )
        batch.apply(deferred(job))

        assert batch.given_up == {"openai": (3, "no key")}
        assert batch.finished

    def test_while_nothing_new_is_started_all_lanes_give_up(self) -> None:
        """A round does not wait for room in the spool: what runs is settled, the rest given up with the reason."""
        batch = Batch(runs(CATALOGUE), "scheduled")
        running = [next_one(batch), next_one(batch, "groq")]
        batch.apply(Hold(reason="spool_full: no room"))

        assert [batch.next_job(lane, NOON) for lane in LANES] == [None, None]
        assert batch.given_up == dict.fromkeys(LANES, (2, "spool_full: no room"))
        batch.apply(deferred(running[0]))
        assert not batch.finished
        batch.apply(acknowledged(running[1]))
        assert (batch.done, batch.given_up["openai"][0]) == (1, 3)

    def test_room_again_changes_nothing_for_what_was_not_given_up(self) -> None:
        """That there is room, with nothing said before it, closes no lane."""
        batch = Batch(runs(CATALOGUE), "scheduled")
        batch.apply(Hold(reason=None))

        assert [len(take_all(batch, lane)) for lane in LANES] == [3, 3]
        assert batch.given_up == {}

    @given(st.lists(st.tuples(st.sampled_from(LANES), st.sampled_from(["ok", "refused", "back", "close", "late"]))))
    def test_every_run_is_made_or_given_up_in_any_case(self, steps: list[tuple[str, str]]) -> None:
        """Whatever happens on the way, the accounts balance in the end and no run is counted twice."""
        batch = Batch(runs(CATALOGUE * 2), "bench")
        for lane, step in itertools.chain(steps, itertools.product(LANES, ["ok"] * 6)):
            job = batch.next_job(lane, NOON)
            if step == "close":
                batch.apply(blocked(lane, 900, lasting=True))
            if job is not None:
                batch.apply(settled(job, step))
                if step == "late":
                    batch.apply(acknowledged(job))

        assert batch.finished
        assert batch.done + sum(count for count, _reason in batch.given_up.values()) == batch.total == 12


class TestOtherRunners:
    """A job that was left to another runner."""

    def test_the_rotation_leaves_it_alone_for_so_long(self) -> None:
        """Then it is due again; the others are handed out meanwhile."""
        plan = Rotation(runs(CATALOGUE[:2]), {}, FRESH)
        first = plan.next_job("openai", NOON)
        assert first is not None
        plan.apply(msgspec.structs.replace(deferred(first), seconds=60.0))
        second = plan.next_job("openai", NOON)

        assert second is not None
        assert second.model.model_id != first.model.model_id
        assert plan.next_job("openai", NOON + timedelta(seconds=59)) is None
        assert plan.next_due(NOON) == NOON + timedelta(seconds=60)
        again = plan.next_job("openai", NOON + timedelta(seconds=60))
        assert again is not None
        assert again.model == first.model

    def test_a_round_does_without_it(self) -> None:
        """It is no run that was not made: somebody makes it."""
        batch = Batch(runs(CATALOGUE[:1]), "scheduled")
        job = batch.next_job("openai", NOON)
        assert job is not None
        batch.apply(msgspec.structs.replace(deferred(job), seconds=60.0))

        assert batch.finished
        assert (batch.elsewhere, batch.done, batch.given_up) == (1, 0, {})

    def test_a_fleet_that_is_too_slow_neglects_no_model(self) -> None:
        """Two runners that measure one of twenty models a second each come to every model each ten seconds."""
        fresh, count = timedelta(seconds=4), 20
        models = runs([model(f"m{number:02}", provider="groq") for number in range(count)])
        plans = [Rotation(models, {}, fresh) for _ in range(2)]
        measured: dict[str, datetime] = {}
        longest = timedelta(0)
        for second in range(100):
            for plan in plans:
                now = NOON + timedelta(seconds=second)
                while (job := plan.next_job("groq", now)) is not None:
                    last = measured.get(job.model.model_id)
                    if last is None or now - last >= fresh:
                        plan.apply(acknowledged(job, at=now))
                        measured[job.model.model_id] = now
                        longest = max(longest, now - (last or now))
                        break
                    left = (last + fresh - now).total_seconds()
                    plan.apply(msgspec.structs.replace(deferred(job), seconds=left, measured=last))

        assert longest <= timedelta(seconds=count / 2 + 1)

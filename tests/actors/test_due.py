"""When a model is due: exact times where they are promised, and properties that hold for every past."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.actors.due import ModelClock, backoff, due_at, later_of, stalest_first
from llmbench.errors import KINDS, severity
from llmbench.ids import new_outcome_id
from llmbench.messages import Acknowledged
from llmbench.naming import key_of
from llmbench.stores.base import ModelHistory
from tests.stores.documents import NOON, model, moment

KEY = ("openai", "gpt-4o-mini")
FRESH = timedelta(minutes=180)
DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)
SPREAD = 1.1
"""A backoff is spread by up to a tenth."""

kinds = st.sampled_from([*KINDS, "a kind of tomorrow"])
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
times = st.timedeltas(timedelta(0), timedelta(days=36_500)).map(lambda since: EPOCH + since)
keys = st.tuples(st.sampled_from(["openai", "groq"]), st.text(max_size=20))
freshness = st.timedeltas(timedelta(seconds=6), timedelta(days=365))
asked = st.none() | st.floats(-10, 1e18)
clocks = st.builds(
    ModelClock,
    last_success=st.none() | times,
    failures_in_a_row=st.integers(0, 10**6),
    last_failure=st.none() | times,
    last_failure_kind=st.none() | kinds,
    retry_after=asked,
)


def failed(kind: str, count: int = 1, retry_after: float | None = None) -> ModelClock:
    """Return the clock of a model that failed at `NOON`, for the ``count``-th time in a row."""
    return ModelClock(failures_in_a_row=count, last_failure=NOON, last_failure_kind=kind, retry_after=retry_after)


def result(*, ok: bool, minutes: float = 0, kind: str | None = None, retry_after: float | None = None) -> Acknowledged:
    return Acknowledged(
        outcome_id=new_outcome_id(),
        provider=KEY[0],
        model_id=KEY[1],
        ok=ok,
        at=moment(minutes),
        error_kind=kind,
        retry_after=retry_after,
    )


class TestDueAt:
    def test_a_model_without_a_past_is_due_now(self) -> None:
        """What has never run is due, whatever the time."""
        assert due_at(KEY, ModelClock(), FRESH) < EPOCH

    @given(times, freshness)
    def test_a_success_is_fresh_for_exactly_the_freshness(self, success: datetime, fresh: timedelta) -> None:
        """A model that succeeded is due when its success has grown older than the freshness, not spread."""
        assert due_at(KEY, ModelClock(last_success=success), fresh) == success + fresh

    def test_a_failure_does_not_make_a_fresh_model_due(self) -> None:
        """A failure's backoff never shortens the freshness of an earlier success."""
        clock = ModelClock(
            last_success=moment(-10), failures_in_a_row=1, last_failure=NOON, last_failure_kind="timeout"
        )

        assert due_at(KEY, clock, FRESH) == moment(170)

    @given(keys, clocks, freshness)
    def test_every_past_has_a_time_at_which_the_model_is_tried_again(
        self, key: tuple[str, str], clock: ModelClock, fresh: timedelta
    ) -> None:
        """Nothing is ever retired: whatever happened, the model is due within the freshness or a day, and a tenth."""
        past = [at for at in (clock.last_success, clock.last_failure) if at is not None]

        assert due_at(key, clock, fresh) <= max(past, default=NOON) + max(fresh, DAY) * SPREAD


class TestBackoff:
    @pytest.mark.parametrize(
        ("count", "minutes"), [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 180), (8, 180), (10**9, 180)]
    )
    def test_transient_trouble_doubles_up_to_the_freshness(self, count: int, minutes: int) -> None:
        """Five minutes after the first failure, twice as long after each more, never longer than the freshness."""
        wait = backoff(KEY, failed("transient_provider", count), FRESH)

        assert timedelta(minutes=minutes) <= wait <= timedelta(minutes=minutes) * SPREAD

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if severity(kind) == "hard"])
    @pytest.mark.parametrize("count", [1, 50])
    def test_what_a_person_must_mend_is_looked_at_daily(self, kind: str, count: int) -> None:
        """A hard failure waits a day, the first as well as the fiftieth."""
        assert DAY <= backoff(KEY, failed(kind, count), FRESH) <= DAY * SPREAD

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if severity(kind) != "hard"])
    def test_all_other_kinds_are_tried_again_soon(self, kind: str) -> None:
        """The lane's kinds, too: its breaker decides, so that the model itself is ready when the lane is."""
        assert backoff(KEY, failed(kind), FRESH) <= timedelta(minutes=5) * SPREAD

    @pytest.mark.parametrize(("seconds", "minutes"), [(60, 5), (600, 10), (900, 15), (10**9, 15), (1e300, 15)])
    def test_a_provider_that_asks_for_time_gets_a_quarter_of_an_hour_at_most(
        self, seconds: float, minutes: int
    ) -> None:
        """A delay that a provider asked for wins if it is the longer one, up to its cap."""
        wait = backoff(KEY, failed("rate_limit", retry_after=seconds), FRESH)

        assert timedelta(minutes=minutes) <= wait <= timedelta(minutes=minutes) * SPREAD

    @given(keys, clocks, freshness)
    def test_it_is_bounded(self, key: tuple[str, str], clock: ModelClock, fresh: timedelta) -> None:
        """No failure's backoff is under five minutes or over the longest of freshness, quarter of an hour and day."""
        hard = severity(clock.last_failure_kind or "unknown") == "hard"
        longest = DAY if hard else max(fresh, QUARTER)

        assert timedelta(minutes=5) <= backoff(key, clock, fresh) <= max(longest, QUARTER) * SPREAD

    def test_models_do_not_return_in_step(self) -> None:
        """A hundred models that failed at once come back at a hundred times, over more than half the spread."""
        waits = {backoff(("openai", f"model-{n}"), failed("network"), FRESH) for n in range(100)}

        assert len(waits) == 100
        assert max(waits) - min(waits) > timedelta(minutes=5) * 0.05

    def test_the_spread_is_the_same_in_every_process(self) -> None:
        """It follows from model and count alone: a restart, with other hash seeds, changes no model's time."""
        program = (
            "from tests.actors.test_due import FRESH, KEY, backoff, failed\n"
            "print(backoff(KEY, failed('network', 3), FRESH).total_seconds())"
        )
        command = [sys.executable, "-c", program]
        answers = {
            subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True).stdout
            for seed in ("1", "2")
        }

        assert answers == {f"{backoff(KEY, failed('network', 3), FRESH).total_seconds()}\n"}


class TestClock:
    def test_a_success_clears_what_went_before(self) -> None:
        """Freshness begins at the run's time, and the failures in a row are forgotten."""
        clock = failed("rate_limit", 7, 30.0).after(result(ok=True, minutes=1))

        assert clock == ModelClock(last_success=moment(1))

    def test_failures_are_counted_and_keep_the_last_success(self) -> None:
        """Each failure counts, and the newest one's kind and delay are kept."""
        clock = ModelClock(last_success=moment(-200))
        clock = clock.after(result(ok=False, kind="timeout", minutes=1))
        clock = clock.after(result(ok=False, kind="rate_limit", retry_after=7.5, minutes=2))

        assert clock == ModelClock(
            last_success=moment(-200),
            failures_in_a_row=2,
            last_failure=moment(2),
            last_failure_kind="rate_limit",
            retry_after=7.5,
        )

    @pytest.mark.parametrize("kind", ["local", "internal"])
    def test_our_own_failures_are_not_counted(self, kind: str) -> None:
        """No model is blamed for this machine's faults: it waits, but not longer each time."""
        clock = failed("network", 2).after(result(ok=False, kind=kind, minutes=1))

        assert (clock.failures_in_a_row, clock.last_failure) == (2, moment(1))

    def test_what_the_store_refused_is_neither_fresh_nor_due_at_once(self) -> None:
        """A run that could not be recorded leaves the freshness alone and waits like one of our own failures."""
        clock = ModelClock(last_success=moment(-200)).after_refusal(NOON)

        assert clock.last_success == moment(-200)
        assert moment(5) <= due_at(KEY, clock, FRESH) <= moment(5.5)

    @given(st.lists(st.tuples(st.booleans(), kinds, st.integers(0, 10_000))))
    def test_only_a_success_makes_fresh(self, results: list[tuple[bool, str, int]]) -> None:
        """After any results, the last success is the newest acknowledged one, and the failures since then count."""
        clock = ModelClock()
        for ok, kind, minutes in results:
            clock = clock.after(result(ok=ok, kind=None if ok else kind, minutes=minutes))

        successes = [index for index, (ok, _kind, _minutes) in enumerate(results) if ok]
        since = results[successes[-1] + 1 :] if successes else results
        assert clock.last_success == (moment(results[successes[-1]][2]) if successes else None)
        assert clock.failures_in_a_row == sum(severity(kind) != "ours" for _ok, kind, _minutes in since)

    def test_it_is_made_of_a_models_history(self) -> None:
        """A restart finds the clock again in what the store tells of a model's past."""
        past = ModelHistory(
            provider="groq",
            model_id="llama",
            last_success=moment(-300),
            failures_in_a_row=3,
            last_failure=moment(-20),
            last_failure_kind="timeout",
            last_failure_retry_after=4.0,
        )

        assert ModelClock.from_history(past) == ModelClock(
            last_success=moment(-300),
            failures_in_a_row=3,
            last_failure=moment(-20),
            last_failure_kind="timeout",
            retry_after=4.0,
        )


class TestOrder:
    def test_the_stalest_comes_first(self) -> None:
        """Never measured before measured long ago; among equals the one whose last attempt is older."""
        known = {
            ("openai", "fresh"): ModelClock(last_success=moment(-1)),
            ("openai", "stale"): ModelClock(last_success=moment(-500)),
            ("openai", "failed"): ModelClock(last_failure=moment(-5)),
            ("openai", "failed earlier"): ModelClock(last_failure=moment(-50)),
        }

        order = [key[1] for key in stalest_first([*known, ("openai", "new")], known)]

        assert order == ["new", "failed earlier", "failed", "stale", "fresh"]

    @given(st.dictionaries(keys, clocks), st.randoms())
    def test_it_cuts_nothing_and_is_the_same_for_any_order(
        self, known: dict[tuple[str, str], ModelClock], random: Random
    ) -> None:
        """Every model is in the result once, and the order in which they came does not matter."""
        shuffled = list(known)
        random.shuffle(shuffled)
        order = stalest_first(shuffled, known)

        assert sorted(order) == sorted(known)
        assert order == stalest_first(known, known)


def test_a_model_is_known_by_provider_and_id_without_regard_to_case() -> None:
    """Two spellings are one model; the same id at another provider is another one."""
    spelt, other = model("GPT-4o-Mini", provider="OpenAI"), model(provider="groq")

    assert key_of(spelt) == KEY
    assert key_of(other) != KEY


class TestTwoAccounts:
    """What the store and the runner's own spool know of one model's past."""

    def test_one_alone(self) -> None:
        """What only one of them knows is what is known; nothing is known of what neither does."""
        clock = ModelClock(last_success=NOON, failures_in_a_row=1, last_failure=moment(1), last_failure_kind="timeout")
        assert later_of(clock, None) == later_of(None, clock) == clock
        assert later_of(None, None) == ModelClock()

    def test_the_one_that_reaches_further(self) -> None:
        """Failures are those of the account with the newest event, the success is the newest of both."""
        older = ModelClock(last_success=moment(5), failures_in_a_row=3, last_failure=moment(6))
        newer = ModelClock(last_success=NOON, failures_in_a_row=1, last_failure=moment(9), last_failure_kind="timeout")
        both = ModelClock(
            last_success=moment(5), failures_in_a_row=1, last_failure=moment(9), last_failure_kind="timeout"
        )
        assert later_of(older, newer) == later_of(newer, older) == both

    def test_a_newer_success_ends_failures(self) -> None:
        """A success after all failures of the other account leaves none of them."""
        failed = ModelClock(failures_in_a_row=2, last_failure=NOON, last_failure_kind="timeout")
        assert later_of(failed, ModelClock(last_success=moment(1))) == ModelClock(last_success=moment(1))

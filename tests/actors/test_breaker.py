"""The circuit breaker and pace of a lane."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.actors.breaker import PROBE_SECONDS, Breaker, Pause
from llmbench.errors import KINDS

ADVICE = "check the key"


def fail(breaker: Breaker, kind: str, now: float = 0.0, retry_after: float | None = None) -> Pause | None:
    return breaker.failed(kind, retry_after, ADVICE, now)


def opened(now: float = 0.0) -> Breaker:
    """Return a breaker whose key was refused at ``now``."""
    breaker = Breaker()
    fail(breaker, "auth", now)
    return breaker


class TestRefusedKeyOrBill:
    @pytest.mark.parametrize("kind", ["auth", "billing"])
    def test_one_refusal_closes_the_lane(self, kind: str) -> None:
        """After a single run, nothing starts until it is time for a probe."""
        breaker = Breaker()

        assert fail(breaker, kind, now=100.0) == Pause(PROBE_SECONDS, ADVICE, lasting=True)
        assert breaker.state == "open"
        assert breaker.delay(100.0) == PROBE_SECONDS
        assert breaker.delay(100.0 + PROBE_SECONDS) == 0.0

    def test_one_probe_goes_out_and_all_others_wait_for_it(self) -> None:
        """While a probe is out, no time is named: its outcome decides."""
        breaker = opened()
        breaker.started()

        assert breaker.state == "probing"
        assert breaker.delay(PROBE_SECONDS + 10_000) is None

    def test_a_probe_that_succeeds_opens_the_lane(self) -> None:
        """Everything may start at once again."""
        breaker = opened()
        breaker.started()
        breaker.succeeded()

        assert breaker.state == "closed"
        assert breaker.delay(PROBE_SECONDS) == 0.0

    def test_a_probe_that_is_refused_closes_the_lane_for_as_long_again(self) -> None:
        """Another refusal is another full pause, counted from then."""
        breaker = opened()
        breaker.started()
        fail(breaker, "auth", now=PROBE_SECONDS)

        assert breaker.state == "open"
        assert breaker.delay(PROBE_SECONDS) == PROBE_SECONDS

    @pytest.mark.parametrize("kind", ["hard_model", "hard_capability", "token_mismatch", "empty_output", "unknown"])
    def test_a_probe_whose_key_was_accepted_opens_the_lane(self, kind: str) -> None:
        """An answer of another kind says that the key is good, whatever became of the run."""
        breaker = opened()
        breaker.started()

        assert fail(breaker, kind, now=PROBE_SECONDS) is None
        assert breaker.state == "closed"
        assert breaker.delay(PROBE_SECONDS) == 0.0

    @pytest.mark.parametrize("kind", ["network", "transient_provider", "timeout"])
    def test_a_probe_that_learned_nothing_is_followed_by_another(self, kind: str) -> None:
        """Trouble on the way to the provider leaves the lane closed; the next probes go out ever more slowly."""
        breaker, now, pauses = opened(), PROBE_SECONDS, []
        for _ in range(3):
            breaker.started()
            pause = fail(breaker, kind, now)
            assert pause is not None
            assert breaker.state == "open"
            pauses.append(breaker.delay(now))
            now += pause.seconds

        assert pauses == [5.0, 10.0, 20.0]

    @pytest.mark.parametrize("kind", ["local", "internal"])
    def test_a_probe_that_failed_through_our_own_fault_leaves_the_lane_closed(self, kind: str) -> None:
        """This machine's trouble says nothing of the key: the next run is a probe again."""
        breaker = opened()
        breaker.started()

        assert fail(breaker, kind, now=PROBE_SECONDS) is None
        assert breaker.state == "open"
        assert breaker.delay(PROBE_SECONDS) == 0.0

    def test_a_probe_that_never_took_place_is_followed_by_another(self) -> None:
        """Withdrawn, for a crash took it away, a probe keeps nobody waiting."""
        breaker = opened()
        breaker.started()
        breaker.withdrawn()

        assert breaker.state == "open"
        assert breaker.delay(PROBE_SECONDS) == 0.0

    def test_the_time_between_probes_can_be_chosen(self) -> None:
        """An operator who knows better than a quarter of an hour may say so."""
        breaker = Breaker(probe_seconds=3.0)
        fail(breaker, "billing", now=1.0)

        assert breaker.delay(1.0) == 3.0


class TestRateLimit:
    @pytest.mark.parametrize(("asked", "paused"), [(60.0, 60.0), (0.5, 5.0), (None, 5.0), (1e9, 900.0)])
    def test_the_providers_delay_is_honoured(self, asked: float | None, paused: float) -> None:
        """The longer of what the provider asks and of five seconds, a quarter of an hour at most; it is not lasting."""
        breaker = Breaker()

        assert fail(breaker, "rate_limit", 10.0, asked) == Pause(paused, ADVICE, lasting=False)
        assert breaker.delay(10.0) == paused
        assert breaker.state == "closed"

    def test_without_a_delay_pauses_double_up_to_a_quarter_of_an_hour(self) -> None:
        """Each refusal in a row waits twice as long as the one before."""
        breaker, now, pauses = Breaker(), 0.0, []
        for _ in range(10):
            pause = fail(breaker, "rate_limit", now)
            assert pause is not None
            pauses.append(pause.seconds)
            now += pause.seconds

        assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 900.0, 900.0]

    def test_a_success_ends_the_pause_and_begins_the_doubling_anew(self) -> None:
        """Streams that were on their way and came in well say that the lane works."""
        breaker = Breaker()
        fail(breaker, "rate_limit")
        fail(breaker, "rate_limit")
        breaker.succeeded()

        assert breaker.delay(0.0) == 0.0
        assert fail(breaker, "rate_limit") == Pause(5.0, ADVICE, lasting=False)

    def test_a_shorter_pause_does_not_cut_a_longer_one_off(self) -> None:
        """The answers to several streams come together; the latest end of their pauses holds."""
        breaker = Breaker()
        fail(breaker, "rate_limit", 0.0, 300.0)
        fail(breaker, "rate_limit", 1.0, 7.0)

        assert breaker.delay(1.0) == 299.0

    def test_each_one_halves_the_rate_down_to_a_sixteenth(self) -> None:
        """The interval between starts is stretched twofold each time, sixteenfold at most."""
        breaker, slowdowns = Breaker(), []
        for _ in range(6):
            fail(breaker, "rate_limit")
            slowdowns.append(breaker.slowdown)

        assert slowdowns == [2.0, 4.0, 8.0, 16.0, 16.0, 16.0]

    def test_ten_successes_double_the_rate_again(self) -> None:
        """Nine are not enough, each further step takes ten more, and nothing goes faster than configured."""
        breaker, slowdowns = Breaker(), []
        fail(breaker, "rate_limit")
        fail(breaker, "rate_limit")
        for _ in range(40):
            breaker.succeeded()
            slowdowns.append(breaker.slowdown)

        assert slowdowns == [4.0] * 9 + [2.0] * 10 + [1.0] * 21

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_failure_in_between_begins_the_ten_anew(self, kind: str) -> None:
        """Only successes in a row speed a lane up."""
        breaker = Breaker()
        fail(breaker, "rate_limit")
        for _ in range(9):
            breaker.succeeded()
        fail(breaker, kind)
        breaker.succeeded()

        assert breaker.slowdown >= 2.0


class TestTrouble:
    @pytest.mark.parametrize("kind", ["network", "transient_provider", "timeout"])
    def test_three_in_a_row_pause_the_lane(self, kind: str) -> None:
        """One or two may happen; from the third on the lane backs off, ever longer."""
        breaker = Breaker()

        pauses = [fail(breaker, kind, now) for now in (0.0, 1.0, 2.0, 7.0)]

        assert pauses == [None, None, Pause(5.0, ADVICE, lasting=False), Pause(10.0, ADVICE, lasting=False)]
        assert breaker.delay(7.0) == 10.0

    def test_three_of_different_kinds_count_together(self) -> None:
        """It is the way to the provider that is bad, whatever the trouble is called."""
        breaker = Breaker()

        assert [fail(breaker, kind) is None for kind in ("network", "timeout", "transient_provider")] == [
            True,
            True,
            False,
        ]

    def test_a_success_in_between_begins_the_count_anew(self) -> None:
        """Only trouble in a row is a reason to pause."""
        breaker = Breaker()
        fail(breaker, "network")
        fail(breaker, "network")
        breaker.succeeded()

        assert fail(breaker, "network") is None

    @pytest.mark.parametrize(("kind", "paused"), [("hard_model", False), ("token_mismatch", False), ("local", True)])
    def test_an_answer_in_between_does_so_too_but_not_our_own_fault(self, kind: str, *, paused: bool) -> None:
        """A refused model was reached, so the way is good; a fault of this machine says nothing of the way."""
        breaker = Breaker()
        fail(breaker, "network")
        fail(breaker, "network")
        fail(breaker, kind)

        assert (fail(breaker, "network") is not None) is paused

    @pytest.mark.parametrize("kind", ["hard_model", "hard_capability", "token_mismatch", "malformed_stream", "local"])
    def test_one_models_trouble_is_not_the_lanes(self, kind: str) -> None:
        """However often it happens, it pauses nothing and slows nothing."""
        breaker = Breaker()

        assert [fail(breaker, kind) for _ in range(20)] == [None] * 20
        assert (breaker.delay(0.0), breaker.slowdown, breaker.state) == (0.0, 1.0, "closed")


ROUNDING = 1e-6

EVENTS = st.one_of(
    st.tuples(st.sampled_from([*KINDS, "a kind of tomorrow"]), st.none() | st.floats(0, 1e12)),
    st.sampled_from(["success", "start"]),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 2000)), max_size=60))
def test_whatever_happens_a_lane_can_start_again(events: list[tuple[object, float]]) -> None:
    """Waits and slowdown are bounded, and only a probe that is out keeps others waiting without a time."""
    breaker, now = Breaker(), 0.0
    for event, passed in events:
        now += passed
        if event == "start":
            breaker.started()
        elif event == "success":
            breaker.succeeded()
        else:
            assert isinstance(event, tuple)
            fail(breaker, event[0], now, event[1])
        delay = breaker.delay(now)
        assert (delay is None) == (breaker.state == "probing")
        assert delay is None or 0.0 <= delay <= PROBE_SECONDS + ROUNDING
        assert 1.0 <= breaker.slowdown <= 16.0

    breaker.withdrawn()
    assert breaker.delay(now + PROBE_SECONDS + ROUNDING) == 0.0


def test_a_pause_has_a_duration() -> None:
    """What is shown to people is when it ends."""
    assert Pause(90.0, ADVICE, lasting=False).duration == timedelta(minutes=1, seconds=30)


class TestResultsOfRunsThatBeganBeforeAPause:
    def test_a_success_does_not_end_the_pause(self) -> None:
        """A stream that was under way when the provider said "too many" says nothing about starting more."""
        breaker = Breaker()
        before = breaker.started()
        breaker.failed("rate_limit", 60.0, ADVICE, 100.0, breaker.started())
        breaker.succeeded(before)

        assert breaker.delay(100.0) == 60.0

    def test_a_burst_of_refusals_is_one_pause(self) -> None:
        """Eight runs refused together slow the lane down once, by the longest delay that any of them asks for."""
        breaker = Breaker()
        epochs = [breaker.started() for _ in range(8)]
        pauses = [breaker.failed("rate_limit", 1.0 + n, ADVICE, 0.0, epoch) for n, epoch in enumerate(epochs)]

        assert [pause is not None for pause in pauses] == [True] + [False] * 7
        assert (breaker.delay(0.0), breaker.slowdown) == (8.0, 2.0)

    def test_they_do_not_close_a_breaker_that_a_refused_key_opened(self) -> None:
        """The probe finds out whether the key works again, not a run that began while it did."""
        breaker = Breaker()
        missing = breaker.started()
        breaker.failed("auth", None, ADVICE, 0.0, breaker.started())
        breaker.failed("hard_model", None, ADVICE, 1.0, missing)

        assert breaker.state == "open"

    def test_a_thousand_pauses_are_not_too_many(self) -> None:
        """The pause stays at its longest, however many days the provider is down."""
        breaker, now, pauses = Breaker(), 0.0, []
        for _ in range(2000):
            pause = breaker.failed("rate_limit", None, ADVICE, now, breaker.started())
            assert pause is not None
            now += pause.seconds
            pauses.append(pause.seconds)

        assert pauses[-1] == 900.0

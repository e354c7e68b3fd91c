"""From events to the state: what is told is kept, what ends is forgotten, and nothing grows without bound."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from operator import itemgetter
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.bridge.live import Dropped
from llmbench.messages import (
    Commanded,
    EngineFigures,
    LaneFigures,
    LaneState,
    RunFinished,
    RunProgress,
    RunStarted,
    SpoolFigures,
    StoreState,
)
from llmbench.tui import reduce as reducing
from llmbench.tui.items import FeedItem, Heard, LinkChange, Unreadable, UsualLoaded
from llmbench.tui.reduce import begin, reduce
from llmbench.tui.state import State, Usual
from llmbench.tui.views.attempts import attempts
from llmbench.tui.views.banner import banner
from llmbench.tui.views.engine import engine
from llmbench.tui.views.live import live, stream
from llmbench.tui.views.log import log
from llmbench.tui.views.overview import overview
from tests.tui import states
from tests.tui.states import ADDRESS, HOSTILE, LONG, NOW, after, at, engine_figures, finished, lane_figures


def new() -> State:
    return begin(ADDRESS, NOW)


def told(*items: FeedItem | UsualLoaded) -> State:
    return after(new(), items)


def started(outcome_id: str = "a", **changes: Any) -> RunStarted:
    usual: dict[str, Any] = {"provider": "groq", "model_id": "llama", "at": NOW}
    return RunStarted(outcome_id=outcome_id, **usual | changes)


def progress(outcome_id: str = "a", **changes: Any) -> RunProgress:
    usual: dict[str, Any] = {
        "provider": "groq",
        "model_id": "llama",
        "visible_chunks": 3,
        "text": "abc",
        "elapsed": 0.3,
    }
    return RunProgress(outcome_id=outcome_id, **usual | changes)


def lane(status: Any, minutes: float = 0, name: str = "groq", **changes: Any) -> LaneState:
    return LaneState(lane=name, status=status, at=at(minutes), **changes)


def shown_times(state: State) -> list[str]:
    return [row.cells[0].text for row in log(state, NOW).rows]


def ended(*minutes: float, ok: bool = True, **changes: Any) -> list[RunFinished]:
    made: Callable[..., Any] = states.success if ok else states.refusal
    return [finished(made("groq", minute, **changes)) for minute in minutes]


class TestVersion:
    def test_it_grows_with_a_change(self) -> None:
        assert told(lane("ok")).version == new().version + 1

    def test_a_heartbeat_changes_nothing_that_is_drawn(self) -> None:
        later = reduce(new(), [Heard(at=NOW)], at(1))

        assert (later.version, later.link.heard) == (0, at(1))

    def test_without_items_the_state_is_the_same(self) -> None:
        state = new()

        assert reduce(state, [], at(1)) is state


class TestLink:
    def test_it_is_as_it_was_told(self) -> None:
        link = told(LinkChange(status="live", at=NOW, commands=True)).link

        assert (link.status, link.address, link.commands, link.heard) == ("live", ADDRESS, True, NOW)

    def test_every_event_says_that_the_engine_is_there(self) -> None:
        assert reduce(new(), [lane("ok")], at(2)).link.heard == at(2)
        assert reduce(new(), [UsualLoaded(usual={})], at(2)).link.heard is None

    def test_tries_at_a_lost_one_keep_when_and_why(self) -> None:
        """The first reason stays until another is told, and the log has one line for it."""
        lost = LinkChange(status="lost", at=at(1), reason="refused")
        again = [lost, LinkChange(status="connecting", at=at(2)), msgspec.structs.replace(lost, at=at(3))]
        state = told(LinkChange(status="live", at=NOW), *again)

        assert (state.link.status, state.link.since, state.link.reason) == ("lost", at(1), "refused")
        assert [line.text for line in state.log] == ["connected", "no connection to the engine: refused"]

    def test_what_was_in_flight_is_forgotten_when_the_engine_tells_anew(self) -> None:
        """What still streams, it tells again."""
        before = told(started("gone"), progress("gone"), lane("ok"))
        state = after(before, [LinkChange(status="live", at=NOW), started("still")])

        assert set(state.runs) == {"still"}
        assert state.lanes["groq"].status == "ok"

    def test_what_is_lost_is_counted_and_told_once_a_frame(self) -> None:
        state = told(Dropped(count=3), Dropped(count=4), Unreadable(why="no name"), Unreadable(why="\x1b bad"))

        assert (state.dropped, state.unreadable) == (7, 2)
        assert [line.text for line in state.log] == [
            "7 events were dropped: the viewer was too slow",
            r"2 unreadable: \x1b bad",
        ]


class TestLanes:
    def test_a_status_has_its_beginning(self) -> None:
        """Another reason for the same status, and being told again after a reconnection, move nothing."""
        state = told(lane("ok", -9), lane("blocked", -5), lane("blocked", -2, reason="still", until=at(1), restarts=2))

        found = state.lanes["groq"]
        assert (found.since, found.reason, found.until, found.restarts) == (at(-5), "still", at(1), 2)

    def test_the_engine_says_which_actors_are_lanes(self) -> None:
        """One that said nothing yet starts; one that it has no more is gone."""
        before = told(lane("ok"), lane("ok", name="sink"), lane_figures("old"))
        state = after(before, [engine_figures(lanes=("groq", "openai")), lane("down", name="scheduler")])

        assert {name: found.status for name, found in state.lanes.items()} == {"groq": "ok", "openai": "starting"}
        assert {name: found.status for name, found in state.actors.items()} == {"sink": "ok", "scheduler": "down"}

    def test_changes_are_in_the_log_and_repetitions_are_not(self) -> None:
        down = lane("down", reason="key refused")
        state = told(lane("ok"), down, down, lane("ok"))

        assert [(line.level, line.source, line.text) for line in state.log] == [
            ("error", "groq", "down: key refused"),
            ("info", "groq", "works"),
        ]

    def test_figures_are_the_newest(self) -> None:
        state = told(lane_figures("groq", due=3), lane_figures("groq", due=1))

        figures = state.lanes["groq"].figures
        assert figures is not None
        assert figures.due == 1

    def test_a_lane_that_crashes_takes_its_streams_along(self) -> None:
        state = told(started("a"), progress("b"), started("c", provider="openai"), lane("restarting"))

        assert set(state.runs) == {"c"}

    def test_a_run_whose_end_was_lost_is_forgotten_once_its_lane_has_fewer(self) -> None:
        """Of those that are known, the ones go that gave no sign for longest."""
        streams: list[FeedItem] = [
            started("a", at=at(-2)),
            started("b", at=at(-3)),
            progress("b", elapsed=179.0),
            started("c", at=at(-1)),
            started("d", provider="openai", at=at(-9)),
        ]

        assert set(told(*streams, lane_figures("groq", in_flight=2)).runs) == {"b", "c", "d"}
        assert set(told(*streams, lane_figures("groq", in_flight=3)).runs) == {"a", "b", "c", "d"}
        assert set(told(*streams, lane_figures("groq", in_flight=-1), started("e")).runs) == {"d", "e"}


class TestEngine:
    def test_a_trouble_that_another_start_of_it_does_not_tell_of_is_over(self) -> None:
        """Of an actor that is well, an engine that has just started says nothing."""
        before = told(*states.attached(), lane("down", name="delivery", reason="no disk"))
        live = LinkChange(status="live", at=at(1))

        again = after(before, [live, lane("down", name="delivery", reason="no disk")])
        assert [cell.text for cell in banner(after(before, [live]), NOW)] == []
        assert [cell.text for cell in banner(again, NOW)] == [cell.text for cell in banner(before, NOW)] != []
        assert len(again.log) == len(before.log)

    def test_a_hold_and_its_end_are_in_the_log(self) -> None:
        state = told(engine_figures(), engine_figures(hold="spool is full"), engine_figures())

        assert [line.text for line in state.log] == ["starts nothing new: spool is full", "starts runs again"]

    def test_another_start_of_it_is_in_the_log(self) -> None:
        state = told(engine_figures(), engine_figures(started_at=at(0)))

        assert "another start of the engine" in state.log[0].text

    def test_the_store_has_since_when(self) -> None:
        store = StoreState(status="failing", at=at(-4), waiting=1, reason="refused")
        state = told(store, msgspec.structs.replace(store, at=at(-1), waiting=9))

        assert state.store is not None
        assert (state.store.waiting, state.store_since) == (9, at(-4))
        assert [line.text for line in state.log] == ["failing: refused"]


class TestStreams:
    def test_one_fills(self) -> None:
        first = told(started(), progress(text="Once ", visible_chunks=2, elapsed=0.2))
        state = after(
            first, [progress(text="upon", visible_chunks=5), progress(text="\n a", visible_chunks=6, elapsed=0.4)]
        )

        run = state.runs["a"]
        assert (run.text, run.chunks, run.elapsed) == ("Once upon\n a", 6, 0.4)
        assert run.ticks == ((0.2, 2), (0.3, 5), (0.4, 6))

    def test_what_the_engine_left_out_is_told(self) -> None:
        """In the place of it, where who reads the stream sees it."""
        state = told(started(), progress(text="Once "), progress(text="x" * 1000, cut=12_345), progress(text=" end"))

        assert state.runs["a"].text == f"Once  … 12,345 characters left out … {'x' * 1000} end"

    def test_one_that_began_before_is_known_by_its_progress(self) -> None:
        assert told(progress(elapsed=4.0)).runs["a"].started_at == NOW - timedelta(seconds=4)

    def test_one_that_has_ended_streams_no_more(self) -> None:
        """Whatever is told of it late, or again."""
        over = finished(states.success("groq", 0, id="a"))
        state = after(told(started(), progress(), over), [started(), progress()])

        assert state.runs == {}
        assert [run.outcome_id for run in state.finished] == ["a"]

    def test_its_end_is_counted_once(self) -> None:
        over = finished(states.success("groq", 0, id="a"))

        assert after(told(over, over), [over]).lanes["groq"].ok == 1


class TestRuns:
    def test_a_success_is_kept_with_its_figures(self) -> None:
        sample = states.success("groq", -1, resolution="coarse", clock="user")
        (run,) = told(finished(sample)).lanes["groq"].recent

        assert (run.ok, run.at, run.coarse, run.clock) == (True, sample.gen_ts, True, "user")
        assert run.time_to_first_token == sample.time_to_first_token
        assert run.gap_max == sample.inter_token_max

    def test_failures_in_a_row_have_their_beginning(self) -> None:
        failing = told(*ended(-9), *ended(-8, -7, -6, ok=False)).lanes["groq"]
        again = told(*ended(-8, -7, ok=False), *ended(-6)).lanes["groq"]

        assert (failing.ok, failing.failed, failing.failures_in_a_row, failing.failing_since) == (1, 3, 3, at(-8))
        assert (again.failures_in_a_row, again.failing_since) == (0, None)

    def test_failures_are_grouped_by_fingerprint(self) -> None:
        """The newest tells its message; the first one's date stays."""
        last = finished(states.refusal("groq", -3, message="new words"))
        (group,) = told(*ended(-5, -4, ok=False), last).errors.values()

        assert (group.count, group.first_seen, group.last_seen) == (3, at(-5), at(-3))
        assert (group.message, group.http_status, group.error_kind) == ("new words", 401, "auth")

    def test_each_has_its_line_in_the_log(self) -> None:
        state = told(*ended(-2), *ended(-1, ok=False))

        assert [(line.level, line.at) for line in state.log] == [("info", at(-2)), ("warning", at(-1))]
        assert "auth: Error code: 401" in state.log[1].text

    def test_the_log_is_in_the_order_of_time(self) -> None:
        """An engine tells whoever comes later of its store, of its lanes and of their runs, one after the other."""
        store = StoreState(status="failing", at=at(-2), waiting=1, reason="refused")
        down = LaneState(lane="together", status="down", at=at(-5), reason="refused")
        state = told(store, down, *ended(-9, -3))
        later = reduce(state, [finished(states.success("openai", -4))], NOW)

        assert shown_times(state) == [at(minutes).strftime("%H:%M:%S") for minutes in (-2, -3, -5, -9)]
        assert shown_times(later) == [at(minutes).strftime("%H:%M:%S") for minutes in (-2, -3, -4, -5, -9)]


class TestSlowness:
    USUAL = UsualLoaded(
        usual={("groq", states.MODELS["groq"]): Usual(n=50, time_to_first_token=0.5, tokens_per_second=50)}
    )

    def slow(self, *minutes: float, first: float = 1.5, speed: float = 50.0) -> list[RunFinished]:
        return ended(*minutes, time_to_first_token=first, tokens_per_second=speed)

    def test_a_row_of_slow_runs_has_its_beginning(self) -> None:
        found = told(self.USUAL, *self.slow(-9, first=0.5), *self.slow(-8, -7, -6)).lanes["groq"]

        assert (found.slow_since, found.slow_runs) == (at(-8), 3)

    def test_half_the_speed_is_slow_too(self) -> None:
        assert told(self.USUAL, *self.slow(-8, first=0.5, speed=25)).lanes["groq"].slow_runs == 1

    def test_one_ordinary_run_does_not_end_it_and_two_do(self) -> None:
        slow: list[FeedItem | UsualLoaded] = [self.USUAL, *self.slow(-8, -7, -6)]

        assert told(*slow, *self.slow(-5, first=0.5)).lanes["groq"].slow_since == at(-8)
        assert told(*slow, *self.slow(-5, -4, first=0.5)).lanes["groq"].slow_since is None

    def test_runs_before_the_usual_was_loaded_are_judged_by_it(self) -> None:
        found = told(*self.slow(-8, -7, -6), self.USUAL).lanes["groq"]

        assert (found.slow_since, found.slow_runs) == (at(-8), 3)

    def test_without_a_store_the_first_runs_here_are_what_is_usual(self) -> None:
        usual = self.slow(*range(-20, -10), first=0.5)
        found = told(*usual, *self.slow(-3, -2, -1)).lanes["groq"]

        assert found.slow_since == at(-3)

    def test_a_usual_of_few_runs_says_nothing(self) -> None:
        few = UsualLoaded(usual={key: msgspec.structs.replace(one, n=2) for key, one in self.USUAL.usual.items()})

        assert told(few, *self.slow(-3, -2, -1)).lanes["groq"].slow_since is None


class TestBounds:
    def test_nothing_grows_beyond_them(self) -> None:
        runs = [
            finished(states.refusal("groq", -n / 100, id=f"{n}", normalized_message=f"kind {n}")) for n in range(3000)
        ]
        flights = [started(f"run {n}") for n in range(3000)]
        names = [lane("ok", name=f"lane {n}") for n in range(1000)]
        ticks = [progress("run 2999", text=LONG, elapsed=n / 10, visible_chunks=n) for n in range(500)]
        state = told(*runs, *flights, *names, *ticks)

        assert len(state.lanes["groq"].recent) == reducing.RECENT
        assert len(state.errors) == reducing.ERRORS
        assert (len(state.log), len(state.finished)) == (reducing.LOG, reducing.FINISHED)
        assert (len(state.runs), len(state.lanes)) == (reducing.RUNS, reducing.LANES)
        assert len(state.runs["run 2999"].text) == reducing.TEXT
        assert len(state.runs["run 2999"].ticks) == reducing.TICKS
        assert state.lanes["groq"].failed == 3000

    def test_the_newest_stay(self) -> None:
        runs = [
            finished(states.refusal("groq", n / 100, id=f"{n}", normalized_message=f"kind {n}")) for n in range(3000)
        ]
        state = told(*runs)

        assert state.finished[-1].outcome_id == "2999"
        assert state.log[-1].at == at(29.99)
        assert max(group.last_seen for group in state.errors.values()) == at(29.99)

    def test_what_happens_after_a_clock_was_set_back_is_in_the_log(self) -> None:
        """Lines of a time to come fill it; they are no reason to leave out what comes later."""
        ahead = [finished(states.refusal("groq", 60 + n / 100, id=f"{n}")) for n in range(reducing.LOG + 1)]
        state = reduce(told(*ahead), [lane("down", reason="now")], NOW)

        assert "down: now" in [row.cells[-1].text for row in log(state, NOW).rows]
        assert len(state.log) == reducing.LOG

    def test_an_item_takes_no_longer_among_five_thousand(self) -> None:
        """Than among five hundred, by the best of some tries each, as another process may have the processor."""
        steps = [
            progress(f"run {n % 256}", text="a word and more ", elapsed=n / 256, visible_chunks=n) for n in range(4500)
        ]
        items: Sequence[FeedItem] = [*(started(f"run {n}") for n in range(256)), *steps, *ended(*range(-244, 0))]
        before = states.healthy()
        tenth = items[:: len(items) // 500]
        pairs = [(_seconds(before, items) / len(items), _seconds(before, tenth) / len(tenth)) for _ in range(10)]

        assert min(map(itemgetter(0), pairs)) < 3 * min(map(itemgetter(1), pairs))

    def test_nor_does_a_step_of_a_stream_among_its_others(self) -> None:
        """A stream is made anew once a frame, however often it was told of."""
        steps = [progress("one", text="a word and more ", elapsed=n / 256, visible_chunks=n) for n in range(4500)]
        before = after(states.healthy(), [started("one")])
        pairs = [(_seconds(before, steps) / 4500, _seconds(before, steps[:450]) / 450) for _ in range(10)]

        assert min(map(itemgetter(0), pairs)) < 3 * min(map(itemgetter(1), pairs))


def _seconds(state: State, items: Sequence[FeedItem]) -> float:
    began = perf_counter()
    reduce(state, items, NOW)
    return perf_counter() - began


TEXT = st.text(max_size=12) | st.sampled_from([HOSTILE, LONG, "", "groq", "sink"])
NAMES = st.sampled_from(["groq", "openai", "sink", HOSTILE])
IDS = st.sampled_from(["a", "b", "c", "d"])
TIMES = st.datetimes(timezones=st.none() | st.just(UTC))
MAYBE = st.none() | TIMES
COUNTS = st.integers(-1, 10**30)
AMOUNTS = st.none() | st.floats(0, 1e300)
FLOATS = st.floats(allow_nan=False)
OUTCOMES = st.one_of(
    st.builds(
        states.success,
        NAMES,
        st.just(0.0),
        id=IDS,
        gen_ts=TIMES,
        time_to_first_token=AMOUNTS,
        tokens_per_second=AMOUNTS,
        output_tokens=st.none() | COUNTS,
        model_name=TEXT,
    ),
    st.builds(states.refusal, NAMES, st.just(0.0), id=IDS, ts=TIMES, message=TEXT, error_kind=TEXT, fingerprint=IDS),
)
ITEMS: st.SearchStrategy[FeedItem | UsualLoaded] = st.one_of(
    st.builds(LaneState, lane=NAMES, at=TIMES, reason=st.none() | TEXT, until=MAYBE),
    st.builds(RunStarted, outcome_id=IDS, provider=NAMES, model_id=TEXT, at=TIMES),
    st.builds(
        RunProgress, outcome_id=IDS, provider=NAMES, model_id=TEXT, visible_chunks=COUNTS, text=TEXT, elapsed=FLOATS
    ),
    st.builds(finished, OUTCOMES),
    st.builds(StoreState, at=TIMES, reason=st.none() | TEXT, waiting=COUNTS),
    st.builds(
        LaneFigures,
        lane=NAMES,
        at=TIMES,
        due=COUNTS,
        in_flight=COUNTS,
        next_due=MAYBE,
        requests_per_minute=FLOATS,
        slowdown=FLOATS,
    ),
    st.builds(
        EngineFigures,
        at=TIMES,
        started_at=TIMES,
        version=TEXT,
        runner_id=TEXT,
        store=TEXT,
        lanes=st.lists(NAMES, max_size=3).map(tuple),
        loop_lag=FLOATS,
        hold=st.none() | TEXT,
        spool=st.none()
        | st.builds(SpoolFigures, level=TEXT, waiting=COUNTS, bytes=COUNTS, cap_bytes=COUNTS, oldest=MAYBE),
    ),
    st.builds(LinkChange, at=TIMES, reason=st.none() | TEXT),
    st.builds(Heard, at=TIMES),
    st.builds(Dropped, count=COUNTS),
    st.builds(Unreadable, why=TEXT),
    st.builds(
        UsualLoaded,
        usual=st.dictionaries(
            st.tuples(NAMES, TEXT),
            st.builds(Usual, n=COUNTS, time_to_first_token=AMOUNTS, tokens_per_second=AMOUNTS),
            max_size=2,
        ),
    ),
)
FRAMES = st.lists(st.lists(ITEMS, max_size=8), max_size=4)


class TestDates:
    @pytest.mark.parametrize("when", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
    @pytest.mark.parametrize("hours", [-12, 14])
    def test_those_at_the_ends_of_the_calendar_can_be_drawn(self, when: datetime, hours: int) -> None:
        """In zones in which they would be beyond them."""
        now = NOW.astimezone(timezone(timedelta(hours=hours)))
        down = LaneState(lane="groq", status="down", at=when, until=when)
        run = finished(states.success("groq", 0, gen_ts=when))
        state = told(down, run, started(at=when), engine_figures(started_at=when), lane_figures("groq", next_due=when))
        state = after(state, [lane_figures("openai", paused_since=when), Commanded(at=when, done="x")])

        assert overview(state, now).rows
        assert banner(state, now)
        assert engine(state, now).rows
        assert live(state, now).rows
        assert banner(state, now)
        assert attempts(state, "groq", now).rows


class TestAnyEvents:
    @given(FRAMES)
    def test_whatever_comes_in_whatever_order_can_be_drawn(self, frames: list[list[FeedItem | UsualLoaded]]) -> None:
        """Dates at both ends of the calendar and without a zone, numbers beyond floats, names that are markup."""
        state = new()
        for items in frames:
            state = reduce(state, items, NOW)

        shown = [overview(state, NOW), engine(state, NOW), live(state, NOW, "a"), log(state, NOW, "", "info")]
        shown += [attempts(state, name, NOW) for name in state.lanes]
        drawn = [cell.text for table in shown for row in table.rows for cell in row.cells]
        drawn += [cell.text for cell in banner(state, NOW)]
        drawn += [cell.text for name in "abcd" for cell in stream(state, name, NOW)]
        assert {unicodedata.category(char) for text in drawn for char in text}.isdisjoint(
            {"Cc", "Cf", "Cs", "Zl", "Zp"}
        )

    @given(st.lists(ITEMS, max_size=30))
    def test_counts_add_up(self, items: list[FeedItem | UsualLoaded]) -> None:
        """Without the lanes that an engine does not have any more, runs in lanes are the runs that ended."""
        kept = [item for item in items if not isinstance(item, EngineFigures)]
        state = told(*kept)

        over = {item.outcome.id for item in kept if isinstance(item, RunFinished)}
        assert sum(found.ok + found.failed for found in state.lanes.values()) == len(over) == len(state.finished)
        assert sum(found.failed for found in state.lanes.values()) == sum(not run.ok for run in state.finished)
        assert sum(group.count for group in state.errors.values()) == sum(not run.ok for run in state.finished)
        assert state.dropped == sum(min(max(item.count, 0), 10**12) for item in kept if isinstance(item, Dropped))
        assert not over & set(state.runs)

    @given(st.lists(ITEMS, max_size=30), st.integers(0, 30))
    def test_it_does_not_matter_where_a_frame_ends(self, items: list[FeedItem | UsualLoaded], cut: int) -> None:
        at_once = told(*items)
        in_two = after(after(new(), items[:cut]), items[cut:])

        assert (in_two.lanes, in_two.errors, in_two.finished) == (at_once.lanes, at_once.errors, at_once.finished)
        assert set(in_two.runs) == set(at_once.runs)

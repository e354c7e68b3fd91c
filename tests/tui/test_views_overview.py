"""The overview: what is wrong, with which provider and since when, first; nothing that is not known looks like zero."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.messages import LaneState, StoreState
from llmbench.tui.items import LinkChange
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.text import width
from llmbench.tui.views.attempts import attempts
from llmbench.tui.views.banner import banner
from llmbench.tui.views.engine import engine
from llmbench.tui.views.overview import about, overview
from tests.tui import states
from tests.tui.states import HOSTILE_LANE, NOW, after, at, engine_figures, finished, lane_figures

ALL = [states.empty, states.healthy, states.one_lane_down, states.disconnected, states.hostile]


def row(table: Table, key: str) -> dict[str, Cell]:
    """Return a row's cells by their columns, each of which has a name of its own."""
    (found,) = [row for row in table.rows if row.key == key]
    cells = {column.name: cell for column, cell in zip(table.columns, found.cells, strict=True)}
    assert len(cells) == len(table.columns)
    return cells


def states_of(state: State) -> dict[str, str]:
    return {row.key: row.cells[1].text for row in overview(state, NOW).rows}


def state_of(*items: Any) -> str:
    """Return how groq is called after these, all having been well."""
    return states_of(after(states.healthy(), items))["groq"]


class TestStates:
    @pytest.mark.parametrize(
        ("status", "shown"),
        [
            ("down", "✖ down"),
            ("blocked", "▲ blocked"),
            ("restarting", "▲ restarting"),
            ("starting", "◌ starting"),
            ("stopped", "■ stopped"),
            ("ok", "● ok"),
        ],
    )
    def test_what_the_engine_says_has_a_glyph_and_a_word(self, status: Any, shown: str) -> None:
        assert state_of(LaneState(lane="groq", status=status, at=at(-1))) == shown

    def test_a_lane_whose_runs_fail_is_failing_though_the_engine_says_it_works(self) -> None:
        assert state_of(finished(states.refusal("groq", -2))) == "● ok"
        assert state_of(*(finished(states.refusal("groq", minutes)) for minutes in (-2, -1))) == "▲ failing"

    def test_so_is_one_with_a_quarter_of_failures(self) -> None:
        """One of its models may fail all the time, between the successes of the others."""
        mixed = [finished(states.refusal("groq", -5 + n)) for n in range(5)]
        fine = [finished(states.success("groq", -4.9 + n)) for n in range(5)]
        state = after(states.healthy(), [event for pair in zip(mixed, fine, strict=True) for event in pair])

        groq = row(overview(state, NOW), "groq")
        assert groq["state"].text == "▲ failing"
        assert groq["why"].text.startswith("5 of its last 20 runs failed, lately auth: ")

    def test_one_that_is_paused_says_so(self) -> None:
        assert state_of(lane_figures("groq", paused_since=at(-3))) == "‖ paused"

    def test_one_without_runs_says_so(self) -> None:
        state = after(states.empty(), states.attached())

        assert set(states_of(state).values()) == {"— no runs yet"}

    def test_one_that_fails_from_the_start_is_failing(self) -> None:
        state = after(states.empty(), [*states.attached(), finished(states.refusal("groq", -1))])

        assert states_of(state)["groq"] == "▲ failing"
        assert row(overview(state, NOW), "groq")["why"].text.startswith("its only run failed, lately auth: ")

    def test_one_slow_run_among_others_is_nothing_and_the_first_one_is(self) -> None:
        """Who has just begun to watch is not to wait for a third one; how many there were is said."""
        slow = finished(states.success("groq", -1, slower=4.1))
        usual = [*states.attached(), states.settled()[0]]
        began = overview(after(states.empty(), [*usual, slow]), NOW)

        assert state_of(slow) == "● ok"
        assert row(began, "groq")["state"].text == "▲ slow"
        assert "(last 1 run; usual of 412 runs)" in row(began, "groq")["why"].text


class TestRows:
    def test_the_worst_are_first(self) -> None:
        blocked = LaneState(lane="vertex", status="blocked", at=at(-1))
        shown = overview(after(states.one_lane_down(), [blocked]), NOW).rows

        assert [row.key for row in shown[:4]] == ["groq", "vertex", "together", "anthropic"]

    def test_a_lane_that_is_down_says_since_when_and_why(self) -> None:
        groq = row(overview(states.one_lane_down(), NOW), "groq")

        assert (groq["state"].text, groq["since"].text) == ("✖ down", "12:03")
        assert groq["why"].text.startswith("auth: key refused (401)")
        assert groq["why"].text.endswith("looked at again in 10 min")
        assert (groq["failed"].text, groq["breaker"].text, groq["pace/min"].text) == ("3", "open", "15.0")

    def test_a_slow_lane_is_told_against_its_usual(self) -> None:
        together = row(overview(states.one_lane_down(), NOW), "together")

        assert (together["state"].text, together["since"].text) == ("▲ slow", "12:05")
        assert (together["TTFT ms"].tone, together["TTFT ×"].text) == ("warn", "3.9")
        assert "TTFT 3.9 × its usual" in together["why"].text
        assert "usual of 412 runs" in together["why"].text

    def test_what_is_not_known_is_a_dash(self) -> None:
        state = after(states.empty(), [LaneState(lane="groq", status="ok", at=NOW)])
        groq = row(overview(state, NOW), "groq")

        unknown = ["in flight", "due", "TTFT ms", "TTFT ×", "tok/s", "tok/s ×", "pace/min", "breaker"]
        assert [groq[name].text for name in unknown] == ["—"] * len(unknown)
        assert [groq[name].text for name in ("ok", "failed")] == ["0", "0"]

    def test_sparklines_share_a_scale_that_the_heading_tells(self) -> None:
        table = overview(states.one_lane_down(), NOW)

        assert table.columns[9].name == "last, ≤ 1.80 s"
        assert "█" in row(table, "together")[table.columns[9].name].text
        assert "█" not in row(table, "openai")[table.columns[9].name].text

    def test_a_failed_run_is_a_gap_in_the_sparkline(self) -> None:
        table = overview(states.one_lane_down(), NOW)

        assert row(table, "groq")[table.columns[9].name].text.endswith("   ")

    @pytest.mark.parametrize("made", ALL)
    def test_every_cell_fits_its_column(self, made: Any) -> None:
        for table in (overview(made(), NOW), engine(made(), NOW)):
            for column, cells in zip(table.columns, zip(*(row.cells for row in table.rows), strict=True), strict=False):
                assert not column.width or max(width(cell.text) for cell in cells) <= column.width, column

    def test_a_hostile_name_stays_the_key_and_is_shown_short(self) -> None:
        """The engine is asked by its name, so it must not be changed by being shown."""
        shown = row(overview(states.hostile(), NOW), HOSTILE_LANE)["provider"]

        assert (shown.text, shown.full) == ("[@clic…t]x[/]", HOSTILE_LANE)


class TestFilter:
    def test_rows_match_in_any_cell_and_any_case(self) -> None:
        assert [row.key for row in overview(states.healthy(), NOW, "GRO").rows] == ["groq"]
        assert [row.key for row in overview(states.one_lane_down(), NOW, "slow").rows] == ["together"]

    def test_it_says_what_trouble_it_hides(self) -> None:
        state = states.one_lane_down()

        assert overview(state, NOW, "openai").hidden == "2 providers in trouble hidden by the filter"
        assert overview(state, NOW, "groq").hidden == "1 provider in trouble hidden by the filter"
        assert overview(state, NOW).hidden is None
        assert overview(states.healthy(), NOW, "openai").hidden is None

    def test_nothing_that_matches_is_said_in_words(self) -> None:
        table = overview(states.healthy(), NOW, "\x1bzz")

        assert (table.rows, table.empty) == ((), r"no provider matches '\\x1bzz'; esc clears the filter")


class TestWithoutData:
    def test_it_says_what_it_waits_for(self) -> None:
        connected = after(states.empty(), [LinkChange(status="live", at=NOW)])
        refused = after(states.empty(), [LinkChange(status="lost", at=at(-1), reason="connection refused")])

        assert overview(states.empty(), NOW).empty == f"connecting to {states.ADDRESS} …"
        assert overview(connected, NOW).empty == "connected; waiting for the engine to tell of its providers"
        assert overview(refused, NOW).empty == f"engine at {states.ADDRESS} not reachable: connection refused"

    def test_an_engine_that_starts_is_no_trouble(self) -> None:
        """The first thing that one sees of `llmbench tui` is not to be a false alarm."""
        starts = after(states.empty(), [LinkChange(status="connecting", at=at(-0.1), reason="it starts as process 7")])

        assert banner(starts, NOW) == ()
        assert overview(starts, NOW).empty == f"connecting to {states.ADDRESS} … it starts as process 7"

    def test_old_data_stays_and_is_dimmed(self) -> None:
        table = overview(states.disconnected(), NOW)

        assert len(table.rows) == 12
        assert {cell.tone for row in table.rows for cell in row.cells} == {"muted"}

    def test_so_is_data_of_an_engine_that_says_nothing_any_more(self) -> None:
        def tones(seconds: float) -> set[str]:
            shown = overview(states.healthy(), at(seconds / 60))
            return {cell.tone for row in shown.rows for cell in row.cells}

        assert tones(15) > {"good"}
        assert tones(25) == {"muted"}


class TestEngine:
    def test_each_part_has_a_row(self) -> None:
        table = engine(states.healthy(), NOW)

        assert {row.key: row.cells[1].text for row in table.rows} == {
            "store": "● ok",
            "spool": "● ok",
            "engine": "● runs",
            "stamps": "● 100 % fine",
            "events": "● live",
        }
        assert row(table, "spool")["what it says"].text == "0 outcomes wait; 3.24 MiB of 1.00 GiB"

    @pytest.mark.parametrize("part", ["store", "spool"])
    def test_what_an_engine_told_that_is_not_heard(self, part: str) -> None:
        """It is as it was, and how long ago that is told; what is not known was not known."""
        away = row(engine(states.disconnected(), NOW), part)
        assert away["state"].text == "○ was ok"
        assert away["what it says"].text.startswith("last heard 40 s ago; ")
        lost = LinkChange(status="lost", at=at(-1), reason="no engine runs")
        never = row(engine(after(states.empty(), [lost]), NOW), part)
        assert (never["state"].text, never["what it says"].text) == ("— not known", "")

    def test_nothing_says_that_an_engine_runs_that_is_not_heard(self) -> None:
        found = row(engine(states.disconnected(), NOW), "engine")

        assert found["state"].text == "— not known"

    def test_what_stamps_are_worth_is_told(self) -> None:
        """By which clock, how coarse, and how long the loop was away."""
        runs = [finished(states.success("groq", -1, id=f"{n}", resolution="coarse", clock="user")) for n in range(50)]
        state = after(states.healthy(), [*runs, engine_figures(clock="user", loop_lag=0.25)])
        stamps = row(engine(state, NOW), "stamps")

        assert stamps["state"].text == "▲ user, late"
        assert stamps["what it says"].text == (
            "50 of 200 runs coarse; 75 % by the kernel's clock; loop away for 250 ms at worst;"
            " gaps of coarse ones may be over 1 ms off, and count in no ranking"
        )

    @pytest.mark.parametrize(("coarse", "told"), [(0, "● 100 % fine"), (1, "● 99 % fine"), (98, "▲ 51 % fine")])
    def test_coarse_stamps_are_told_beside_the_clock(self, coarse: int, told: str) -> None:
        """A kernel's clock alone makes no gap fine; one coarse run of two hundred is not none."""
        coarse_ones = [
            finished(states.success("groq", -1, id=f"{n}", resolution="coarse", clock="kernel")) for n in range(coarse)
        ]
        fine = [finished(states.success("groq", -1, id=f"fine {n}")) for n in range(200 - coarse)]
        stamps = row(engine(after(states.healthy(), [*fine, *coarse_ones]), NOW), "stamps")

        assert stamps["state"].text == told
        assert stamps["what it says"].text.startswith(f"{coarse} of 200 runs coarse")

    def test_without_a_run_nothing_is_said_of_stamps(self) -> None:
        begun = after(states.empty(), states.attached())

        assert row(engine(begun, NOW), "stamps")["state"].text == "— no runs yet"

    def test_a_store_that_fails_says_since_when_and_what_waits(self) -> None:
        failing = StoreState(status="failing", at=at(-4), waiting=31, reason="connection refused")
        store = row(engine(after(states.healthy(), [failing]), NOW), "store")

        assert (store["state"].text, store["since"].text) == ("▲ failing", "12:03")
        assert store["what it says"].text.startswith("connection refused; ")
        assert store["what it says"].text.endswith("31 outcomes wait for it")

    def test_an_actor_that_is_no_lane_is_there_if_it_has_trouble(self) -> None:
        crashed = LaneState(lane="sink", status="restarting", at=at(-1), reason="crashed: OSError")
        table = engine(after(states.healthy(), [crashed]), NOW)

        assert row(table, "sink")["what it says"].text == "crashed: OSError"
        assert "scheduler" not in {row.key for row in table.rows}

    def test_over_http_it_is_read_only(self) -> None:
        live = LinkChange(status="live", at=NOW)

        assert "read-only" in row(engine(after(states.healthy(), [live]), NOW), "events")["what it says"].text


class TestAbout:
    def test_a_trouble_is_told_in_full(self) -> None:
        advice = "check the key " + "that is told of at length " * 20
        down = LaneState(lane="groq", status="down", at=at(-4.5), reason=f"auth: no; {advice}", until=at(10))
        trouble, heading = about(after(states.healthy(), [down]), "groq", NOW)

        assert trouble.text == f"groq ✖ down since 12:03: auth: no; {advice}; looked at again in 10 min"
        assert (trouble.tone, heading.text) == ("bad", "What groq did lately")

    def test_runs_that_fail_tell_what_to_do(self) -> None:
        """However long the provider's words are."""
        refused = [finished(states.refusal("groq", -3 + n, message="no " * 300)) for n in range(2)]
        (trouble, _heading) = about(after(states.healthy(), refused), "groq", NOW)

        assert trouble.text.startswith("groq ▲ failing since 12:04: 2 runs in a row failed, lately auth: no no")
        assert trouble.text.endswith("; Check the variable GROQ_API_KEY")

    def test_who_is_well_has_a_heading_alone(self) -> None:
        assert [cell.text for cell in about(states.healthy(), "groq", NOW)] == ["What groq did lately"]
        assert [cell.text for cell in about(states.healthy(), None, NOW)] == ["no provider is chosen"]


class TestAttempts:
    def test_the_last_runs_of_a_provider_are_there_the_newest_first(self) -> None:
        table = attempts(states.one_lane_down(), "groq", NOW)

        assert len(table.rows) == 33
        assert [row.cells[1].text for row in table.rows[:4]] == ["✖ failed"] * 3 + ["● ok"]
        assert table.rows[0].cells[-1].text == "auth: Error code: 401 - Invalid API Key"

    def test_none_is_said_in_words(self) -> None:
        assert attempts(states.empty(), "groq", NOW).empty == "no run has ended here yet"

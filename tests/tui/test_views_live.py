"""Live: which streams fill, which wait and which stand still, and one of them in full."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.messages import LaneState, RunProgress, RunStarted
from llmbench.tui.items import LinkChange
from llmbench.tui.state import State
from llmbench.tui.text import width
from llmbench.tui.views.live import gaps, live, stream
from tests.tui import states
from tests.tui.states import NOW, after, at, attached, engine_figures, finished, lane_figures

STARTED = RunStarted(outcome_id="a", provider="groq", model_id="llama", at=at(-5 / 60))


def attached_only() -> State:
    return after(states.empty(), attached())


def filling(*steps: tuple[float, int], text: str = "word ") -> State:
    made = [
        RunProgress(
            outcome_id="a", provider="groq", model_id="llama", visible_chunks=chunks, text=text, elapsed=elapsed
        )
        for elapsed, chunks in steps
    ]
    return after(attached_only(), [STARTED, *made])


def shown(state: State) -> list[str]:
    (row,) = live(state, NOW).rows
    return [cell.text for cell in row.cells]


class TestStreams:
    def test_one_that_fills(self) -> None:
        assert shown(filling((4.8, 8), (4.9, 10))) == [
            "groq",
            "llama",
            "● streams",
            "5.00",
            "10",
            "2.04",
            "                   █",
            "word word ",
        ]

    def test_one_that_waits_for_its_first_token(self) -> None:
        assert shown(after(attached_only(), [STARTED]))[2:6] == ["◌ waiting", "5.00", "0", "—"]

    def test_one_that_stands_still(self) -> None:
        assert shown(filling((0.5, 3)))[2] == "▲ still 4 s"

    def test_the_oldest_is_first(self) -> None:
        rows = live(states.healthy(), NOW).rows

        assert [row.key for row in rows] == [f"run-{lane}" for lane in reversed(states.LANES[:6])]

    def test_of_its_text_the_end_is_there_on_one_line(self) -> None:
        state = filling((1.0, 1), text="first\n" + "x" * 200 + "\nlast")

        assert shown(state)[-1] == "…" + "x" * 155 + " last"
        assert live(state, NOW).columns[-1].keeps_end

    def test_none_falls_silent_when_the_connection_is_lost(self) -> None:
        """It is not known that it did; what is known is old, and dimmed."""
        lost = after(filling((4.9, 10)), [LinkChange(status="lost", at=NOW, reason="closed")])
        (row,) = live(lost, at(10)).rows

        assert (row.cells[2].text, row.cells[3].text) == ("● streams", "5.00")
        assert {cell.tone for cell in row.cells} == {"muted"}

    @pytest.mark.parametrize("made", [states.healthy, states.hostile, states.disconnected])
    def test_every_cell_fits_its_column(self, made: Any) -> None:
        table = live(made(), NOW)

        assert table.rows
        for column, cells in zip(table.columns, zip(*(row.cells for row in table.rows), strict=True), strict=True):
            assert not column.width or max(width(cell.text) for cell in cells) <= column.width, column


class TestWithoutStreams:
    @pytest.mark.parametrize(
        ("figures", "said"),
        [
            ({"due": 3}, "nothing streams now; 3 models are due, their lanes keep their pace"),
            ({"next_due": at(0.2)}, "nothing streams now; next run due in 12 s"),
        ],
    )
    def test_it_says_what_comes_next(self, figures: dict[str, Any], said: str) -> None:
        quiet = [lane_figures(lane, next_due=None, in_flight=0) for lane in states.LANES]
        state = after(attached_only(), [*quiet, lane_figures("groq", **figures)])

        assert live(state, NOW).empty == said

    def test_it_says_why_nothing_is_started(self) -> None:
        state = after(attached_only(), [engine_figures(hold="the spool is full")])

        assert live(state, NOW).empty == "nothing streams: no new run is started, the spool is full"

    def test_it_says_that_there_is_no_engine(self) -> None:
        assert live(states.empty(), NOW).empty == f"connecting to {states.ADDRESS} …"

    def test_a_filter_says_what_it_hides(self) -> None:
        state = states.healthy()

        assert live(state, NOW, "groq").hidden == "5 streams hidden by the filter"
        assert live(state, NOW, "nix").empty == "no stream matches 'nix'; esc clears the filter"


class TestOneStream:
    def test_it_has_its_figures_its_gaps_and_its_text(self) -> None:
        state = filling((4.25, 8), (4.5, 9), (4.75, 11), text="counting\nwaves ")

        assert [cell.text for cell in stream(state, "a", NOW, 40)] == [
            "● streams  groq  llama",
            "5.00 s, 11 chunks, 2.32 chunks/s",
            "█▄",
            "gaps between chunks, 0 to 250 ms, from step to step of what was told here",
            "counting",
            "waves counting",
            "waves counting",
            "waves ",
        ]

    def test_a_gap_is_the_mean_between_two_steps(self) -> None:
        run = filling((1.0, 2), (1.5, 4), (1.6, 4), (2.6, 5)).runs["a"]

        assert gaps(run) == pytest.approx([0.25, 1.0])

    def test_of_a_long_text_the_end_is_there(self) -> None:
        lines = stream(states.hostile(), "hostile", NOW, 60, 12)

        assert len(lines) == 12
        assert max(width(cell.text) for cell in lines) <= 60

    def test_it_says_how_it_ended(self) -> None:
        fine = after(filling((1.0, 1)), [finished(states.success("groq", -1, id="a"))])
        failed = after(filling((1.0, 1)), [finished(states.refusal("groq", -1, id="a"))])

        assert stream(fine, "a", NOW)[0].text == "groq  llama-3.3-70b-versatile  ● ok 1 min ago"
        assert [cell.text for cell in stream(failed, "a", NOW)] == [
            "groq  llama-3.3-70b-versatile  ✖ failed 1 min ago",
            "auth: Error code: 401 - Invalid API Key",
        ]

    def test_it_says_that_it_is_gone(self) -> None:
        crashed = LaneState(lane="groq", status="restarting", at=NOW)

        (line,) = stream(after(filling((1.0, 1)), [crashed]), "a", NOW)
        assert line.text.startswith("this stream is gone")

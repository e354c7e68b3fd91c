"""The log: the newest first, filtered by level and text, keyed so that the cursor stays on its line."""

from __future__ import annotations

from llmbench.messages import Commanded, LaneState
from llmbench.tui.state import LogLine
from llmbench.tui.views.log import log
from tests.tui import states
from tests.tui.states import HOSTILE_LANE, NOW, after, at


class TestLines:
    def test_one_says_when_how_bad_where_and_what(self) -> None:
        down = LaneState(lane="groq", status="down", at=at(0), reason="key refused")
        first = log(after(states.healthy(), [down]), NOW).rows[0]

        assert [cell.text for cell in first.cells] == ["12:07:30", "✖ error", "groq", "down: key refused"]
        assert first.cells[1].tone == "bad"

    def test_what_a_person_had_the_engine_do(self) -> None:
        """Whoever it was: it comes from the engine, and is data."""
        state = after(states.healthy(), [Commanded(at=at(-1), done="groq is paused\n\x1b[2J")])
        line = log(state, NOW, "a person").rows[0]

        assert [cell.text for cell in line.cells][:3] == ["12:06:30", "● info", "a person"]
        assert line.cells[3].text.startswith("groq is paused")
        assert line.cells[3].text.isprintable()

    def test_their_keys_stay_when_others_come_and_are_all_different(self) -> None:
        before = states.one_lane_down()
        more = after(before, [LaneState(lane="groq", status="ok", at=NOW)])
        keys = [row.key for row in log(before, NOW).rows]

        assert [row.key for row in log(more, NOW).rows][1:] == keys
        assert len(set(keys)) == len(keys) == len(before.log)

    def test_hostile_names_are_short_and_text_is_one_line(self) -> None:
        rows = log(states.hostile(), NOW, HOSTILE_LANE).rows

        assert {row.cells[2].full for row in rows} <= {HOSTILE_LANE, None}
        assert len(rows) == 3
        assert not any("\n" in cell.text or "\x1b" in cell.text for row in rows for cell in row.cells)


class TestFilter:
    def test_a_level_shows_that_and_worse(self) -> None:
        state = states.one_lane_down()

        assert {row.cells[1].text for row in log(state, NOW, level="warning").rows} == {"▲ warning", "✖ error"}
        assert len(log(state, NOW, level="error").rows) == 1

    def test_a_text_is_found_in_source_and_line(self) -> None:
        state = states.one_lane_down()

        assert {row.cells[2].text for row in log(state, NOW, "TOGETHER").rows} == {"together"}
        assert len(log(state, NOW, "invalid api key").rows) == 4

    def test_errors_that_it_hides_are_counted(self) -> None:
        assert log(states.one_lane_down(), NOW, "together").hidden == "1 error hidden by the filter"
        assert log(states.one_lane_down(), NOW).hidden is None

    def test_nothing_is_said_in_words(self) -> None:
        state = states.healthy()

        assert log(states.empty(), NOW).empty == f"connecting to {states.ADDRESS} …"
        assert log(after(states.empty(), states.attached()[1:]), NOW).empty == "nothing has happened yet"
        assert log(state, NOW, "nix").empty == "no line matches 'nix'; esc clears the filter"
        assert log(state, NOW, level="error").empty == "no error"

    def test_the_lines_are_those_of_the_state(self) -> None:
        line = LogLine(at=NOW, level="info", source="groq", text="works")

        assert line in after(states.one_lane_down(), [LaneState(lane="groq", status="ok", at=NOW)]).log

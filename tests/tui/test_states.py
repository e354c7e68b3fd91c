"""The states that other tests and snapshots start from are what their names say."""

from __future__ import annotations

from tests.tui import states


class TestStates:
    def test_a_healthy_one_has_twelve_lanes_that_work(self) -> None:
        state = states.healthy()

        assert [lane.status for lane in state.lanes.values()] == ["ok"] * 12
        assert {lane.ok for lane in state.lanes.values()} == {30}
        assert set(state.actors) == {"scheduler", "sink", "delivery"}
        assert len(state.runs) == 6

    def test_they_are_the_same_every_time(self) -> None:
        """Snapshots compare pictures of them."""
        for made in (states.empty, states.healthy, states.one_lane_down, states.disconnected, states.hostile):
            assert made() == made()

    def test_one_has_a_lane_that_is_down_and_one_that_is_slow(self) -> None:
        lanes = states.one_lane_down().lanes

        assert (lanes["groq"].status, lanes["groq"].failures_in_a_row) == ("down", 3)
        assert lanes["together"].slow_since == states.at(-2.4)

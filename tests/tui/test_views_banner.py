"""The banner: in words, the worst first, and nothing if all is well."""

from __future__ import annotations

import unicodedata
from typing import Any

from llmbench.messages import LaneState, SpoolFigures, StoreState
from llmbench.tui.views.banner import banner
from tests.tui import states
from tests.tui.states import NOW, after, at, engine_figures, lane_figures


def lines(*items: Any) -> list[str]:
    """Return the banner after these, all having been well."""
    return [cell.text for cell in banner(after(states.healthy(), items), NOW)]


class TestBanner:
    def test_there_is_none_if_all_is_well(self) -> None:
        assert banner(states.healthy(), NOW) == ()
        assert banner(states.empty(), NOW) == ()

    def test_it_names_what_is_wrong_with_which_provider_and_since_when(self) -> None:
        assert [cell.text for cell in banner(states.one_lane_down(), NOW)] == [
            (
                "✖ groq down since 12:03 (4 min): auth: key refused (401): Invalid API Key; check the variable"
                " GROQ_API_KEY; looked at again in 10 min"
            ),
            (
                "▲ together slow since 12:05 (2 min): TTFT 3.9 × its usual, speed 0.5 × its usual"
                " (last 5 runs; usual of 412 runs)"
            ),
        ]

    def test_a_lost_engine_is_first_and_tells_how_old_the_rest_is(self) -> None:
        lost = states.disconnected()
        down = after(lost, [LaneState(lane="groq", status="down", at=at(-9))], at(-40 / 60))

        assert [cell.text for cell in banner(down, NOW)] == [
            "✖ engine not reachable since 12:06 (40 s): the engine closed the connection; what is shown is 40 s old",
            "✖ groq down since 11:58 (9 min)",
        ]

    def test_an_engine_that_says_nothing_is_named(self) -> None:
        (line,) = banner(states.healthy(), at(1))

        assert line.text == "▲ engine silent since 12:07 (1 min): it says nothing; what is shown is 1 min old"

    def test_many_with_the_same_trouble_share_a_line(self) -> None:
        (line,) = lines(
            *(LaneState(lane=name, status="down", at=at(-3), reason="no route") for name in states.LANES[:4])
        )

        assert line == "✖ 4 providers (anthropic, bedrock, openai, vertex) down since 12:04 (3 min): no route"

    def test_the_store_the_spool_and_actors_are_named(self) -> None:
        full = SpoolFigures(level="paused", waiting=9, quarantined=2, damages=1, bytes=1, cap_bytes=1)
        found = lines(
            StoreState(status="blocked", at=at(-2), waiting=9, reason="password refused"),
            LaneState(lane="sink", status="restarting", at=at(-1), reason="crashed"),
            engine_figures(spool=full),
        )

        assert found == [
            "✖ spool paused: 2 outcomes are quarantined; 1 damage not acknowledged",
            "✖ store blocked since 12:05 (2 min): password refused",
            "▲ sink restarting since 12:06 (1 min): crashed",
        ]

    def test_quarantine_alone_is_something_to_look_at(self) -> None:
        one = SpoolFigures(level="ok", waiting=0, quarantined=1, damages=0, bytes=1, cap_bytes=10)

        assert lines(engine_figures(spool=one)) == ["▲ spool look at it: 1 outcome is quarantined"]

    def test_what_changes_what_is_measured_is_noted(self) -> None:
        found = lines(engine_figures(hold="the spool is full", loop_lag=0.2), lane_figures("groq", paused_since=at(-3)))

        assert found == [
            "▲ the engine's loop was away for 200 ms: stamps may be late",
            "‖ no new run is started: the spool is full",
            "‖ paused by a person: groq since 12:04 (3 min)",
        ]

    def test_many_that_are_paused_are_all_named(self) -> None:
        paused = [lane_figures(lane, paused_since=at(-n - 3)) for n, lane in enumerate(states.LANES)]

        (line,) = lines(*paused)
        assert line.startswith(f"‖ paused by a person: {len(paused)} providers ({', '.join(states.LANES)})")
        assert line.endswith(", the first since 11:53 (14 min)")

    def test_foreign_text_is_data_and_bounded(self) -> None:
        shown = banner(states.hostile(), NOW)

        assert any("[@click=app.quit]x[/] down since" in cell.text for cell in shown)
        assert max(len(cell.text) for cell in shown) < 700
        assert {unicodedata.category(char) for cell in shown for char in cell.text}.isdisjoint({"Cc", "Cf", "Cs"})

"""A running engine, watched and commanded by its owner through its socket: the real program, from start to end."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

from llmbench.actors.engine_requests import DisableModel, EnableModel, Pause, Resume, RunNow
from llmbench.messages import (
    Commanded,
    EngineFigures,
    LaneFigures,
    LaneState,
    RunFinished,
    RunProgress,
    RunStarted,
    StoreState,
)
from tests.actors.engine import unique
from tests.e2e.program import Place, ended, until_logged
from tests.e2e.watching import Viewer, connected, folder_of, ordered

SLOW = "ttft50-gap50-tok16"


def test_who_attaches_sees_how_things_are_and_then_every_run(place: Place) -> None:
    """A lane that failed before it came, the store, each lane's figures; then a run that it asks for, as it fills.

    When the engine ends, it learns that, too, and keeps it from nothing.
    """
    name, refused = unique(SLOW), unique("401")
    place.configure(groq=[name], together=[refused])
    with place.started("--headless") as process:
        before = until_logged(process, name)
        with connected(folder_of(place)) as near:
            viewer = Viewer(near)
            state = viewer.until(lambda event: isinstance(event, LaneState) and event.lane == "together")
            figures = viewer.until(lambda event: isinstance(event, EngineFigures))
            lane = viewer.until(lambda event: isinstance(event, LaneFigures) and event.lane == "groq")
            asked = datetime.now(UTC)
            assert ordered(folder_of(place), RunNow("groq", name)).done == f"groq/{name} is due now"
            finished = viewer.until(lambda event: isinstance(event, RunFinished))
            stopping = ended(process, signal.SIGTERM, before=before)
            viewer.until_ended()

    assert isinstance(state, LaneState)
    assert state.status == "blocked"
    assert isinstance(figures, EngineFigures)
    assert figures.lanes == ("groq", "together")
    assert figures.spool is not None
    assert isinstance(lane, LaneFigures)
    assert (lane.models, lane.due, lane.paused_since) == (1, 0, None)
    assert isinstance(finished, RunFinished)
    (started,) = [event for event in viewer.events if isinstance(event, RunStarted) and event.model_id == name]
    assert started.outcome_id == finished.outcome.id
    assert started.at > asked
    told = [event for event in viewer.events if isinstance(event, RunProgress) and event.model_id == name]
    assert 2 <= len(told) <= 10
    assert [event.visible_chunks for event in told] == sorted(event.visible_chunks for event in told)
    assert any(isinstance(event, StoreState) for event in viewer.events)
    last = [event for event in viewer.events if isinstance(event, LaneState)][-4:]
    assert {event.status for event in last} == {"stopped"}
    assert stopping.code == 0
    assert {outcome.id for outcome in place.outcomes()} == {line["id"] for line in stopping.runs()}


def test_orders_that_last(place: Place) -> None:
    """A paused lane starts nothing; a disabled model stays so after the engine's end, with who and why."""
    name, other = unique(), unique()
    place.configure(groq=[name], together=[other])
    folder = folder_of(place)
    with place.started("--headless") as process:
        before = until_logged(process, name)
        with connected(folder) as near:
            viewer = Viewer(near)
            paused_all = ordered(folder, Pause()).done
            assert "all lanes are paused" in str(paused_all)
            paused = datetime.now(UTC)
            viewer.until(lambda event: isinstance(event, Commanded) and event.done == paused_all)
            held = viewer.until(lambda event: isinstance(event, EngineFigures) and event.hold is not None)
            viewer.until(lambda event: isinstance(event, LaneFigures) and event.paused_since is not None)
            ordered(folder, RunNow("groq", name))
            assert "measured no more" in str(ordered(folder, DisableModel("together", other, "too dear")).done)
            viewer.until(lambda event: isinstance(event, LaneFigures) and event.lane == "together" and not event.models)
            assert not [event for event in viewer.events if isinstance(event, RunStarted) and event.at > paused]
            assert ordered(folder, Resume()).done == "groq, together go on"
            viewer.until(lambda event: isinstance(event, RunStarted) and event.model_id == name and event.at > paused)
            assert "did you mean" in str(ordered(folder, EnableModel("together", other + "x")).error)
        done = ended(process, signal.SIGTERM, before=before)

    assert isinstance(held, EngineFigures)
    assert "dashboard" in str(held.hold)
    assert done.code == 0
    (row,) = place.run("models", "list", "--provider", "together", "--json").lines()
    assert (row["enabled"], row["disabled_reason"], row["disabled_by"]) == (False, "too dear", "dashboard")
    assert any("from the dashboard: all lanes are paused" in line.get("message", "") for line in done.lines())

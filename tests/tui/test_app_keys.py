"""Every key does what it says, on a dashboard that a test drives."""

from __future__ import annotations

import csv
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from textual.widgets import Input

from llmbench.actors.engine_requests import DisableModel, EngineAnswer, Pause, Resume, RunNow
from llmbench.tui.app import STOP_ENGINE
from llmbench.tui.arrange import Order
from llmbench.tui.bindings import BY_ID, COMMANDS, PANES, commands_of
from llmbench.tui.feed import FeedError
from llmbench.tui.screens.dialogs import Confirm, Prompt
from llmbench.tui.screens.help import Help
from llmbench.tui.screens.registry import SCREENS
from llmbench.tui.state import State
from tests.tui import states
from tests.tui.canned import PASTS
from tests.tui.dashboards import Driven, SilentFeed, driven
from tests.tui.stores import press, shown

Story = Callable[[Driven], Awaitable[None]]
OF_STORE = {"measure", "window", "retry", "reload", "enable"}
"""Tried on the screens that have them: tests/tui/test_screens_stored.py."""


@pytest.fixture
def anyio_backend() -> str:
    """Textual runs on asyncio's own loop."""
    return "asyncio"


STORIES: dict[str, Story] = {}


def story(*commands: str) -> Callable[[Story], Story]:
    """Note which commands a story tries."""

    def noted(told: Story) -> Story:
        STORIES.update(dict.fromkeys(commands, told))
        return told

    return noted


@story(*PANES)
async def _digits(dashboard: Driven) -> None:
    for number, name in enumerate(PANES, 1):
        await dashboard.press(str(number))

        assert isinstance(dashboard.pane, SCREENS[name])
        assert f"[{number} {BY_ID[name].label}]" in dashboard.text()[0]


@story("up", "down")
async def _up_and_down(dashboard: Driven) -> None:
    keys = [row.key for row in dashboard.pane.grid.table.rows]
    await dashboard.press("down", "j", "k")
    assert dashboard.pane.grid.chosen == keys[1]

    await dashboard.press("up", "up")
    assert dashboard.pane.grid.chosen == keys[0]


@story("left", "right")
async def _left_and_right(dashboard: Driven) -> None:
    first = dashboard.pane.grid.chosen_cell
    await dashboard.press("right", "right")
    assert dashboard.pane.grid.chosen_cell == dashboard.pane.grid.table.rows[0].cells[2]

    await dashboard.press("left", "left", "left")
    assert dashboard.pane.grid.chosen_cell == first


@story("page_up", "page_down", "first", "last")
async def _pages(dashboard: Driven) -> None:
    await dashboard.press("7")
    grid = dashboard.pane.grid
    keys = [row.key for row in grid.table.rows]
    page = grid.size.height - 2
    assert len(keys) > 2 * page

    await dashboard.press("pagedown", "pagedown")
    assert grid.chosen == keys[2 * page]
    await dashboard.press("pageup")
    assert grid.chosen == keys[page]
    await dashboard.press("end")
    assert (grid.chosen, grid.scroll_offset.y) == (keys[-1], len(keys) - page - 1)
    await dashboard.press("home")
    assert (grid.chosen, grid.scroll_offset.y) == (keys[0], 0)


@story("sort", "reverse")
async def _sort(dashboard: Driven) -> None:
    own = [row.key for row in dashboard.pane.grid.table.rows]
    await dashboard.press("s")
    assert dashboard.pane.grid.order == Order(0)
    assert [row.key for row in dashboard.pane.grid.table.rows] == sorted(own)
    assert "↑provider" in dashboard.text()[dashboard.row("TTFT ms")]

    await dashboard.press("S")
    assert [row.key for row in dashboard.pane.grid.table.rows] == sorted(own, reverse=True)
    assert "↓provider" in dashboard.text()[dashboard.row("TTFT ms")]

    shown = len(dashboard.pane.grid._fitted)
    await dashboard.press(*["s"] * shown)
    assert dashboard.pane.grid.order == Order()


@story("copy")
async def _copy(dashboard: Driven) -> None:
    """A name that is shown without its middle is copied whole."""
    await dashboard.press("2", "right", "c")

    whole = states.MODELS["together"]
    assert dashboard.app.clipboard == whole
    assert not any(whole in line for line in dashboard.text()[:4])
    assert dashboard.notices() == [f"copied: {whole}"]


@story("open")
async def _open(dashboard: Driven) -> None:
    await dashboard.press("down", "enter")
    assert dashboard.row("What bedrock did lately") == 1
    assert not dashboard.shows("TTFT ×")

    await dashboard.press("down", "escape")
    assert dashboard.shows("TTFT ×")
    assert dashboard.app.focused is dashboard.pane.grid


@story("filter", "back")
async def _filter(dashboard: Driven) -> None:
    """What is typed filters at once, enter goes back to the table, esc shows all again."""
    await dashboard.press("slash", *"ro", "q")
    assert dashboard.shows("only what holds 'roq' is shown: 1 row; esc clears the filter")
    assert [row.key for row in dashboard.pane.grid.table.rows] == ["groq"]

    await dashboard.press("enter")
    assert dashboard.app.focused is dashboard.pane.grid
    assert not dashboard.pane.query_one("#filter", Input).display
    await dashboard.press("escape")
    assert len(dashboard.pane.grid.table.rows) == len(states.LANES)
    assert not dashboard.shows("only what holds")


@story("show")
async def _show(dashboard: Driven) -> None:
    await dashboard.told(states.finished(states.refusal("groq", 0)))
    await dashboard.press("7")
    everything = len(dashboard.pane.grid.table.rows)
    shown = []
    for _ in range(3):
        await dashboard.press("f")
        shown.append((len(dashboard.pane.grid.table.rows), dashboard.shows("f shows others")))

    assert shown == [(1, True), (0, True), (everything, False)]


@story("run_now")
async def _run_now(dashboard: Driven) -> None:
    await dashboard.press("r", "2", "r")

    assert dashboard.feed.asked == [RunNow("anthropic"), RunNow("together", states.MODELS["together"])]
    assert dashboard.notices() == ["the engine did it"] * 2


@story("pause_lane")
async def _pause_lane(dashboard: Driven) -> None:
    await dashboard.press("P")
    await dashboard.told(states.lane_figures("anthropic", paused_since=states.at(-3)))
    assert dashboard.shows("‖ paused by a person: anthropic")
    paused = next(row.key for row in dashboard.pane.grid.table.rows if row.key == "anthropic")
    while dashboard.pane.grid.chosen != paused:
        await dashboard.press("down")
    await dashboard.press("P")

    assert dashboard.feed.asked == [Pause("anthropic"), Resume("anthropic")]


@story("disable")
async def _disable(dashboard: Driven) -> None:
    """It asks for a reason, does nothing without one, and nothing after esc."""
    await dashboard.press("2", "x")
    assert isinstance(dashboard.app.screen, Prompt)
    await dashboard.press(*"no", "escape", "x", "space", "enter")
    assert isinstance(dashboard.app.screen, Prompt)
    assert dashboard.feed.asked == []

    await dashboard.press(*"slow", "enter")
    assert dashboard.feed.asked == [DisableModel("together", states.MODELS["together"], "slow")]


@story("pause_view")
async def _pause_view(dashboard: Driven) -> None:
    """The table stands still and says so; the banner does not, and what came meanwhile is there afterwards."""
    failures = [states.finished(states.refusal("groq", minutes)) for minutes in (-0.2, -0.1, 0)]
    await dashboard.press("p")
    before = [row.cells[1].text for row in dashboard.pane.grid.table.rows]
    await dashboard.told(*failures)
    assert dashboard.shows("‖ this view is as of 12:07:30; measuring goes on; p lets the view go on")
    assert dashboard.shows("▲ groq failing")
    assert [row.cells[1].text for row in dashboard.pane.grid.table.rows] == before

    await dashboard.press("p")
    assert dashboard.pane.grid.table.rows[0].key == "groq"
    assert not dashboard.shows("this view is as of")


@story("export")
async def _export(dashboard: Driven) -> None:
    """The table as it is sorted, in full, and the picture; told where."""
    await dashboard.press("s", "S", "e")
    await dashboard.exported()
    folder = dashboard.folder
    with (folder / "llmbench-overview-20260314-120730.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))

    assert [row[0] for row in rows[1:]] == sorted(states.LANES, reverse=True)
    assert "anthropic" in (folder / "llmbench-overview-20260314-120730.svg").read_text(encoding="utf-8")
    assert [notice.partition("llmbench-")[0] for notice in dashboard.notices()] == [f"saved {folder}/"] * 2


@story("help")
async def _help(dashboard: Driven) -> None:
    """What is focused comes first; the filter gives its own keys up for text."""
    await dashboard.press("question_mark")
    assert isinstance(dashboard.app.screen, Help)
    assert dashboard.row("The table") < dashboard.row("This screen") < dashboard.row("Everywhere")
    assert dashboard.shows("s       Sort     Sort by the next column")

    await dashboard.press("escape", "slash", "f1")
    assert dashboard.row("This screen") < dashboard.row("The table")
    await dashboard.press("escape")
    assert dashboard.pane.key == "overview"


@story("palette")
async def _palette(dashboard: Driven) -> None:
    """It finds a command by name and does it; the banner stays in sight."""
    await dashboard.press("ctrl+p", *"freeze")
    await dashboard.pilot.pause(0.2)
    await dashboard.press("down", "enter")
    await dashboard.pilot.pause(0.2)

    assert dashboard.shows("this view is as of")


@story("quit")
async def _quit(dashboard: Driven) -> None:
    await dashboard.pilot.press("q")

    assert dashboard.app.return_value == 0


@story("leave")
async def _leave(dashboard: Driven) -> None:
    """From wherever: out of a dialog, too."""
    await dashboard.press("2", "x")
    await dashboard.pilot.press("ctrl+c")

    assert dashboard.app.return_value == 0


@pytest.mark.parametrize("command", STORIES)
async def test_a_key_does_what_it_says(command: str, tmp_path: Path) -> None:
    async with driven(folder=tmp_path) as dashboard:
        await STORIES[command](dashboard)


def test_every_command_is_tried() -> None:
    """No key is without a story, here or with the store's screens."""
    assert set(STORIES) | OF_STORE == {command.id for command in COMMANDS}


@pytest.mark.parametrize(
    ("keys", "answer"), [(["y"], STOP_ENGINE), (["n"], 0), (["escape"], None), (["ctrl+c"], STOP_ENGINE)]
)
@pytest.mark.parametrize("way", ["q", "ctrl+c"])
async def test_leaving_is_asked_about_if_there_is_something_to_ask(
    way: str, keys: list[str], answer: int | None
) -> None:
    """Yes stops the engine, no does not, esc stays; Ctrl-C twice is a yes."""
    async with driven(quit_asks="stop the engine that this window started?") as dashboard:
        await dashboard.press(way)
        assert isinstance(dashboard.app.screen, Confirm)
        assert dashboard.shows("stop the engine that this window started?")
        await dashboard.pilot.press(*keys)

        assert dashboard.app.return_value == answer
        assert (answer is not None) or dashboard.pane.key == "overview"


def _only_watched() -> State:
    state = states.healthy()
    return msgspec.structs.replace(state, link=msgspec.structs.replace(state.link, commands=False))


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (states.disconnected, "Run: there is no connection to the engine"),
        (_only_watched, "Run: this engine can only be watched from here: run llmbench tui on its machine"),
    ],
)
async def test_a_command_that_can_not_be_carried_out_says_why(state: Callable[[], State], why: str) -> None:
    """It is grey in the footer, and its key, help and palette tell the reason."""
    async with driven(state()) as dashboard:
        assert dashboard.pane.check_action("run_now", ()) is None
        await dashboard.press("r")
        assert dashboard.notices() == [why]
        assert dashboard.feed.asked == []

        await dashboard.press("question_mark", "pagedown")
        assert dashboard.shows("Not now: ")


@pytest.mark.parametrize("pane", PANES)
async def test_what_the_foot_of_a_screen_offers_does_something(pane: str) -> None:
    """Each key changes what is shown, asks the engine, or says why it does not: it is grey, and tells."""
    async with shown(PASTS["one_lane_down"](), pane, state=states.one_lane_down()) as dashboard:
        for command in [one for one in commands_of(pane) if one.footer and one.id != "quit"]:
            assert f"{dashboard.app.written_key(command)} {command.label}" in dashboard.text()[-1]
            before, asked = dashboard.text(), len(dashboard.feed.asked)
            await press(dashboard, dashboard.app.keys_of(command)[0])
            assert dashboard.text() != before or len(dashboard.feed.asked) > asked, command.id

            dashboard.app.clear_notifications()
            await press(dashboard, "escape")


async def test_what_is_open_offers_the_way_back() -> None:
    async with shown(PASTS["one_lane_down"](), "errors") as dashboard:
        await press(dashboard, "enter")
        assert dashboard.text()[-1].startswith("esc Back")

        await press(dashboard, "escape")
        assert dashboard.text()[-1].startswith("⏎ Open")


@pytest.mark.parametrize("pane", PANES)
async def test_there_is_nothing_to_open_where_there_is_no_row(pane: str) -> None:
    async with shown(PASTS["empty"](), pane, state=states.empty()) as dashboard:
        await press(dashboard, "enter")

        assert dashboard.notices() == ["Open: no row is chosen"]
        assert not dashboard.pane.is_open


@pytest.mark.parametrize(
    "answer", [EngineAnswer(error="lane 'x[/]' is not one of its lanes"), FeedError("lane 'x[/]' is not there")]
)
async def test_what_goes_wrong_with_a_command_is_told(answer: EngineAnswer | FeedError) -> None:
    """In the engine's words, which are no markup."""
    async with driven(feed=SilentFeed(answer)) as dashboard:
        await dashboard.press("r")

        assert dashboard.notices() == [answer.error if isinstance(answer, EngineAnswer) else str(answer)]
        assert dashboard.shows("lane 'x[/]' is not")


async def test_a_filter_leaves_the_banner_as_it_is() -> None:
    """What is down is named, whatever the table shows, and that it is hidden is said."""
    async with driven(states.one_lane_down(), keys=["slash", *"mistral", "enter"]) as dashboard:
        assert [row.key for row in dashboard.pane.grid.table.rows] == ["mistral"]
        assert dashboard.shows("✖ groq down since 12:03")
        assert dashboard.shows("▲ 2 providers in trouble hidden by the filter")


async def test_each_screen_keeps_its_own_filter() -> None:
    async with driven(keys=["slash", *"groq", "enter", "2"]) as dashboard:
        assert len(dashboard.pane.grid.table.rows) == 6
        await dashboard.press("1")
        assert len(dashboard.pane.grid.table.rows) == 1


async def test_the_cursor_follows_its_row() -> None:
    """A row that was chosen stays so wherever it goes; one that was not leaves the cursor on top."""
    trouble = [states.finished(states.refusal("groq", minutes)) for minutes in (-0.2, -0.1, 0)]
    async with driven() as dashboard:
        assert dashboard.pane.grid.chosen == "anthropic"
        await dashboard.told(*trouble)
        assert dashboard.pane.grid.chosen == "groq"

        await dashboard.press("down", "down")
        chosen = dashboard.pane.grid.chosen
        await dashboard.told(*(states.finished(states.refusal("vertex", minutes)) for minutes in (-0.2, -0.1, 0)))
        assert dashboard.pane.grid.chosen == chosen


async def test_keys_in_a_dialog_are_text() -> None:
    """What is typed as a reason does nothing else."""
    async with driven(keys=["2", "x", *"q17"]) as dashboard:
        assert isinstance(dashboard.app.screen, Prompt)
        assert dashboard.app.screen.query_one(Input).value == "q17"

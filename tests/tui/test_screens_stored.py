"""The screens that ask the store, and their keys, in a dashboard over a real store and a real spool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from llmbench.actors.engine_requests import DisableModel, EnableModel, EngineRequest, RunNow
from llmbench.stores.sqlite import SQLiteStore
from llmbench.tui.history import History
from llmbench.tui.screens.models import Models
from llmbench.tui.state import State
from llmbench.tui.views.models import row_of
from llmbench.tui.widgets.grid import Grid
from tests.stores.documents import envelopes, failure
from tests.stores.spooling import opened_spool
from tests.tui.answers import FRESH, group
from tests.tui.states import HOSTILE, LONG, NOW, at, healthy
from tests.tui.still import past, quarantine, refused, settled, shown, spool_asked, text


@pytest.fixture
def anyio_backend() -> str:
    """Textual makes loops of asyncio's own."""
    return "asyncio"


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    async with past(tmp_path) as history:
        yield history


def commanding() -> State:
    """Return a state whose engine does what it is told."""
    state = healthy()
    return msgspec.structs.replace(state, link=msgspec.structs.replace(state.link, commands=True))


class TestModels:
    """The catalogue, and the history of one model."""

    async def test_every_model_with_its_state(self, history: History) -> None:
        async with shown(history, "models") as (pilot, pane, _feed):
            assert [row.key for row in pane.grid.table.rows] == ["groq/llama", "openai/gpt-4o-mini", "openai/old"]
            lines = text(pilot)

        assert "✖ failing" in lines
        assert "3× rate_limit, last 1 min ago" in lines
        assert "it is gone (ana, 1 h 30 min ago)" in lines
        assert "the store told this 0 s ago" in lines

    async def test_f_shows_only_some(self, history: History) -> None:
        """One press after the other: enabled, disabled, stale, failing, and all again."""
        seen = []
        async with shown(history, "models") as (pilot, pane, _feed):
            for _ in range(5):
                await pilot.press("f")
                await pilot.pause()
                seen.append(len(pane.grid.table.rows))
        assert seen == [2, 1, 0, 1, 3]

    async def test_the_filter(self, history: History) -> None:
        """A failing model that it hides is told of; esc shows all again."""
        async with shown(history, "models") as (pilot, pane, _feed):
            await pilot.press("slash", *"gpt", "enter")
            await pilot.pause()
            assert [row.key for row in pane.grid.table.rows] == ["openai/gpt-4o-mini"]
            assert "1 failing model hidden by the filter" in text(pilot)
            await pilot.press("escape")
            await pilot.pause()
            assert len(pane.grid.table.rows) == 3

    async def test_enter_shows_the_history_of_one(self, history: History) -> None:
        """Its runs, its figures and since when it fails; esc goes back to the same row."""
        async with shown(history, "models") as (pilot, pane, _feed):
            await pilot.press("enter")
            await settled(pilot)
            lines = text(pilot)
            assert "✖ 3 failures since its last success 10 min ago, now rate_limit" in lines
            assert "speed  median 254 tok/s, 250 to 258, n = 97" in lines
            assert "Error code: 429 - slow down" in lines
            assert isinstance(pilot.app.focused, Grid)
            assert pilot.app.focused is pane.grid
            assert len(pane.grid.table.rows) == 100

            await pilot.press("escape", "down", "enter")
            await settled(pilot)
            assert "openai/gpt-4o-mini · esc goes back" in text(pilot)
            await pilot.press("escape")
            await pilot.pause()
            assert pane.grid.chosen == "openai/gpt-4o-mini"

    @pytest.mark.parametrize("detail", [False, True])
    async def test_keys_for_the_engine(self, history: History, detail: bool) -> None:
        """r runs the chosen model now, x disables it with a reason, be its history open or not."""
        async with shown(history, "models", state=commanding()) as (pilot, _pane, feed):
            await pilot.press(*(["enter"] if detail else []), "r", "x", *"too slow", "enter")
            await settled(pilot)
            assert feed.asked == [RunNow("groq", "llama"), DisableModel("groq", "llama", "too slow")]

    async def test_enabling(self, history: History) -> None:
        """E is for what is disabled; of what is enabled it says so, and asks nothing of the engine."""
        asked: list[EngineRequest] = [EnableModel("openai", "old")]
        async with shown(history, "models", state=commanding()) as (pilot, _pane, feed):
            await pilot.press("E")
            await pilot.pause()
            assert feed.asked == []
            assert "it is enabled already" in text(pilot)
            await pilot.press("end", "E")
            await settled(pilot)
            assert feed.asked == asked

    @pytest.mark.parametrize("detail", [False, True])
    async def test_what_was_changed_is_seen_at_once(self, history: History, tmp_path: Path, detail: bool) -> None:
        """Or a model just disabled is shown as enabled, and E says that it is."""
        store = SQLiteStore(tmp_path / "llmbench.db")
        async with shown(history, "models", state=commanding()) as (pilot, pane, _feed):
            await store.open()
            await store.disable_model("groq", "llama", reason="too slow", by="ana", at=NOW)
            await store.close()
            await pilot.press(*(["enter"] if detail else []), "x", *"too slow", "enter")
            await settled(pilot)
            await settled(pilot)
            assert isinstance(pane, Models)
            row = row_of(pane.catalogue.standing, "groq/llama")
            assert row is not None
            assert not row.enabled

    async def test_an_engine_that_can_only_be_watched(self, history: History) -> None:
        state = msgspec.structs.replace(healthy(), link=msgspec.structs.replace(healthy().link, commands=False))
        async with shown(history, "models", state=state) as (pilot, _pane, feed):
            await pilot.press("r", "x", "E")
            await settled(pilot)
            assert feed.asked == []
            assert "can only be watched from here" in text(pilot).replace("\n", " ")


class TestErrors:
    """Failures by fingerprint, and all of one group."""

    async def test_what_the_store_and_live_events_tell(self, history: History) -> None:
        """A failure that only live events tell of stands beside those of the store."""
        state = msgspec.structs.replace(healthy(), errors={"new": group("new", message="just now")})
        async with shown(history, "errors", state=state) as (pilot, pane, _feed):
            assert [row.key for row in pane.grid.table.rows] == ["new", "too-often"]
            assert "3 failures of 1 sort stored since 03-13 12:07" in text(pilot)

    async def test_enter_shows_raw_text_and_advice(self, history: History) -> None:
        async with shown(history, "errors") as (pilot, _pane, _feed):
            await pilot.press("enter")
            await pilot.pause()
            lines = text(pilot)
            assert "Error code: 429 - slow down" in lines
            assert "Ask the provider for a higher limit" in lines
            assert "3 times, first 12:04" in lines
            await pilot.press("escape")
            await pilot.pause()
            assert "What to do" not in text(pilot)
            assert isinstance(pilot.app.focused, Grid)

    async def test_ctrl_r_asks_again(self, history: History, tmp_path: Path) -> None:
        """What was stored meanwhile is counted at once."""
        async with shown(history, "errors") as (pilot, pane, _feed):
            store = SQLiteStore(tmp_path / "llmbench.db")
            await store.open()
            await store.put(envelopes(failure(run_ts=at(-0.5), fingerprint="too-often"), refused(0)))
            await store.close()
            await pilot.press("ctrl+r")
            await settled(pilot)
            assert pane.grid.table.rows[0].cells[2].text == "4"

    async def test_a_long_text_is_all_there(self, history: History) -> None:
        """It is wrapped, and scrolls by keys."""
        long = msgspec.structs.replace(group("long", count=99), message=LONG[:3000] + " THE END")
        state = msgspec.structs.replace(healthy(), errors={"long": long})
        async with shown(history, "errors", state=state, size=(80, 24)) as (pilot, _pane, _feed):
            await pilot.press("enter")
            await pilot.pause()
            assert "THE END" not in text(pilot)
            await pilot.press("end")
            await pilot.pause()
            assert "THE END" in text(pilot)


class TestTrends:
    """Figures over time, by provider and by model, with a plot."""

    async def test_the_chosen_row_is_plotted(self, history: History) -> None:
        async with shown(history, "trends") as (pilot, _pane, _feed):
            assert "openai: median time to first token, ms · 24 h · n = 142" in text(pilot)
            await pilot.press("down")
            await pilot.pause()
            assert "groq: median time to first token, ms · 24 h · n = 122" in text(pilot)

    async def test_t_plots_another_figure(self, history: History) -> None:
        headings = []
        async with shown(history, "trends") as (pilot, pane, _feed):
            for _ in range(3):
                await pilot.press("t")
                await pilot.pause()
                headings.append(pane.grid.table.columns[1].name)
        assert headings == ["now tok/s", "now %", "now ms"]

    async def test_w_changes_the_window(self, history: History) -> None:
        """The store is asked anew, and the plot is of that window."""
        seen = []
        async with shown(history, "trends") as (pilot, _pane, _feed):
            for _ in range(4):
                await pilot.press("w")
                await settled(pilot)
                seen.append(
                    next(
                        one
                        for one in ("6 h", "24 h", "7 d", "30 d")
                        if f"ms · {one} · n = 1" in text(pilot) or f"ms · {one} · n = 3" in text(pilot)
                    )
                )
        assert seen == ["7 d", "30 d", "6 h", "24 h"]

    async def test_enter_shows_the_models_of_one(self, history: History) -> None:
        """esc goes back to providers."""
        async with shown(history, "trends") as (pilot, pane, _feed):
            await pilot.press("down", "enter")
            await settled(pilot)
            assert [row.key for row in pane.grid.table.rows] == ["groq/llama"]
            assert "TTFT of each model of groq" in text(pilot)
            await pilot.press("escape")
            await settled(pilot)
            assert [row.key for row in pane.grid.table.rows] == ["openai", "groq"]


class TestStorage:
    """The spool and its quarantine."""

    async def test_r_sends_again_after_a_question(self, tmp_path: Path) -> None:
        """No, or esc, leaves it; yes lets it be due, and the table is asked for again."""
        async with opened_spool(tmp_path / "spool") as spool:
            await quarantine(spool)
            async with shown(spool_asked(spool), "storage") as (pilot, pane, _feed):
                assert "the field 'misc' is too large" in text(pilot)
                for answer in ("n", "escape"):
                    await pilot.press("r", answer)
                    await settled(pilot)
                assert (await spool.counts()).waiting == 0

                await pilot.press("r")
                await pilot.pause()
                assert "Send it to the store again? openai/gpt-4o-mini, rejected" in text(pilot)
                await pilot.press("y")
                await settled(pilot)
                assert ((await spool.counts()).waiting, pane.grid.table.rows) == (1, ())

    async def test_nothing_is_chosen(self, tmp_path: Path) -> None:
        async with opened_spool(tmp_path / "spool") as spool, shown(spool_asked(spool), "storage") as (pilot, *_):
            assert "the quarantine is empty" in text(pilot)
            await pilot.press("r")
            await pilot.pause()
            assert "no outcome is chosen" in text(pilot)

    async def test_how_the_store_is(self) -> None:
        """The engine's word is shown without any store at hand."""
        async with shown(None, "storage") as (pilot, *_):
            lines = text(pilot)
        assert "● takes outcomes since 11:27" in lines
        assert "3.24 MiB of 1.00 GiB" in lines
        assert "by llmbench tui there, or by llmbench spool list" in lines


@pytest.mark.parametrize("pane", ["models", "errors", "trends"])
async def test_without_a_store(pane: str) -> None:
    """The reason stands where rows would be; live failures are shown all the same."""
    history = History(None, reason_without="the engine is on another machine", fresh=FRESH)
    async with shown(history, pane) as (pilot, *_):
        assert "the engine is on another machine" in text(pilot)


@pytest.mark.parametrize("pane", ["models", "errors", "trends"])
async def test_trouble_leaves_the_old_answer(pane: str, history: History, tmp_path: Path) -> None:
    """What is shown is told to be old, with the store's own sentence."""
    async with shown(history, pane) as (pilot, screen, _feed):
        rows = screen.grid.table.rows
        (tmp_path / "llmbench.db").rename(tmp_path / "moved.db")
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert [row.key for row in screen.grid.table.rows] == [row.key for row in rows]
        assert "▲ shown is what it told 0 s ago: SQLite file" in text(pilot)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (200, 50)])
@pytest.mark.parametrize("pane", ["models", "errors", "trends", "storage"])
async def test_every_size_and_hostile_text(pane: str, size: tuple[int, int], tmp_path: Path) -> None:
    """No name, reason or message changes what the screen is; every line fits."""
    store = SQLiteStore(tmp_path / "llmbench.db")
    await store.open()
    odd = {"provider": "x[/]", "model_name": HOSTILE[:150]}
    await store.put(envelopes(failure(run_ts=at(-1), message=HOSTILE + LONG, error_kind=HOSTILE[:90], **odd)))
    await store.close()
    history = History(store, reason_without=HOSTILE, fresh=FRESH, now=lambda: NOW)
    async with shown(history, pane, size=size) as (pilot, *_):
        await pilot.press("enter")
        await settled(pilot)
        lines = text(pilot)
    assert all(line.isprintable() for line in lines.split("\n"))
    await history.close()

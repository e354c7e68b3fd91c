"""The screens that ask the store, and their keys, in a dashboard over a real store and a real spool."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import msgspec
import pytest

from llmbench.actors.engine_requests import DisableModel, EnableModel, EngineRequest, RunNow
from llmbench.stores.sqlite import SQLiteStore
from llmbench.stores.trends import Trend, TrendQuery
from llmbench.tui.history import History
from llmbench.tui.screens.models import Models
from llmbench.tui.state import State
from llmbench.tui.views.models import row_of
from llmbench.tui.widgets.grid import Grid
from tests.stores.documents import envelopes, failure
from tests.stores.spooling import opened_spool
from tests.tui.answers import FRESH, group
from tests.tui.dashboards import Driven
from tests.tui.states import HOSTILE, LONG, NOW, at, healthy
from tests.tui.stores import fill, past, press, quarantine, refused, shown, spool_asked


class Slow(SQLiteStore):
    """A store that never answers what is asked of a month."""

    async def trends(self, query: TrendQuery) -> list[Trend]:
        if query.since < NOW - timedelta(days=20):
            await anyio.sleep_forever()
        return await super().trends(query)


@pytest.fixture
def anyio_backend() -> str:
    """Textual makes loops of asyncio's own."""
    return "asyncio"


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    async with past(tmp_path) as history:
        yield history


def keys(dashboard: Driven) -> list[str]:
    return [row.key for row in dashboard.pane.grid.table.rows]


def text(dashboard: Driven) -> str:
    return "\n".join(dashboard.text())


def commanding() -> State:
    """Return a state whose engine does what it is told."""
    state = healthy()
    return msgspec.structs.replace(state, link=msgspec.structs.replace(state.link, commands=True))


class TestModels:
    """The catalogue, and the history of one model."""

    async def test_every_model_with_its_state(self, history: History) -> None:
        async with shown(history, "models") as dashboard:
            assert keys(dashboard) == ["groq/llama", "openai/gpt-4o-mini", "openai/old"]
            lines = text(dashboard)

        assert "✖ failing" in lines
        assert "3× rate_limit, last 1 min ago" in lines
        assert "it is gone (ana, 1 h" in lines
        assert "the store told this 0 s ago" in lines

    async def test_f_shows_only_some(self, history: History) -> None:
        """One press after the other: enabled, disabled, stale, failing, and all again."""
        seen = []
        async with shown(history, "models") as dashboard:
            for _ in range(5):
                await press(dashboard, "f")
                seen.append(len(dashboard.pane.grid.table.rows))
        assert seen == [2, 1, 0, 1, 3]

    async def test_the_filter(self, history: History) -> None:
        """A failing model that it hides is told of; esc shows all again."""
        async with shown(history, "models") as dashboard:
            await press(dashboard, "slash", *"gpt", "enter")
            assert keys(dashboard) == ["openai/gpt-4o-mini"]
            assert dashboard.shows("1 failing model hidden by the filter")
            await press(dashboard, "escape")
            assert len(dashboard.pane.grid.table.rows) == 3

    async def test_enter_shows_the_history_of_one(self, history: History) -> None:
        """Its runs, its figures and since when it fails; esc goes back to the same row."""
        async with shown(history, "models") as dashboard:
            await press(dashboard, "enter")
            lines = text(dashboard)
            assert "✖ 3 failures since its last success 10 min ago, now rate_limit" in lines
            assert "speed  median 254 tok/s, 250 to 258, n = 97" in lines
            assert "Error code: 429 - slow down" in lines
            assert isinstance(dashboard.app.focused, Grid)
            assert dashboard.app.focused is dashboard.pane.grid
            assert len(dashboard.pane.grid.table.rows) == 100

            await press(dashboard, "escape", "down", "enter")
            assert dashboard.shows("openai/gpt-4o-mini · esc goes back")
            await press(dashboard, "escape")
            assert dashboard.pane.grid.chosen == "openai/gpt-4o-mini"

    @pytest.mark.parametrize("detail", [False, True])
    async def test_keys_for_the_engine(self, history: History, detail: bool) -> None:
        """r runs the chosen model now, x disables it with a reason, be its history open or not."""
        async with shown(history, "models", state=commanding()) as dashboard:
            await press(dashboard, *(["enter"] if detail else []), "r", "x", *"too slow", "enter")
            assert dashboard.feed.asked == [RunNow("groq", "llama"), DisableModel("groq", "llama", "too slow")]

    async def test_enabling(self, history: History) -> None:
        """E is for what is disabled; of what is enabled it says so, and asks nothing of the engine."""
        asked: list[EngineRequest] = [EnableModel("openai", "old")]
        async with shown(history, "models", state=commanding()) as dashboard:
            await press(dashboard, "E")
            assert dashboard.feed.asked == []
            assert dashboard.notices()[-1] == "Enable: it is enabled already"
            await press(dashboard, "end", "E")
            assert dashboard.feed.asked == asked

    @pytest.mark.parametrize("detail", [False, True])
    async def test_what_was_changed_is_seen_at_once(self, history: History, tmp_path: Path, detail: bool) -> None:
        """Or a model just disabled is shown as enabled, and E says that it is."""
        store = SQLiteStore(tmp_path / "llmbench.db")
        async with shown(history, "models", state=commanding()) as dashboard:
            await store.open()
            await store.disable_model("groq", "llama", reason="too slow", by="ana", at=NOW)
            await store.close()
            await press(dashboard, *(["enter"] if detail else []), "x", *"too slow", "enter")
            pane = dashboard.pane
            assert isinstance(pane, Models)
            row = row_of(pane.catalogue.standing, "groq/llama")
            assert row is not None
            assert not row.enabled

    @pytest.mark.parametrize("detail", [False, True])
    async def test_the_next_key_is_about_the_same_model(self, history: History, tmp_path: Path, detail: bool) -> None:
        """Though nobody moved the cursor, and the first key's order moved its row away from under it."""
        store = SQLiteStore(tmp_path / "llmbench.db")
        async with shown(history, "models", state=commanding()) as dashboard:
            before = [row.key for row in dashboard.pane.grid.table.rows]
            assert dashboard.pane.grid.chosen == before[0] == "groq/llama"
            await store.open()
            await store.disable_model("groq", "llama", reason="too slow", by="ana", at=NOW)
            await store.close()
            await press(dashboard, *(["enter"] if detail else []), "x", *"too slow", "enter")
            await press(dashboard, *(["escape"] if detail else []))
            assert [row.key for row in dashboard.pane.grid.table.rows] != before

            await press(dashboard, "E")
            assert dashboard.feed.asked[-1] == EnableModel("groq", "llama")

    async def test_an_engine_that_can_only_be_watched(self, history: History) -> None:
        state = msgspec.structs.replace(healthy(), link=msgspec.structs.replace(healthy().link, commands=False))
        async with shown(history, "models", state=state) as dashboard:
            await press(dashboard, "r", "x", "E")
            assert dashboard.feed.asked == []
            assert len(dashboard.notices()) == 3


class TestErrors:
    """Failures by fingerprint, and all of one group."""

    async def test_what_the_store_and_live_events_tell(self, history: History) -> None:
        """A failure that only live events tell of stands beside those of the store."""
        state = msgspec.structs.replace(healthy(), errors={"new": group("new", message="just now")})
        async with shown(history, "errors", state=state) as dashboard:
            assert keys(dashboard) == ["new", "too-often"]
            assert dashboard.shows("3 failures of 1 sort stored since 03-13 12:07")

    async def test_enter_shows_raw_text_and_advice(self, history: History) -> None:
        async with shown(history, "errors") as dashboard:
            await press(dashboard, "enter")
            lines = text(dashboard)
            assert "Error code: 429 - slow down" in lines
            assert "Ask the provider for a higher limit" in lines
            assert "3 times, first 12:04" in lines
            await press(dashboard, "escape")
            assert not dashboard.shows("What to do")
            assert isinstance(dashboard.app.focused, Grid)

    async def test_ctrl_r_asks_again(self, history: History, tmp_path: Path) -> None:
        """What was stored meanwhile is counted at once."""
        async with shown(history, "errors") as dashboard:
            store = SQLiteStore(tmp_path / "llmbench.db")
            await store.open()
            await store.put(envelopes(failure(run_ts=at(-0.5), fingerprint="too-often"), refused(0)))
            await store.close()
            await press(dashboard, "ctrl+r")
            assert dashboard.pane.grid.table.rows[0].cells[2].text == "4"

    async def test_a_long_text_is_all_there(self, history: History) -> None:
        """It is wrapped, and scrolls by keys."""
        long = msgspec.structs.replace(group("long", count=99), message=LONG[:3000] + " THE END")
        state = msgspec.structs.replace(healthy(), errors={"long": long})
        async with shown(history, "errors", state=state, size=(80, 24)) as dashboard:
            await press(dashboard, "enter")
            assert not dashboard.shows("THE END")
            await press(dashboard, "end")
            assert dashboard.shows("THE END")


class TestTrends:
    """Figures over time, by provider and by model, with a plot."""

    async def test_the_chosen_row_is_plotted(self, history: History) -> None:
        async with shown(history, "trends") as dashboard:
            assert dashboard.shows("openai: median time to first token, ms · 24 h · n = 142")
            await press(dashboard, "down")
            assert dashboard.shows("groq: median time to first token, ms · 24 h · n = 122")

    async def test_t_plots_another_figure(self, history: History) -> None:
        headings = []
        async with shown(history, "trends") as dashboard:
            for _ in range(3):
                await press(dashboard, "t")
                headings.append(dashboard.pane.grid.table.columns[1].name)
        assert headings == ["now tok/s", "now %", "now ms"]

    async def test_w_changes_the_window(self, history: History) -> None:
        """The store is asked anew, and the plot is of that window."""
        seen = []
        async with shown(history, "trends") as dashboard:
            for _ in range(4):
                await press(dashboard, "w")
                [heading] = [line for line in dashboard.text() if "median time to first token" in line]
                seen.append(heading.split(" · ")[1])
        assert seen == ["7 d", "30 d", "6 h", "24 h"]

    async def test_a_window_that_takes_long_is_not_waited_for(self, tmp_path: Path) -> None:
        """That it is asked is said; another one, and another screen, are shown while the first has no answer."""
        store = Slow(tmp_path / "llmbench.db")
        await fill(store)
        history = History(store, fresh=FRESH, now=lambda: NOW)
        async with shown(history, "trends") as dashboard:
            await dashboard.press("w", "w")
            assert dashboard.shows("asking the store for trends …")
            await dashboard.press("3")
            assert dashboard.shows("asking the store for catalogue …")
            await dashboard.press("5", "w")
            with anyio.fail_after(20):
                while keys(dashboard) != ["openai", "groq"]:
                    await dashboard.pilot.pause(0.01)
            assert dashboard.shows("openai: median time to first token, ms · 6 h")
        await history.close()
        await store.close()

    async def test_enter_shows_the_models_of_one(self, history: History) -> None:
        """esc goes back to providers."""
        async with shown(history, "trends") as dashboard:
            await press(dashboard, "down", "enter")
            assert keys(dashboard) == ["groq/llama"]
            assert dashboard.shows("TTFT of each model of groq")
            await press(dashboard, "escape")
            assert keys(dashboard) == ["openai", "groq"]


class TestStorage:
    """The spool and its quarantine."""

    async def test_r_sends_again_after_a_question(self, tmp_path: Path) -> None:
        """No, or esc, leaves it; yes lets it be due, and the table is asked for again."""
        async with opened_spool(tmp_path / "spool") as spool:
            await quarantine(spool)
            async with shown(spool_asked(spool), "storage") as dashboard:
                assert dashboard.shows("the field 'misc' is too large")
                for answer in ("n", "escape"):
                    await press(dashboard, "r", answer)
                    assert (await spool.counts()).waiting == 0

                await press(dashboard, "r")
                assert dashboard.shows("Send it to the store again? openai/gpt-4o-mini, rejected")
                await press(dashboard, "y")
                assert ((await spool.counts()).waiting, dashboard.pane.grid.table.rows) == (1, ())

    async def test_nothing_is_chosen(self, tmp_path: Path) -> None:
        async with opened_spool(tmp_path / "spool") as spool, shown(spool_asked(spool), "storage") as dashboard:
            assert dashboard.shows("the quarantine is empty")
            await press(dashboard, "r")
            assert dashboard.notices()[-1] == "Retry: no outcome is chosen"

    async def test_enter_shows_all_of_one(self, tmp_path: Path) -> None:
        """What the store said, however long, and what to do."""
        async with opened_spool(tmp_path / "spool") as spool:
            await quarantine(spool, error="the field 'misc' is too large " * 9)
            async with shown(spool_asked(spool), "storage") as dashboard:
                await press(dashboard, "enter")
                assert dashboard.shows("Mend what the store refused, then retry: it is sent again.")
                assert "".join(dashboard.text()).count("'misc'") == 9

                await press(dashboard, "escape")
                assert not dashboard.shows("What to do")

    async def test_how_the_store_is(self) -> None:
        """The engine's word is shown without any store at hand."""
        async with shown(None, "storage") as dashboard:
            lines = text(dashboard)
        assert "● takes outcomes since 11:27" in lines
        assert "3.24 MiB of 1.00 GiB" in lines
        assert "by llmbench tui there, or by llmbench spool list" in lines


@pytest.mark.parametrize("pane", ["models", "errors", "trends"])
async def test_without_a_store(pane: str) -> None:
    """The reason stands where rows would be; live failures are shown all the same."""
    history = History(None, reason_without="the engine is on another machine", fresh=FRESH)
    async with shown(history, pane) as dashboard:
        assert dashboard.shows("the engine is on another machine")


@pytest.mark.parametrize("pane", ["models", "errors", "trends"])
async def test_trouble_leaves_the_old_answer(pane: str, history: History, tmp_path: Path) -> None:
    """What is shown is told to be old, with the store's own sentence."""
    async with shown(history, pane) as dashboard:
        rows = dashboard.pane.grid.table.rows
        (tmp_path / "llmbench.db").rename(tmp_path / "moved.db")
        await press(dashboard, "ctrl+r")
        assert keys(dashboard) == [row.key for row in rows]
        assert dashboard.shows("▲ shown is what it told 0 s ago: SQLite file")


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
    async with shown(history, pane, size=size) as dashboard:
        await press(dashboard, "enter")
        lines = text(dashboard)
    assert all(line.isprintable() for line in lines.split("\n"))
    await history.close()

"""What is usual reaches the dashboard's state, however long the store takes to tell it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from llmbench.stores.sqlite import SQLiteStore
from llmbench.tui.history import USUAL_DAYS, History, HistoryError
from llmbench.tui.items import UsualLoaded
from llmbench.tui.learning import PAUSE, Learning, pause_after
from llmbench.tui.state import Usual
from tests.stores.documents import envelopes, sample
from tests.tui.dashboards import driven
from tests.tui.states import NOW, at, empty, engine_figures
from tests.tui.stores import press, shown

USUAL = {("groq", "llama"): Usual(n=36, time_to_first_token=0.06, tokens_per_second=250.0)}


class SlowHistory(History):
    """Answers when a test lets it."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked = anyio.Event()
        self.may_answer = anyio.Event()

    async def usual(self, days: int = USUAL_DAYS) -> Mapping[tuple[str, str], Usual]:
        self.asked.set()
        await self.may_answer.wait()
        return USUAL


async def test_an_answer_that_takes_several_frames_is_not_lost() -> None:
    history = SlowHistory()
    async with driven(history=history) as dashboard:
        await history.asked.wait()
        await dashboard.pilot.pause(0.3)  # several frames
        history.may_answer.set()
        with anyio.fail_after(10):
            while dashboard.app.state.usual != USUAL:
                await dashboard.pilot.pause(0.01)


class Told:
    """What a `Learning` took and told, and a way to wait for it."""

    def __init__(self) -> None:
        self.usual: list[Mapping[tuple[str, str], Usual]] = []
        self.sentences: list[str] = []
        self._taken = anyio.Event()

    def take(self, item: UsualLoaded) -> None:
        self.usual.append(item.usual)
        self._taken.set()
        self._taken = anyio.Event()

    async def until(self, enough: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not enough():
                await self._taken.wait()


@asynccontextmanager
async def learning(history: History, pause: float = PAUSE) -> AsyncIterator[Told]:
    told = Told()
    async with anyio.create_task_group() as group:
        group.start_soon(Learning(history, told.take, told.sentences.append, pause).run)
        yield told
        group.cancel_scope.cancel()


class Answering(History):
    """Gives one answer after the other; an exception is raised."""

    def __init__(self, *answers: Mapping[tuple[str, str], Usual] | HistoryError) -> None:
        super().__init__(None)
        self._answers = list(answers)

    async def usual(self, days: int = USUAL_DAYS) -> Mapping[tuple[str, str], Usual]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, HistoryError):
            raise answer
        return answer


async def test_trouble_is_told_once_and_an_answer_comes_after_it() -> None:
    locked = HistoryError("it is locked")
    async with learning(Answering(locked, locked, USUAL), pause=0.01) as told:
        await told.until(lambda: USUAL in told.usual)
    assert told.sentences == ["what is usual is not known: it is locked"]


def test_after_trouble_it_is_asked_again_soon_and_then_less_and_less_often() -> None:
    pauses = [pause_after(failures) for failures in range(9)]
    assert pauses[0] == pauses[8] == pause_after(10_000) == PAUSE
    assert pauses[1:4] == [5.0, 10.0, 20.0]
    assert pauses[1:] == sorted(pauses[1:])


OURS, THEIRS = "our store", "their store"


def refuses(place: str | None) -> str | None:
    return None if place == OURS else f"it stores in {place}"


async def full(folder: Path) -> SQLiteStore:
    """Return a store with two hours of runs."""
    store = SQLiteStore(folder / "llmbench.db")
    await store.open()
    await store.put(envelopes(*(sample(run_ts=at(-n)) for n in range(120))))
    return store


async def test_another_engine_has_another_past(tmp_path: Path) -> None:
    """It is asked once the engine tells that it is the one of this store, and is taken back when it is another one's.

    Nothing is said while the engine has told nothing.
    """
    history = History(await full(tmp_path), refuses=refuses, now=lambda: NOW)
    async with learning(history) as told:
        await told.until(lambda: told.usual == [{}])
        assert told.sentences == []
        history.told(OURS)
        await told.until(lambda: len(told.usual) == 2)
        assert [one.n for one in told.usual[1].values()] == [59]
        history.told(THEIRS)
        await told.until(lambda: len(told.usual) == 3)
    assert told.usual[2] == {}
    assert told.sentences == ["what is usual is not known: it stores in their store"]
    await history.close()


async def test_what_screens_show_of_it_goes(tmp_path: Path) -> None:
    """As soon as another engine answers, of which the store here knows nothing, the reason stands in its place."""
    history = History(await full(tmp_path), refuses=lambda place: place, now=lambda: NOW)
    async with shown(history, "trends", state=empty()) as dashboard:
        assert dashboard.shows("openai")
        await dashboard.told(engine_figures(store="it stores elsewhere"))
        await press(dashboard)
        assert dashboard.pane.grid.table.rows == ()
        assert dashboard.shows("it stores elsewhere")
    await history.close()


class Stuck(SQLiteStore):
    """A store that neither answers nor lets itself be closed."""

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()


async def test_a_store_that_can_not_be_closed(tmp_path: Path) -> None:
    """It is left as it is, and whoever ends the process knows."""
    history = History(Stuck(tmp_path / "llmbench.db"))
    with pytest.raises(HistoryError):
        await history.usual()
    assert not history.hangs
    with anyio.fail_after(5):
        await history.close(0.01)
    assert history.hangs

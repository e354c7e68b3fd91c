"""A dashboard over a real store with a day of runs, or over a real spool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from llmbench.actors.spool_requests import Answer, Request, answered
from llmbench.messages import Failure, Outcome
from llmbench.stores.base import Store
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from llmbench.tui.bindings import PANES
from llmbench.tui.history import History
from llmbench.tui.screens.base import Pane
from llmbench.tui.state import State
from tests.stores.documents import envelope, envelopes, failure, model, sample
from tests.stores.spooling import record
from tests.tui.answers import DAY, FRESH
from tests.tui.dashboards import Driven, Size, driven
from tests.tui.states import NOW, at


def runs() -> Iterator[Outcome]:
    """Yield a day's runs: openai without fault, groq with a gap and an error that goes on."""
    for n in range(24 * 6):
        yield sample(
            id=f"{n:024x}", run_ts=NOW - DAY.span + n * timedelta(minutes=10), time_to_first_token=0.3 + n / 500
        )
        if not 60 <= n < 80:
            yield sample(
                id=f"{n + 1000:024x}",
                run_ts=NOW - DAY.span + n * timedelta(minutes=10),
                provider="groq",
                model_name="llama",
                time_to_first_token=0.1,
                tokens_per_second=250.0 + n % 9,
            )
    for n in range(3):
        yield refused(n)


def refused(n: int) -> Failure:
    return failure(
        id=f"{n + 9000:024x}",
        run_ts=at(-3 + n),
        model_name="llama",
        fingerprint="too-often",
        message="Error code: 429 - slow down",
        advice="Ask the provider for a higher limit",
    )


async def fill(store: Store) -> None:
    """Fill a store with three models and their day."""
    await store.open()
    gone = model("old", enabled=False, disabled_reason="it is gone", disabled_by="ana", disabled_at=at(-90))
    for one in (model(), model("llama", provider="groq"), gone):
        await store.put_model(one)
    await store.put(envelopes(*runs()))


async def quarantine(spool: Spool, n: int = 1, error: str = "the field 'misc' is too large") -> str:
    """Put an outcome into quarantine and return its id."""
    outcome = sample(id=f"{n:024x}")
    await record(spool, envelope(outcome))
    await spool.quarantine(outcome.id, "rejected", error)
    return outcome.id


def spool_asked(spool: Spool) -> History:
    async def ask(request: Request) -> Answer:
        return await answered(spool, request)

    return History(None, reason_without="there is no store here", spool_ask=ask, fresh=FRESH, now=lambda: NOW)


@asynccontextmanager
async def past(folder: Path) -> AsyncIterator[History]:
    """Yield the history of a store with a day of runs."""
    store = SQLiteStore(folder / "llmbench.db")
    await fill(store)
    history = History(store, fresh=FRESH, now=lambda: NOW)
    yield history
    await history.close()
    await store.close()


@asynccontextmanager
async def shown(
    history: History | None, pane: str, *, state: State | None = None, size: Size = (120, 36)
) -> AsyncIterator[Driven]:
    """Run a dashboard that shows a screen, with the answers of its store."""
    async with driven(state, size=size, history=history) as dashboard:
        await press(dashboard, str(PANES.index(pane) + 1))
        yield dashboard


async def press(dashboard: Driven, *keys: str) -> None:
    """Press keys, and wait until what they did is answered by the store, and shown."""
    await dashboard.press(*keys)
    screen = dashboard.app.screen
    if isinstance(screen, Pane):
        screen.frame(NOW)
        questions = [worker for worker in dashboard.app.workers if worker.node is screen]
        if questions:  # none would mean all of them, of which some never end
            await dashboard.app.workers.wait_for_complete(questions)
    await dashboard.settled()

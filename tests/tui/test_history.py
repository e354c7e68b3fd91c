"""What the viewer asks: of a real SQLite file, of a real MongoDB, and of a spool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from pymongo import MongoClient

from llmbench.actors.spool_requests import Answer, Request, answered
from llmbench.ids import new_outcome_id
from llmbench.messages import Envelope
from llmbench.secrets import Secret
from llmbench.stores.base import Store, StoreError
from llmbench.stores.http_client import HttpSettings
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from llmbench.tui.history import USUAL_ENDS, History, HistoryError
from tests.stores.documents import envelope, envelopes, failure, model, moment, sample
from tests.stores.mongod import Mongod
from tests.stores.spooling import opened_spool, record

NOW = moment(60)


@asynccontextmanager
async def _mongo(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    mongod: Mongod = request.getfixturevalue("mongod")
    name = f"llm-bench-{new_outcome_id()}"
    yield MongoStore(Address(uri=Secret(mongod.uri), database=name))
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(name)


@pytest.fixture(params=["sqlite", "mongo"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store that is not open: who looks at history opens it."""
    if request.param == "sqlite":
        yield SQLiteStore(tmp_path / "llmbench.db")
    else:
        async with _mongo(request) as store:
            yield store


@pytest.fixture
async def history(store: Store) -> AsyncIterator[History]:
    history = History(store, now=lambda: NOW)
    yield history
    await history.close()


async def fill(store: Store, *items: Envelope) -> None:
    await store.open()
    await store.put(items)


async def test_what_is_usual(store: Store, history: History) -> None:
    """It is the median of each model's successes in seven days; who has none is not in it.

    These end an hour ago: what has become slow since then does not become usual at once.
    """
    runs = [sample(run_ts=moment(-n), time_to_first_token=0.1 * n, tokens_per_second=10.0 * n) for n in (1, 2, 3)]
    before = sample(run_ts=NOW - USUAL_ENDS - timedelta(days=7, seconds=1), time_to_first_token=9.0)
    slow = [sample(run_ts=moment(n), time_to_first_token=5.0, tokens_per_second=1.0) for n in range(1, 60)]
    await fill(store, *envelopes(*runs, before, *slow, sample(run_ts=moment(5), model_name="new"), failure()))

    usual = await history.usual()

    [(name, one)] = usual.items()
    assert name == ("openai", "gpt-4o-mini")
    assert (one.n, one.tokens_per_second) == (3, 20.0)
    assert one.time_to_first_token == pytest.approx(0.2)


async def test_the_catalogue_with_its_past(store: Store, history: History) -> None:
    """Each model has its last success, its failures since and its figures; one that never ran has none."""
    ran, never = model(), model("never", provider="groq")
    await store.open()
    await store.seed_models([ran, never])
    await store.disable_model("groq", "never", reason="gone", by="ana", at=moment(3))
    named: dict[str, Any] = {"provider": "openai", "model_name": "GPT-4o-mini"}
    await store.put(
        envelopes(
            sample(run_ts=moment(1), time_to_first_token=0.5, tokens_per_second=40.0, **named),
            *(failure(run_ts=moment(n), error_kind="timeout", **named) for n in (2, 3)),
        )
    )

    groq, openai = (await history.models()).rows

    assert (openai.enabled, openai.last_success, openai.failures_in_a_row) == (True, moment(1), 2)
    assert (openai.last_failure, openai.last_failure_kind, openai.n) == (moment(3), "timeout", 3)
    assert openai.success_rate == pytest.approx(1 / 3)
    assert (openai.time_to_first_token, openai.tokens_per_second) == (0.5, 40.0)
    assert (groq.enabled, groq.disabled_reason, groq.disabled_by) == (False, "gone", "ana")
    assert (groq.disabled_at, groq.n, groq.success_rate, groq.last_success) == (moment(3), 0, None, None)


async def test_the_runs_of_one_model(store: Store, history: History) -> None:
    """They come newest first, no more than are asked for, and it is told if there are more."""
    good = [sample(run_ts=moment(n)) for n in range(4)]
    bad = failure(run_ts=moment(9), provider="openai", model_name="gpt-4o-mini", error_kind="timeout")
    await fill(store, *envelopes(*good, bad, sample(run_ts=moment(10), model_name="other")))

    few, all_of_them = await history.runs_of("openai", "gpt-4o-mini", 2), await history.runs_of("OpenAI", "gpt-4o-mini")

    assert [(run.at, run.ok) for run in few.runs] == [(moment(9), False), (moment(3), True)]
    assert (few.runs[0].error_kind, few.runs[0].message) == ("timeout", bad.message)
    assert few.runs[1].time_to_first_token == good[3].time_to_first_token
    assert few.runs[1].gap_max == good[3].inter_token_max
    assert (few.more, all_of_them.more, len(all_of_them.runs)) == (True, False, 5)


async def test_errors_by_fingerprint(store: Store, history: History) -> None:
    """The most frequent come first, with advice; first seen looks beyond the window, the count does not."""
    often = [failure(run_ts=moment(n), fingerprint="a", message=f"run {n}", advice="wait") for n in (-99, 1, 2)]
    rare = failure(run_ts=moment(3), fingerprint="b")
    await fill(store, *envelopes(*often, rare))

    found = await history.errors(moment(0))
    [most] = (await history.errors(moment(0), most=1)).kept.values()

    assert list(found.kept) == ["a", "b"]
    group = found.kept["a"]
    assert (group.count, group.last_seen, group.message, group.advice) == (2, moment(2), "run 2", "wait")
    assert group.first_seen == often[0].ts
    assert (found.groups, found.failures, most.fingerprint) == (2, 3, "a")


async def test_trends(store: Store, history: History) -> None:
    """Parts begin at multiples of their width, however late it is."""
    await fill(store, *envelopes(sample(run_ts=moment(21)), failure(run_ts=moment(59), provider="openai")))
    hour, tenth = timedelta(hours=1), timedelta(minutes=6)

    found = await history.trends(hour, tenth)
    later = await History(store, now=lambda: NOW + timedelta(seconds=70)).trends(hour, tenth, "openai")

    assert (found.since, found.width, found.provider) == (moment(0), tenth, None)
    assert [(point.at, point.successes, point.failures) for point in found.trends[0].points] == [
        (moment(18), 1, 0),
        (moment(54), 0, 1),
    ]
    assert (later.since, later.provider) == (moment(6), "openai")
    assert {trend.model_name for trend in later.trends} == {"gpt-4o-mini", "llama-3.3-70b-versatile"}
    assert {point.at for trend in later.trends for point in trend.points} == {moment(18), moment(54)}


QUESTIONS: dict[str, Callable[[History], Awaitable[object]]] = {
    "usual": lambda history: history.usual(),
    "models": lambda history: history.models(),
    "runs_of": lambda history: history.runs_of("groq", "a"),
    "errors": lambda history: history.errors(moment()),
    "trends": lambda history: history.trends(timedelta(hours=1), timedelta(minutes=1)),
}


class TestTrouble:
    """Whatever is wrong is a sentence."""

    @pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
    async def test_no_store(self, ask: Any) -> None:
        """The reason is the one that was given."""
        with pytest.raises(HistoryError, match="the engine is on another machine"):
            await ask(History(None, reason_without="the engine is on another machine"))

    @pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
    async def test_a_file_of_another_program(self, ask: Any, tmp_path: Path) -> None:
        """The store's own sentence is told, and when the cause is gone the next question is answered."""
        path = tmp_path / "llmbench.db"
        path.write_bytes(b"this is no database, and long enough to tell" * 100)
        history = History(SQLiteStore(path), now=lambda: NOW)
        with pytest.raises(HistoryError, match=r"is no SQLite database"):
            await ask(history)

        path.unlink()
        await ask(history)
        await history.close()

    async def test_a_bridge(self) -> None:
        """A store over HTTP has no answers: the sentence says where there are some."""
        from llmbench.stores.http import HTTPStore

        settings = HttpSettings(url="http://127.0.0.1:9", key=Secret("k" * 20))
        history = History(HTTPStore(settings))
        with pytest.raises(HistoryError, match="can't be asked about how models did: ask where the store"):
            await history.usual()
        await history.close()


class Slow(SQLiteStore):
    """A store that tells how many questions it has at a time."""

    now = most = 0

    async def rollups(self, *, since: datetime | None = None) -> list[Any]:
        self.now += 1
        self.most = max(self.most, self.now)
        await anyio.lowlevel.checkpoint()
        self.now -= 1
        return []


async def test_one_question_at_a_time(tmp_path: Path) -> None:
    """Screens may ask when they like; the store has one question at a time."""
    store = Slow(tmp_path / "llmbench.db")
    history = History(store)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(history.errors, moment())
    await history.close()

    assert store.most == 1


async def test_a_store_is_closed_if_it_was_opened(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "llmbench.db")
    history = History(store)
    await history.close()
    await history.models()
    await history.close()

    with pytest.raises(StoreError, match="is not open"):
        await store.models()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    async with opened_spool(tmp_path / "spool") as spool:
        yield spool


def asking(spool: Spool) -> History:
    async def ask(request: Request) -> Answer:
        return await answered(spool, request)

    return History(None, spool_ask=ask)


async def _refused(spool: Spool) -> str:
    """Put an outcome into quarantine and return its id."""
    outcome = sample()
    await record(spool, envelope(outcome))
    await spool.quarantine(outcome.id, "rejected", "the field 'x' is too long")
    return outcome.id


async def test_the_spool_and_its_quarantine(spool: Spool) -> None:
    """What the store refused is told with its words, and can be sent once more."""
    refused = await _refused(spool)
    history = asking(spool)

    before = await history.storage()
    released = await history.retry(refused)
    after = await history.storage()

    [row] = before.quarantine
    assert (row.id, row.model, row.reason) == (refused, "openai/gpt-4o-mini", "rejected")
    assert row.error == "the field 'x' is too long"
    assert (before.counts.quarantined, before.delivery, before.damages) == ({"rejected": 1}, None, ())
    assert (released, after.quarantine, after.counts.waiting) == (1, (), 1)
    assert await history.retry(refused) == 0


async def test_no_way_to_the_spool() -> None:
    """The sentence says where the quarantine can be looked at."""
    with pytest.raises(HistoryError, match="by llmbench tui there, or by llmbench spool list"):
        await History(None).storage()

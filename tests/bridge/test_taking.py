"""What becomes of a body that was let in: a status, an answer, and what is counted and logged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from llmbench.bridge.taking import Order, StoreTaker, Taken, What
from llmbench.ingestion import batch_of, wire_form
from llmbench.messages import Envelope
from llmbench.secrets import Redactor
from llmbench.stores.apart import on_the_loop
from llmbench.stores.base import StoreError
from tests.bridge.sent import NOW
from tests.bridge.serving import RUNNER, GatedStore
from tests.stores.documents import envelope, failure, sample

SECRET = "a-secret-of-the-bridge"


def order(what: What, body: bytes, runner: str | None = RUNNER) -> Order:
    return Order(what=what, runner=runner, now=NOW, body=body)


@asynccontextmanager
async def taking(store: GatedStore, **more: Any) -> AsyncIterator[StoreTaker]:
    settings: dict[str, Any] = {"answer_seconds": 20.0, "redactor": Redactor([SECRET]), "apart": on_the_loop} | more
    taker = StoreTaker(store, **settings)
    async with anyio.create_task_group() as group:
        await group.start(taker.run)
        yield taker
        group.cancel_scope.cancel()


@pytest.fixture
async def taker(store: GatedStore) -> AsyncIterator[StoreTaker]:
    async with taking(store) as taker:
        yield taker


def told(taken: Taken) -> Any:
    return msgspec.json.decode(taken.body)


async def test_one_run(taker: StoreTaker) -> None:
    """Stored, known, in conflict: each is a status of HTTP, and counted."""
    run = sample()
    body, other = wire_form(envelope(run)), wire_form(envelope(sample(id=run.id, generate_time=9.0)))
    found = [await taker.take(order("run", one)) for one in (body, body, other)]
    assert [(taken.status, told(taken)["status"], taken.items) for taken in found] == [
        (200, "stored", {"stored": 1}),
        (200, "duplicate", {"duplicate": 1}),
        (409, "conflict", {"conflict": 1}),
    ]
    assert {taken.fault for taken in found} == {None}


async def test_one_failure(taker: StoreTaker) -> None:
    """On its own route, and only there."""
    body = wire_form(envelope(failed := failure()))
    assert (await taker.take(order("run", body))).status == 422
    taken = await taker.take(order("error", body))
    assert (taken.status, told(taken)) == (200, {"id": failed.id, "status": "stored"})


@pytest.mark.parametrize("what", ["run", "error"])
async def test_one_that_is_refused(taker: StoreTaker, what: What) -> None:
    """It is counted as such; what is no JSON at all is a bad request."""
    for body, status in ((b"{", 400), (b"{}", 422)):
        taken = await taker.take(order(what, body))
        assert (taken.status, told(taken)["status"], taken.items) == (status, "rejected", {"rejected": 1})


async def test_a_batch(taker: StoreTaker) -> None:
    """A verdict for each, in their order, whatever they are, and each counted."""
    run, failed, foreign = sample(), failure(), sample(runner_id="somebody-else")
    sent = [wire_form(envelope(one)) for one in (run, foreign, failed, run)]
    taken = await taker.take(order("batch", batch_of([*sent, b'"text"'])))
    assert [one["status"] for one in told(taken)["results"]] == [
        "stored",
        "rejected",
        "stored",
        "duplicate",
        "rejected",
    ]
    assert [one["id"] for one in told(taken)["results"]] == [run.id, foreign.id, failed.id, run.id, None]
    assert (taken.status, told(taken)["runner"]) == (200, RUNNER)
    assert taken.items == {"stored": 2, "rejected": 2, "duplicate": 1}


async def test_a_batch_of_somebody_else(taker: StoreTaker) -> None:
    """The key is the wrong one, and no document is."""
    taken = await taker.take(order("batch", batch_of([wire_form(envelope(sample()))]), runner="runner-2"))
    assert (taken.status, taken.items) == (403, {})
    assert "this key is another runner's" in told(taken)["reason"]


async def test_an_empty_batch(taker: StoreTaker) -> None:
    """It tries address and key, and costs the store nothing."""
    taken = await taker.take(order("batch", b"[]"))
    assert (taken.status, told(taken)) == (200, {"results": [], "runner": RUNNER})


async def test_a_listing(taker: StoreTaker) -> None:
    """What could be noted is counted."""
    listing = {"provider": "openai", "started_at": "2026-03-14T12:00:00Z", "models": [{"model_id": "a"}]}
    taken = await taker.take(order("catalog", msgspec.json.encode(listing)))
    assert (taken.status, told(taken)) == (200, {"accepted": 1, "refused": []})


async def test_a_secret_is_not_repeated(taker: StoreTaker) -> None:
    """What is refused for a secret, or for something else, is not answered with it."""
    for changes in ({"endpoint": SECRET}, {"temperature": SECRET}, {SECRET: 1}):
        document = msgspec.to_builtins(sample()) | changes
        taken = await taker.take(order("run", msgspec.json.encode(document)))
        assert taken.status == 422
        assert SECRET not in taken.body.decode()


async def test_a_store_that_takes_nothing(taker: StoreTaker, store: GatedStore) -> None:
    """Its sentence is for the log, and for the sender is when to come again."""
    store.fault = StoreError("the disk is full", retry_after=7.0)
    taken = await taker.take(order("run", wire_form(envelope(sample()))))
    assert (taken.status, taken.retry_after, taken.items) == (503, 7.0, {})
    assert taken.fault == "the store takes nothing: the disk is full"
    assert "disk" not in told(taken)["reason"]


async def test_a_store_that_is_not_open(tmp_path: Any) -> None:
    """Until it is, whatever comes is put off."""
    async with taking(GatedStore(tmp_path / "a.db")) as taker:
        taken = await taker.take(order("run", wire_form(envelope(sample()))))
        assert (taken.status, taken.retry_after) == (503, 5.0)


async def test_a_store_that_takes_too_long(store: GatedStore) -> None:
    """Its sender is told to send it again; what was begun goes on."""
    store.close_gate()
    async with taking(store, answer_seconds=0.05) as taker:
        body = wire_form(envelope(sample()))
        assert (await taker.take(order("run", body))).status == 503
        store.gate.set()
    async with taking(store) as taker:
        assert told(await taker.take(order("run", body)))["status"] in ("stored", "duplicate")


async def test_what_is_given_up_keeps_no_place(taker: StoreTaker, store: GatedStore) -> None:
    """Who leaves while others are being stored takes nothing away from them."""
    store.close_gate()
    taken: list[Taken] = []
    runs = [sample() for _ in range(3)]

    async def take(envelope: Envelope) -> None:
        taken.append(await taker.take(order("run", wire_form(envelope))))

    async with anyio.create_task_group() as staying:
        for run in runs[:2]:  # as many as write
            staying.start_soon(take, envelope(run))
            await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(take, envelope(runs[2]))
            await anyio.wait_all_tasks_blocked()
            leaving.cancel_scope.cancel()
        store.gate.set()
    assert [one.status for one in taken] == [200, 200]
    assert sum(store.batches) == 2

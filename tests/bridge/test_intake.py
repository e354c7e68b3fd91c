"""The intake: many requests become few writes, and none disturbs another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from llmbench.bridge.intake import Intake, IntakeFull
from llmbench.messages import Envelope
from llmbench.stores.base import OutcomeQuery, StoreError, Verdict
from tests.bridge.serving import GatedStore
from tests.stores.documents import envelope, envelopes, sample


@asynccontextmanager
async def _running(intake: Intake) -> AsyncIterator[Intake]:
    async with anyio.create_task_group() as group:
        group.start_soon(intake.run)
        yield intake
        group.cancel_scope.cancel()


async def _queued(intake: Intake, count: int) -> None:
    """Wait until so many items wait to be written."""
    while intake.waiting < count:
        await checkpoint()


async def test_requests_are_stored_together(store: GatedStore) -> None:
    """What arrives while one write runs goes together into the next, and each request gets its own verdicts."""
    store.close_gate()
    requests = [envelopes(*(sample() for _ in range(size))) for size in (1, 2, 3, 4)]
    answers: dict[int, Sequence[Verdict]] = {}

    async def send(number: int) -> None:
        answers[number] = await intake.put(requests[number])

    async with _running(Intake(store)) as intake, anyio.create_task_group() as group:
        group.start_soon(send, 0)
        await store.arrived.wait()
        for number in (1, 2, 3):
            group.start_soon(send, number)
        await _queued(intake, 9)
        store.gate.set()
    assert store.batches == [1, 9]
    for number, request in enumerate(requests):
        assert answers[number] == [Verdict(item.outcome.id, "stored") for item in request]


async def test_one_write_has_a_limit(store: GatedStore) -> None:
    """A write takes no more than its limit, unless a single request has more."""
    store.close_gate()
    async with _running(Intake(store, at_once=5)) as intake, anyio.create_task_group() as group:
        group.start_soon(intake.put, envelopes(sample()))
        await store.arrived.wait()
        for size in (3, 2, 1, 7):
            group.start_soon(intake.put, envelopes(*(sample() for _ in range(size))))
            await _queued(intake, intake.waiting + size)
        store.gate.set()
    assert store.batches == [1, 5, 1, 7]


async def test_full_queue_takes_no_more(store: GatedStore) -> None:
    """Beyond what may wait a request is turned away at once; those that wait are stored."""
    store.close_gate()
    async with _running(Intake(store, waiting=2)) as intake, anyio.create_task_group() as group:
        group.start_soon(intake.put, envelopes(sample()))
        await store.arrived.wait()
        group.start_soon(intake.put, envelopes(sample(), sample()))
        await _queued(intake, 2)
        with pytest.raises(IntakeFull):
            await intake.put(envelopes(sample()))
        store.gate.set()
    assert len(await store.outcomes(OutcomeQuery())) == 3


async def test_request_that_is_given_up_disturbs_none(store: GatedStore) -> None:
    """A request cancelled while it is written, or while it waits, changes nothing for the others."""
    store.close_gate()
    writing, waiting, kept = (envelopes(sample()) for _ in range(3))
    answers: list[Sequence[Verdict]] = []

    async def send(items: Sequence[Envelope], scope: anyio.CancelScope) -> None:
        with scope:
            answers.append(await intake.put(items))

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with _running(Intake(store)) as intake, anyio.create_task_group() as group:
        group.start_soon(send, writing, scopes[0])
        await store.arrived.wait()
        for items, scope in ((waiting, scopes[1]), (kept, scopes[2])):
            group.start_soon(send, items, scope)
        await _queued(intake, 2)
        scopes[0].cancel()
        scopes[1].cancel()
        while intake.waiting > 1:
            await checkpoint()
        store.gate.set()
    assert answers == [[Verdict(kept[0].outcome.id, "stored")]]
    assert {run.id for run in await store.outcomes(OutcomeQuery())} == {writing[0].outcome.id, kept[0].outcome.id}


async def test_store_that_fails_is_tried_again_by_the_next(store: GatedStore) -> None:
    """An error of the store reaches the requests of that write, and the next write has its own chance."""
    store.fault = StoreError("away", retry_after=3.0)
    async with _running(Intake(store)) as intake:
        with pytest.raises(StoreError, match="away"):
            await intake.put(envelopes(sample()))
        store.fault = None
        run = envelope(sample())
        assert await intake.put([run]) == [Verdict(run.outcome.id, "stored")]


async def test_end_answers_who_waits(store: GatedStore) -> None:
    """When the intake ends, whoever waits gets an error and is not left waiting."""
    store.close_gate()
    intake, errors = Intake(store), []

    async def send() -> None:
        try:
            await intake.put(envelopes(sample()))
        except StoreError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as group, _running(intake):
        group.start_soon(send)
        await store.arrived.wait()
        group.start_soon(send)
        await _queued(intake, 1)
    assert len(errors) == 2

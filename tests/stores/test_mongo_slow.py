"""The MongoDB store on a slow link, with more to store than gets through within the limit of a put."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from llmbench.messages import Envelope
from llmbench.secrets import Secret
from llmbench.stores.base import OutcomeQuery, StoreError
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address, Limits
from llmbench.stores.mongo_counts import PAGE
from llmbench.stores.mongo_documents import builtins_of, form
from llmbench.stores.mongo_slices import slices
from llmbench.stores.pace import SLICE_BYTES, Pace
from tests.stores.documents import envelope, envelopes, failure, moment, sample
from tests.stores.mongod import Mongod
from tests.stores.slow_link import SlowLink, slow_link

LARGE = "x" * 100_000
RATE = 1_000_000.0
LIMITS = Limits(put=1.2)
"""A slice takes a quarter of this limit on such a link, `backlog` more than all of it."""


def backlog() -> list[Envelope]:
    return [envelope(make(run_ts=moment(n), runner_id=LARGE)) for n in range(10) for make in (sample, failure)]


def through(link: SlowLink, address: Address) -> MongoStore:
    uri = Secret(f"mongodb://127.0.0.1:{link.port}/?directConnection=true")
    return MongoStore(msgspec.structs.replace(address, uri=uri), LIMITS)


async def test_a_backlog_drains(mongod: Mongod, emptied_address: Address) -> None:
    """A batch that takes longer than the limit is stored, and each outcome has its verdict."""
    batch = backlog()
    async with slow_link(mongod.port, RATE) as link:
        store = through(link, emptied_address)
        await store.open()
        verdicts = await store.put([*batch, batch[0]])
        await store.close()

    assert link.up > RATE * LIMITS.put
    assert [verdict.id for verdict in verdicts] == [one.outcome.id for one in [*batch, batch[0]]]
    assert [verdict.status for verdict in verdicts] == ["stored"] * len(batch) + ["duplicate"]


async def test_what_has_landed_is_not_sent_again(mongod: Mongod, emptied_address: Address) -> None:
    """The link breaks halfway: the put fails, and its repeat sends what is missing. All of it is there once."""
    batch = backlog()
    size = len(LARGE) * len(batch)
    async with slow_link(mongod.port, RATE) as link:
        store = through(link, emptied_address)
        await store.open()
        link.breaks_at = link.up + size / 2
        with pytest.raises(StoreError):
            await store.put(batch)
        link.breaks_at, before = float("inf"), link.up
        verdicts = await store.put(batch)
        again, between = await store.put(batch[:1]), link.up
        await store.close()

    assert all(verdict.acknowledged for verdict in verdicts)
    assert between - before < size / 2 + 2 * SLICE_BYTES
    assert [verdict.status for verdict in again] == ["duplicate"]
    local = MongoStore(emptied_address)
    await local.open()
    assert len(await local.outcomes(OutcomeQuery())) == len(batch)
    assert [rollup.count for rollup in await local.rollups()] == [len(batch) / 2]
    await local.close()


def test_slices() -> None:
    """They hold everything in its order, none more than its size unless one outcome alone is larger."""
    whole = [form(envelope(sample(runner_id="x" * size))) for size in (10, SLICE_BYTES * 2, 10, 100_000, 100_000)]

    parts = list(slices(whole, Pace(1.0)))

    assert parts == [whole[:1], whole[1:2], whole[2:]]
    assert list(slices([], Pace(1.0))) == []


def test_slices_follow_the_link() -> None:
    """They grow while they are quick and full, up to 4 MiB, and shrink once one is slow or fails, down to 64 KiB."""
    pace = Pace(8.0)
    pace.took(0.9, SLICE_BYTES // 2)
    assert pace.size == SLICE_BYTES
    for _ in range(10):
        pace.took(0.9, pace.size)
    assert pace.size == 4 * 1024 * 1024
    pace.took(2.0, pace.size)
    assert pace.size == 4 * 1024 * 1024
    pace.took(5.0, pace.size)
    assert pace.size == 2 * 1024 * 1024
    for _ in range(10):
        pace.failed()
    assert pace.size == 64 * 1024


def test_the_size_is_that_of_the_moment() -> None:
    """What is learnt from one slice holds for the next."""
    whole = [form(envelope(sample(runner_id="x" * 100_000))) for _ in range(8)]
    pace, parts = Pace(1.0), []
    for part in slices(whole, pace):
        parts.append(len(part))
        pace.failed()

    assert parts == [2, 1, 1, 1, 1, 1, 1]


async def test_more_than_a_put_counts_is_left_behind(
    client: MongoClient[dict[str, Any]], emptied_address: Address
) -> None:
    """What killed programs left uncounted is counted page by page, so that no put is held up for long."""
    left = 4 * PAGE + 10
    marked = [builtins_of(failure()) | {"_id": ObjectId(), "uncounted": True} for _ in range(left)]
    raw = client[emptied_address.database]
    raw.errors_cloud.insert_many(marked)
    store = MongoStore(emptied_address)
    await store.open()

    await store.put(envelopes(sample()))
    assert raw.errors_cloud.count_documents({"uncounted": True}) == 10
    await store.put(envelopes(sample()))

    assert raw.errors_cloud.count_documents({"uncounted": True}) == 0
    assert [rollup.count for rollup in await store.rollups()] == [left]
    await store.close()

"""The HTTP store at the real bridge: the two ends of the wire, against each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmbench.lifecycle import Listed, Listing
from llmbench.secrets import Secret
from llmbench.stores.base import OutcomeQuery, StoreError, StoreUnusable, Verdict
from llmbench.stores.http import HTTPStore
from llmbench.stores.http_client import HttpSettings
from tests.bridge.serving import RUNNER, GatedStore, Running, running
from tests.stores.documents import envelope, envelopes, failure, model, moment, sample


@asynccontextmanager
async def _store_at(bridge: Running, key: str = RUNNER, **changes: Any) -> AsyncIterator[HTTPStore]:
    url = f"http://{bridge.host}:{bridge.port}"
    own: dict[str, Any] = {"url": url, "key": Secret(bridge.keys[key]), "worklist_url": url, "providers": ("openai",)}
    store = HTTPStore(HttpSettings(**(own | changes)))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_every_verdict_comes_back(bridge: Running, store: GatedStore) -> None:
    """Each outcome has the bridge's verdict for it, and what was acknowledged is stored as it was sent."""
    known, fresh, bad = sample(), failure(), sample(output_tokens=-1)
    changed = msgspec.structs.replace(known, output_tokens=63)
    async with _store_at(bridge) as runner:
        assert await runner.put(envelopes(known)) == [Verdict(known.id, "stored")]
        verdicts = await runner.put(envelopes(known, changed, bad, fresh))
    assert [verdict.status for verdict in verdicts] == ["duplicate", "conflict", "rejected", "stored"]
    assert {run.id: run for run in await store.outcomes(OutcomeQuery())} == {known.id: known, fresh.id: fresh}


async def test_many_outcomes(bridge: Running, store: GatedStore) -> None:
    """Several requests' worth of outcomes is stored whole, each once."""
    runs = [sample() for _ in range(250)]
    async with _store_at(bridge) as runner:
        verdicts = await runner.put([envelope(run) for run in runs])
    assert verdicts == [Verdict(run.id, "stored") for run in runs]
    assert (await store.counts())["samples"] == 250


async def test_bridge_that_takes_less_at_a_time(store: GatedStore, tmp_path: Path) -> None:
    """What is too much for the bridge at a time goes in parts; what is too much by itself is refused, with a reason."""
    huge = sample(times_between_tokens=[0.1] * 20_000)
    runs = [sample() for _ in range(30)]
    async with running(store, tmp_path, max_body_kb=16) as bridge, _store_at(bridge) as runner:
        verdicts = await runner.put(envelopes(*runs, huge))
    assert [verdict.status for verdict in verdicts] == ["stored"] * 30 + ["rejected"]


async def test_store_behind_the_bridge_fails(bridge: Running, store: GatedStore) -> None:
    """While the bridge's store is away nothing is acknowledged, and the bridge's delay is passed on."""
    store.fault = StoreError("away", retry_after=7.0)
    async with _store_at(bridge) as runner:
        with pytest.raises(StoreError) as caught:
            await runner.put(envelopes(sample()))
    assert not isinstance(caught.value, StoreUnusable)
    assert caught.value.retry_after == 7.0


async def test_key_of_another_runner(bridge: Running, store: GatedStore) -> None:
    """It is for a person to mend, who is told both names, and blames no outcome; a shared key is anybody's."""
    mine = envelopes(sample(), failure())
    async with _store_at(bridge, "runner-2") as runner:
        with pytest.raises(StoreUnusable, match="runner_id 'runner-1' is not that of this key, 'runner-2'") as caught:
            await runner.put(mine)
        assert (await runner.put_nothing()).runner == "runner-2"
        verdicts = await runner.put([*mine, envelope(sample(runner_id="runner-2"))])
    assert caught.value.cause == "auth"
    assert [verdict.status for verdict in verdicts] == ["rejected", "rejected", "stored"]
    async with _store_at(bridge, "shared") as runner:
        assert await runner.put_nothing() == (True, None)
        assert [verdict.status for verdict in await runner.put(mine)] == ["stored", "stored"]


@pytest.mark.parametrize("key", ["read", "worklist"])
async def test_key_without_the_scope(bridge: Running, key: str) -> None:
    """A key that may not send is for a person to mend, and blames no outcome."""
    async with _store_at(bridge, key) as runner:
        with pytest.raises(StoreUnusable) as caught:
            await runner.put(envelopes(sample()))
    assert caught.value.cause == "auth"


async def test_worklist(bridge: Running, store: GatedStore) -> None:
    """A runner sees the enabled models of its providers as the catalogue has them."""
    row = model("gpt-4o-mini", display_name="GPT-4o mini", region="eu", request={"top_p": 0.5})
    await store.add_model(row)
    await store.add_model(model("gpt-3"))
    await store.disable_model("openai", "gpt-3", reason="old", by="me", at=moment())
    async with _store_at(bridge) as runner:
        (found,) = await runner.models(enabled=True)
    assert (found.provider, found.model_id, found.enabled) == ("openai", "gpt-4o-mini", True)
    assert (found.display_name, found.region, found.request) == ("GPT-4o mini", "eu", {"top_p": 0.5})


async def test_listing(bridge: Running) -> None:
    """A listing that a runner made is noted behind the bridge."""
    listed = [Listed(model_id=f"m-{number}", raw={"a": 1}) for number in range(3)]
    listing = Listing(
        provider="openai",
        started_at=moment(),
        finished_at=moment(1),
        status="ok",
        pagination_complete=True,
        models=listed,
    )
    async with _store_at(bridge) as runner:
        recorded = await runner.put_listing(listing)
    assert (recorded.run.accepted_count, recorded.refused) == (3, [])

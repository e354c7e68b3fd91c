"""The whole engine: what lanes, scheduler and sink promise together, over real sockets and into a real file."""

from __future__ import annotations

from llmbench.actors.plans import Batch
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import Engine, failures, ids, in_store, lane, runs, samples, seen, settings, unique


async def test_every_job_has_exactly_one_outcome(simulator: SpawnedSimulator, store: SQLiteStore) -> None:
    """Good runs and bad, of three lanes, are each stored once, acknowledged once, and seen by the server once."""
    names = ["groq", "together", "anthropic"]
    good = {name: [unique() for _ in range(3)] for name in names}
    bad = {name: [unique("500"), unique("ttft2-gap1-truncate2")] for name in names}
    batch = Batch([run for name in names for run in runs(name, *good[name], *bad[name])], "scheduled")
    engine = await Engine([lane(settings(simulator, name)) for name in names], batch, store).finish()

    assert batch.done == batch.total == 15
    assert ids(engine.stored) == ids(await in_store(store))
    assert len(set(ids(engine.stored))) == 15
    assert {(s.provider, s.model_name) for s in samples(engine.stored)} == {(n, m) for n in names for m in good[n]}
    assert {(f.provider, f.model_name) for f in failures(engine.stored)} == {(n, m) for n in names for m in bad[n]}
    for model_id in [each for name in names for each in good[name] + bad[name]]:
        assert len(await seen(simulator, model_id)) == 1

"""A process with a spool: outcomes are recorded as fast as it goes, or a backlog is delivered into a store."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import anyio
import msgspec

from benchmarks.storing import made_store, outcome_of
from llmbench.actors.bus import Bus
from llmbench.actors.delivery import Delivery
from llmbench.actors.spool_level import SpoolLevel
from llmbench.clock import SystemClock
from llmbench.measure.loopwatch import BACKEND_OPTIONS
from llmbench.messages import SchedulerMessage
from llmbench.quantiles import quantile
from llmbench.stores.base import Store
from llmbench.stores.spool import Spool

_LANES = 64
_ARRIVALS_PER_SECOND = 10.0
_FILLED_AT_ONCE = 500


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` is in outcomes a second; ``latency_p99`` is how long a `Spool.put` of one outcome took, in seconds."""

    rate: float
    latency_p99: float
    left: int = 0


async def _record(spool: Spool, outcomes: int) -> Result:
    """Record one outcome at a time, from as many lanes as an engine's sink takes at once."""
    took: list[float] = []
    ready = [outcome_of(number) for number in range(outcomes)]

    async def lane() -> None:
        while ready:
            one, began = ready.pop(), time.perf_counter()
            (verdict,) = await spool.put([one])
            took.append(time.perf_counter() - began)
            assert verdict.status == "stored"

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(_LANES):
            group.start_soon(lane)
    return Result(rate=outcomes / (time.perf_counter() - began), latency_p99=quantile(sorted(took), 0.99))


async def _deliver(spool: Spool, store: Store, outcomes: int) -> Result:
    """Deliver a backlog, while new outcomes arrive."""
    for number in range(0, outcomes, _FILLED_AT_ONCE):
        await spool.put([outcome_of(number + n) for n in range(_FILLED_AT_ONCE)])
    clock, bus = SystemClock(), Bus()
    inbox, _ = anyio.create_memory_object_stream[SchedulerMessage](math.inf)
    delivery = Delivery(spool, store, SpoolLevel(spool, inbox, bus, clock), bus, clock)
    took: list[float] = []
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        group.start_soon(_arrive, spool, took)
        delivery.drain()
        await delivery.run()
        seconds = time.perf_counter() - began
        group.cancel_scope.cancel()
    waiting = (await spool.counts()).waiting
    return Result(rate=delivery.stored / seconds, latency_p99=quantile(sorted(took), 0.99), left=waiting)


async def _arrive(spool: Spool, took: list[float]) -> None:
    number = 0
    while True:
        await anyio.sleep(1 / _ARRIVALS_PER_SECOND)
        began = time.perf_counter()
        await spool.put([outcome_of(number)])
        took.append(time.perf_counter() - began)
        number += 1


async def _run(options: argparse.Namespace, folder: Path) -> Result:
    spool = Spool(folder / "spool")
    await spool.open()
    try:
        if options.store is None:
            return await _record(spool, options.outcomes)
        store = made_store(options.store, options.at)
        await store.open()
        try:
            return await _deliver(spool, store, options.outcomes)
        finally:
            await store.close()
    finally:
        await spool.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", choices=("sqlite", "mongo"), help="deliver a backlog into it; without: record only")
    parser.add_argument("--at", help="a folder, or a URI")
    parser.add_argument("--outcomes", type=int, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = anyio.run(_run, options, Path(folder), backend_options=BACKEND_OPTIONS)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()

"""S21: a store that was away for long. The spool within its cap, memory flat, and the backlog gone before long.

A simulated day of ten outcomes a second is 864,000 of them; by default less, as quickly as that goes.
"""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import anyio
import pytest

from llmbench.actors.bus import Bus
from llmbench.actors.delivery import Delivery
from llmbench.actors.spool_level import SpoolLevel
from llmbench.messages import Envelope, Outcome, SchedulerMessage
from llmbench.stores.base import Verdict
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.faults.conftest import Tell
from tests.faults.memory import resident
from tests.stores.documents import envelope, failure, sample
from tests.stores.spooling import SetClock

ARRIVAL = 10
"""Outcomes a second."""
DAY = 24 * 3600 * ARRIVAL
OUTCOMES = {False: (2_000, 6_000), True: (100_000, DAY)}
AT_ONCE = 500
FRESH_EVERY = 4


class Watched(SQLiteStore):
    """A store that notes its batches, and during a drain has fresh outcomes recorded between them."""

    def __init__(self, path: Path, spool: Spool) -> None:
        super().__init__(path)
        self._spool = spool
        self._batches = 0
        self.taken = 0
        self.fresh: dict[str, int] = {}
        self.waits: list[int] = []
        """For each fresh outcome, in which batch after it was recorded it came."""

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        self._batches += 1
        self.taken += len(items)
        for item in items:
            recorded = self.fresh.pop(item.outcome.id, None)
            if recorded is not None:
                self.waits.append(self._batches - recorded)
        verdicts = await super().put(items)
        if self._batches % FRESH_EVERY == 0 and len(items) > 2:
            new = envelope(sample())
            self.fresh[new.outcome.id] = self._batches
            await self._spool.put([new])
        return verdicts


def measured(clock: SetClock) -> Outcome:
    """Return an outcome as they come: nine of ten are samples, each with figures of its own, to the nanosecond."""
    if random.random() < 0.1:
        return failure(run_ts=clock.now(), request_id=f"req_{random.randbytes(12).hex()}")
    gaps = [round(random.lognormvariate(-4.5, 0.7), 9) for _ in range(64)]
    first, spent = round(random.uniform(0.2, 2.0), 9), round(sum(gaps), 9)
    names = ("inter_token_p50", "inter_token_p95", "inter_token_p99", "inter_token_max")
    return sample(
        run_ts=clock.now(),
        times_between_tokens=gaps,
        time_to_first_token=first,
        generate_time=first + spent,
        tokens_per_second=64 / (first + spent),
        generated_tokens_per_second=64 / (first + spent),
        visible_tokens_per_second=64 / (first + spent),
        decode_tokens_per_second=64 / spent,
        **dict(zip(names, sorted(gaps)[31::10], strict=True)),
        **{name: round(random.uniform(0.01, 0.4), 9) for name in ("connect_time", "tls_time", "time_to_first_byte")},
        response_id=f"chatcmpl-{random.randbytes(15).hex()}",
        request_id=f"req_{random.randbytes(16).hex()}",
    )


async def fill(spool: Spool, clock: SetClock, count: int) -> list[int]:
    """Record so many outcomes at the pace of the clock; return the memory at ten moments."""
    memory: list[int] = []
    for n in range(0, count, AT_ONCE):
        assert spool.level in ("ok", "warning"), f"nothing new is to be started after {n:,} outcomes"
        outcomes = [measured(clock) for _ in range(min(AT_ONCE, count - n))]
        await spool.put([envelope(outcome) for outcome in outcomes])
        clock.advance(seconds=len(outcomes) / ARRIVAL)
        if n % (max(count // 10, AT_ONCE) // AT_ONCE * AT_ONCE) == 0:
            memory.append(resident())
    return memory


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory is asked of Linux")
@pytest.mark.parametrize("which", [0, 1], ids=["S21-backlog", "a-day"])
async def test_S21_a_backlog_is_drained_and_keeps_nothing_fresh_waiting(
    tmp_path: Path, long: bool, tell: Tell, which: int
) -> None:
    """It drains at five times the pace of arrival or more; what is recorded meanwhile goes with the next batches.

    A day's outcomes fit into the spool without a pause, and the memory stays, once the first tenth is there, within a
    few megabytes.
    """
    count, clock = OUTCOMES[long][which], SetClock()
    spool = Spool(tmp_path / "spool", clock=clock)
    await spool.open()
    began = monotonic()
    memory = await fill(spool, clock, count)
    filled = monotonic() - began
    counts = await spool.counts()
    assert counts.level != "paused"
    assert counts.waiting == count
    each = counts.used_bytes / count

    inbox, kept = anyio.create_memory_object_stream[SchedulerMessage](math.inf)
    bus, store = Bus(), Watched(tmp_path / "llmbench.db", spool)
    delivery = Delivery(spool, store, SpoolLevel(spool, inbox, bus, clock), bus, clock, opened=False)
    began = monotonic()
    delivery.drain()
    await delivery.run()
    drained = monotonic() - began
    memory.append(resident())
    rate, grown = store.taken / drained, (max(memory[1:]) - memory[1]) / 2**20

    tell(
        f"{count:,} outcomes while the store was away ({count / ARRIVAL / 3600:.1f} h): {count / filled:,.0f} recorded "
        f"and {rate:,.0f} delivered a second; spool {counts.used_bytes / 2**20:,.0f} MiB, {each:,.0f} bytes each, "
        f"which makes {DAY * each / 2**30:.2f} GiB a day; memory +{grown:.1f} MiB, "
        f"{len(store.waits)} fresh ones waited for {max(store.waits)} batch(es) at most"
    )
    assert counts.cap_bytes == 2 * 2**30
    assert each * DAY < 0.95 * counts.cap_bytes, "a day of outcomes fits, and nothing is paused"
    assert delivery.stored == store.taken == count + len(store.waits)
    assert rate >= 5 * ARRIVAL
    assert store.fresh == {}
    assert max(store.waits) <= 2
    assert grown < 48
    assert (await spool.counts()).waiting == 0
    await spool.close()
    await store.close()
    inbox.close()
    kept.close()
    bus.close()

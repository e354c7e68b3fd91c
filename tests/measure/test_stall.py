"""K9: a stalled event loop spoils stamps, and the row says so; what the row claims of its error is true."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import pytest

from llmbench.measure.stamps import kernel_stamps_available
from llmbench.measure.timer import StreamTimer
from llmbench.messages import Sample
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from tests.measure.support import MS, stall
from tests.runs import CHAT, attempt, base_url, job, opened, profile

STALL_SECONDS = 0.2
WORDS = "ttft20-gap10-tok60"


class Staller:
    """Blocks the event loop for 200 ms, once, when a stream is half way through."""

    def __init__(self) -> None:
        self.stalls: list[int] = []

    def __call__(self, timer: StreamTimer, _text: str) -> None:
        if len(timer.visible_ns) == 10:
            self.stalls.append(len(timer.visible_ns))
            stall(STALL_SECONDS)


def arrivals(row: Sample) -> Iterator[float]:
    """Return when each visible chunk came, as the row has it: seconds behind the request."""
    assert row.time_to_first_token is not None
    return accumulate([row.time_to_first_token, *row.times_between_tokens])


def errors(row: Sample, record: RequestRecord) -> list[float]:
    """Return how far each chunk's arrival is from its write, by the server's own clock, in seconds."""
    written = [(write - record.arrival_ns) / 1e9 for write in record.writes_ns]
    return [seen - real for seen, real in zip(arrivals(row), written, strict=True)]


@pytest.mark.parametrize(
    "kernel", [pytest.param(True, marks=pytest.mark.skipif(not kernel_stamps_available(), reason="Linux only")), False]
)
async def test_K9_a_stalled_loop_is_on_the_row(simulator: SpawnedSimulator, kernel: bool) -> None:
    """About twenty chunks merged in the kernel: the lag, the coalescing and the resolution tell it, by either clock."""
    staller = Staller()
    since = simulator.counts().requests
    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider), kernel=kernel) as provider:
        work = job(CHAT.provider, CHAT.model(WORDS), profile(max_tokens=60))
        row = await attempt(provider, work, on_text=staller).run()
    (record,) = simulator.requests(since=since)
    assert isinstance(row, Sample)
    assert staller.stalls == [10]
    assert row.client_lag_max >= STALL_SECONDS
    assert row.coalesced_reads >= 1
    assert (row.clock, row.resolution) == ("kernel" if kernel else "user", "coarse")
    wrong = errors(row, record)
    assert max(wrong) > 0.05, "merged chunks do look late: kernel stamps don't save them"
    assert max(wrong) <= row.client_lag_max + 0.005, "and no later than the row allows"
    assert min(wrong) > -0.005


@pytest.mark.skipif(not kernel_stamps_available(), reason="only Linux stamps TCP reads")
async def test_K9_a_chunk_that_came_alone_keeps_its_time(simulator: SpawnedSimulator) -> None:
    """A stall between two chunks 400 ms apart hurts neither by the kernel's clock; the row still tells of it."""
    since = simulator.counts().requests
    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider)) as provider:
        work = job(CHAT.provider, CHAT.model("ttft20-gap400-tok2"), profile(max_tokens=2))
        row = await attempt(provider, work, on_text=lambda _timer, _text: stall(STALL_SECONDS)).run()
    (record,) = simulator.requests(since=since)
    assert isinstance(row, Sample)
    assert row.client_lag_max >= STALL_SECONDS
    assert (row.coalesced_reads, row.resolution) == (0, "fine")
    assert max(errors(row, record)) < 100 * MS / 1e9

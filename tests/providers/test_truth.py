"""The truth of the record: the row's times against those of the server's own stamps, on one clock.

Medians of several runs and of all their chunks: a busy machine delays single events, and what it delays at the server
is in the server's stamps too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from statistics import median
from typing import Any

import anyio
import pytest

from llmbench.measure.transport import StartGate
from llmbench.messages import Outcome, Sample
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.flavours import sequence_of
from llmbench.simulator.record import RequestRecord
from tests.runs import (
    CHAT,
    COMPLETIONS,
    CONVERSE,
    GEMINI,
    KEY,
    MESSAGES,
    RESPONSES,
    VERTEX_CLAUDE,
    VERTEX_MAAS,
    Family,
    attempt,
    base_url,
    job,
    opened,
    profile,
    tls_simulator,
)

RUNS = 4
PROMISE = "ttft200-gap20-tok64"
MS = 0.001

FAMILIES = (CHAT, RESPONSES, COMPLETIONS, MESSAGES, CONVERSE, GEMINI, VERTEX_CLAUDE, VERTEX_MAAS)

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.provider}-{family.mode}")
pytestmark = pytest.mark.usefixtures("clouds")
Pair = tuple[Sample, RequestRecord]


async def pairs(simulator: SpawnedSimulator, family: Family, words: str, **settings: Any) -> list[Pair]:
    """Return rows with the server's records of the same requests; the runs overlap, as those of a real lane do."""
    since = simulator.counts().requests
    outcomes: list[Outcome] = []
    gate = StartGate()
    async with opened(family.provider, base_url(simulator.url, family.provider), KEY, **settings) as provider:

        async def run() -> None:
            work = job(family.provider, family.model(words), profile())
            outcomes.append(await attempt(provider, work, gate=gate).run())

        async with anyio.create_task_group() as tasks:
            for _ in range(RUNS):
                tasks.start_soon(run)
    return [(row, record_of(row, simulator.requests(since=since))) for row in outcomes if isinstance(row, Sample)]


def record_of(row: Sample, records: list[RequestRecord]) -> RequestRecord:
    """Return the request whose number the response's id ends in, or the request's id where a response has none."""
    number = int(row.response_id[-20:]) if row.response_id is not None else sequence_of(row.request_id or "")
    (record,) = [record for record in records if number == record.sequence]
    return record


def served(record: RequestRecord) -> list[float]:
    """Return when the server wrote each visible chunk: seconds behind the request's arrival there."""
    return [(write - record.arrival_ns) / 1e9 for write in record.writes_ns]


def seen(row: Sample) -> Iterator[float]:
    """Return when each visible chunk came, as the row has it: seconds behind the request."""
    assert row.time_to_first_token is not None
    return accumulate([row.time_to_first_token, *row.times_between_tokens])


@every_family
async def test_times_are_those_of_the_server(simulator: SpawnedSimulator, family: Family) -> None:
    """Each chunk's time is within 1 ms of the server's own, and so is the first one's (medians).

    So the gaps are the 20 ms that were promised, and the first token's time is that of the promise as far as the
    server kept it.
    """
    found = await pairs(simulator, family, PROMISE)
    assert len(found) == RUNS
    errors = [[at - real for at, real in zip(seen(row), served(record), strict=True)] for row, record in found]
    assert abs(median(error[0] for error in errors)) < 1 * MS
    assert median(abs(error) for run in errors for error in run) < 1 * MS
    late = median(served(record)[0] for _row, record in found) - 0.200
    assert median(row.time_to_first_token or 0 for row, _record in found) == pytest.approx(0.200 + late, abs=1 * MS)
    assert median(gap for row, _record in found for gap in row.times_between_tokens) == pytest.approx(0.020, abs=1 * MS)
    assert median(row.inter_token_p50 or 0 for row, _record in found) == pytest.approx(0.020, abs=1 * MS)


@pytest.mark.parametrize("family", [RESPONSES, MESSAGES, CONVERSE], ids=lambda family: family.mode)
async def test_thinking_time_is_told_apart(simulator: SpawnedSimulator, family: Family) -> None:
    """300 ms between the first reasoning and the first text, by the row as by the server of the same run (medians)."""
    found = await pairs(simulator, family, "reason300-ttft50-gap1-tok63")
    thinking = [(row.time_to_first_token or 0) - (row.time_to_first_reasoning_token or 0) for row, _record in found]
    real = [(record.writes_ns[0] - record.reasoning_writes_ns[0]) / 1e9 for _row, record in found]
    assert len(found) == RUNS
    assert median(abs(row - server) for row, server in zip(thinking, real, strict=True)) < 1 * MS
    assert median(thinking) == pytest.approx(0.300, abs=5 * MS)


async def test_the_end_is_the_servers_end(simulator: SpawnedSimulator) -> None:
    """The generation's time runs from the request to the terminator (median)."""
    found = await pairs(simulator, RESPONSES, "ttft50-gap5-tok64")
    errors = [
        row.generate_time - (record.end_written_ns - record.arrival_ns) / 1e9
        for row, record in found
        if record.end_written_ns is not None
    ]
    assert len(errors) == RUNS
    assert abs(median(errors)) < 1 * MS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpawnedSimulator]:
    with tls_simulator(tmp_path_factory.mktemp("tls"), "127.0.0.1") as spawned:
        yield spawned


@pytest.mark.parametrize("family", [RESPONSES, MESSAGES], ids=lambda family: family.mode)
async def test_connecting_is_outside_of_every_measured_time(tls: SpawnedSimulator, family: Family) -> None:
    """With a TLS handshake before each request, the first token still comes 100 ms behind the request (median)."""
    found = await pairs(tls, family, "ttft100-gap2-tok64", ca_file=tls.ca_file)
    errors = [(row.time_to_first_token or 0) - served(record)[0] for row, record in found]
    assert len(found) == RUNS
    assert abs(median(errors)) < 1 * MS
    assert all((row.connect_time or 0) > 0 and (row.tls_time or 0) > 0 for row, _record in found)

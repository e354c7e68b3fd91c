"""The promise of times, on whatever machine this is: medians of several runs, never one."""

from __future__ import annotations

import statistics
from time import perf_counter_ns

import pytest

from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from tests.simulator.support import ask, ask_chat

MS = 1_000_000
RUNS = 5


def _records(simulator: SpawnedSimulator, model: str, **more: object) -> list[RequestRecord]:
    since = simulator.counts().requests
    for _ in range(RUNS):
        assert ask_chat(simulator, model, "any-other", **more).complete
    return simulator.requests(model=model, since=since)


def test_tokens_are_written_when_promised(simulator: SpawnedSimulator) -> None:
    """ttft200-gap20-tok64: the first token and the gaps are within 1 ms of their word, median of five runs."""
    records = _records(simulator, "sim-ttft200-gap20-tok64", max_tokens=64)
    first = [record.writes_ns[0] - record.arrival_ns for record in records]
    late = [
        write - record.arrival_ns - (200 + 20 * number) * MS
        for record in records
        for number, write in enumerate(record.writes_ns)
    ]
    assert len(late) == RUNS * 64
    assert statistics.median(first) == pytest.approx(200 * MS, abs=MS)
    assert statistics.median(late) < MS
    assert min(late) >= 0


def test_lateness_does_not_add_up(simulator: SpawnedSimulator) -> None:
    """The last of 300 tokens is as close to its promise as the first: deadlines are absolute."""
    records = _records(simulator, "sim-ttft10-gap1-tok300", max_tokens=300)
    last = [record.writes_ns[-1] - record.arrival_ns - (10 + 299) * MS for record in records]
    assert statistics.median(last) < 2 * MS


def test_the_arrival_is_stamped_by_the_kernel(simulator: SpawnedSimulator) -> None:
    """On Linux a request's arrival lies between its send and its answer, and says who stamped it."""
    for _ in range(RUNS):
        before = perf_counter_ns()
        ask_chat(simulator, "sim-ttft1-gap0-tok1", "any-other")
        after = perf_counter_ns()
        record = simulator.requests(model="sim-ttft1-gap0-tok1")[-1]
        assert before < record.arrival_ns < after
        assert record.arrival_clock == "kernel"


def test_the_head_does_not_wait_for_the_first_token(simulator: SpawnedSimulator) -> None:
    """It is written right behind the arrival (median of five runs)."""
    records = _records(simulator, "sim-ttft60-gap1-tok1")
    heads = [record.head_written_ns - record.arrival_ns for record in records if record.head_written_ns]
    assert len(heads) == RUNS
    assert statistics.median(heads) < 20 * MS


def test_a_late_head_waits(simulator: SpawnedSimulator) -> None:
    """With ``latehead`` and an error as the first event, the head is due with it."""
    since = simulator.counts().requests
    ask(
        simulator,
        "/any-other/v1/chat/completions",
        {"model": "sim-latehead-errorobj-ttft60", "messages": ["x"], "stream": True},
    )
    (record,) = simulator.requests(since=since)
    assert record.head_written_ns is not None
    assert record.head_written_ns - record.arrival_ns >= 60 * MS

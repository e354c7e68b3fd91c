"""Rows of the fault matrix that are about more than one run; the others are in tests/conformance."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

from itertools import pairwise
from statistics import median

import anyio

from llmbench.measure.transport import StartGate
from llmbench.messages import Failure, Outcome, Sample
from llmbench.simulator import SpawnedSimulator
from tests.faults.support import assert_clean, verdict
from tests.runs import CHAT, MESSAGES, QUICK, RESPONSES, Family, attempt, base_url, job, opened, profile, run_family

# what changes its mind


async def test_P23_a_key_that_is_revoked_and_restored(simulator: SpawnedSimulator) -> None:
    """Good, refused, good again: each run is judged by itself."""
    model = CHAT.model(f"{QUICK}-tok8")
    kinds = []
    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider)) as provider:
        for behaviour in (model, "sim-401", model):
            simulator.alias(model, behaviour)
            outcome = await attempt(provider, job(CHAT.provider, model, profile(max_tokens=8))).run()
            assert_clean(outcome)
            kinds.append(outcome.error_kind if isinstance(outcome, Failure) else "ok")
    assert kinds == ["ok", "auth", "ok"]


async def test_P24_one_of_three_models_is_gone(simulator: SpawnedSimulator) -> None:
    """404 concerns that model alone: the others go on."""
    models = (f"{QUICK}-tok8", "404", f"{QUICK}-tok8")
    outcomes = [(await run_family(simulator, RESPONSES, words, max_tokens=8)).outcome for words in models]
    assert [type(outcome) for outcome in outcomes] == [Sample, Failure, Sample]
    gone = outcomes[1]
    assert isinstance(gone, Failure)
    assert verdict(gone) == ("hard_model", "model_gone", "generate")
    assert gone.model_name in gone.message


async def test_P25_no_connection_is_ever_used_twice(simulator: SpawnedSimulator) -> None:
    """A keep-alive connection that is closed under a request can't happen: two runs are two connections."""
    since = simulator.counts().requests
    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider)) as provider:
        for _ in range(2):
            outcome = await attempt(provider, job(CHAT.provider, CHAT.model(QUICK), profile())).run()
            assert isinstance(outcome, Sample)
            assert outcome.connection_reused is False
    first, second = simulator.requests(since=since)
    assert first.connection != second.connection


# what disturbs its neighbours


async def test_P27_a_flood_does_not_drown_its_neighbour(simulator: SpawnedSimulator) -> None:
    """While one lane gets 10,000 events a second, another one's chunks keep their times, or its row says otherwise."""
    flood, quiet = CHAT.model("ttft5-gap0.1-tok8000"), MESSAGES.model("ttft50-gap20-tok30")
    outcomes: dict[str, Outcome] = {}
    gate = StartGate()

    async def run(family: Family, model_id: str, tokens: int) -> None:
        async with opened(family.provider, base_url(simulator.url, family.provider)) as provider:
            work = job(family.provider, model_id, profile(max_tokens=tokens))
            outcomes[model_id] = await attempt(provider, work, gate=gate).run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, CHAT, flood, 8000)
        tasks.start_soon(run, MESSAGES, quiet, 30)
    row, (record,) = outcomes[quiet], simulator.requests(model=quiet)[-1:]
    assert isinstance(outcomes[flood], Sample)
    assert isinstance(row, Sample)
    written = [(after - before) / 1e9 for before, after in pairwise(record.writes_ns)]
    errors = [abs(gap - real) for gap, real in zip(row.times_between_tokens, written, strict=True)]
    assert median(errors) < 0.001 or row.resolution == "coarse"
    assert max(errors) <= max(row.client_lag_max, 0.005)

"""Runs scenarios by the dozen: through the real SDKs, over real sockets, against one simulator."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import NamedTuple

import anyio
from anyio.abc import ByteStream

from llmbench.measure.quiet import QuietCollector
from llmbench.messages import Outcome
from llmbench.providers.base import Provider
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from tests.conformance.scenario import Ran, Scenario
from tests.measure.support import serving
from tests.runs import Family, attempt, base_url, job, opened, profile

AT_ONCE = 32
"""Few enough that neither side of two cores falls behind, so that the limits mean what they say."""

Case = tuple[Family, Scenario]
Key = tuple[Family, str]
"""A family and a scenario's id."""


class _Done(NamedTuple):
    model_id: str
    outcome_id: str
    outcome: Outcome
    texts: list[str]


class Results(NamedTuple):
    """What came of each case, and how often the server was spoken to that redirects pointed at."""

    ran: dict[Key, Ran]
    led_astray: int


def named(family: Family, scenario: Scenario) -> Family:
    """Return the family with models that have the scenario in their names, so that requests can be told apart."""
    return family._replace(prefix=f"{family.prefix}{scenario.id.lower().replace('_', '-')}-")


async def run_all(simulator: SpawnedSimulator, cases: Iterable[Case]) -> Results:
    """Run every case once, those that take long first."""
    waiting = sorted(cases, key=lambda case: "timeout_seconds" not in "".join(case[1].changes))
    since, done = simulator.counts().requests, dict[Key, _Done]()
    turns, astray = anyio.Semaphore(AT_ONCE), list[ByteStream]()

    async def elsewhere(stream: ByteStream) -> None:
        astray.append(stream)

    async def run(case: Case, provider: Provider, words: str) -> None:
        family, scenario = case
        model_id = named(family, scenario).model(words)
        work, texts = job(family.provider, model_id, profile(**scenario.changes)), list[str]()
        outcome = await attempt(provider, work, on_text=lambda _timer, text: texts.append(text)).run()
        done[family, scenario.id] = _Done(model_id, work.outcome_id, outcome, texts)
        turns.release()

    async with AsyncExitStack() as stack:
        port = (await stack.enter_async_context(serving(elsewhere))).rpartition(":")[2]
        providers = await _opened(stack, simulator, {family for family, _scenario in waiting})
        stack.enter_context(quiet())
        async with anyio.create_task_group() as tasks:
            for case in waiting:
                await turns.acquire()
                tasks.start_soon(run, case, providers[case[0].provider], case[1].words.format(port=port))
    return Results(_joined(done, simulator.requests(since=since)), len(astray))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector away, as the engine does; what was leaked meanwhile is found at once afterwards."""
    collector = QuietCollector()
    collector.freeze()
    try:
        yield
    finally:
        collector.release()
        gc.collect()


async def _opened(
    stack: AsyncExitStack, simulator: SpawnedSimulator, families: Iterable[Family]
) -> dict[str, Provider]:
    """Return one client for each provider, however many families it has."""
    found: dict[str, Provider] = {}
    for name in {family.provider for family in families}:
        found[name] = await stack.enter_async_context(opened(name, base_url(simulator.url, name)))
    return found


def _joined(done: dict[Key, _Done], requests: Iterable[RequestRecord]) -> dict[Key, Ran]:
    seen = defaultdict[str | None, list[RequestRecord]](list)
    for request in requests:
        seen[request.model].append(request)
    return {
        key: Ran(key[0], run.model_id, run.outcome_id, run.outcome, run.texts, _of(seen[run.model_id], key[0]))
        for key, run in done.items()
    }


def _of(requests: Iterable[RequestRecord], family: Family) -> list[RequestRecord]:
    return [request for request in requests if request.provider == family.provider]

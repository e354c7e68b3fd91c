"""A small engine for tests: lanes through real SDKs, over real sockets to the simulator, into a real SQLite file."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from llmbench.actors.bus import Bus
from llmbench.actors.plans import Plan
from llmbench.actors.record import Runner
from llmbench.actors.supervision import RestartBudget
from llmbench.actors.supervisor import Lane, Supervisor
from llmbench.config import ResolvedProvider
from llmbench.config.providers import resolve
from llmbench.config.tables import ProviderTable
from llmbench.messages import Failure, LaneState, LiveEvent, Model, Outcome, Profile, RunStarted, Sample
from llmbench.providers.base import Prepared, Provider
from llmbench.providers.openai_family import OpenAIFamily
from llmbench.providers.registry import open_provider
from llmbench.secrets import Redactor
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from llmbench.stores.base import OutcomeQuery, Store
from tests.stores.documents import model as document

E = TypeVar("E")

KEY = "sk-canary-0123456789abcdef"
LIMIT = 30.0
"""Seconds after which a test that waits has failed; nothing here takes longer than a few."""

PROFILE = Profile(id="default", prompt="Write.", max_tokens=8)
RUNNER = Runner(id="runner-1", region=None, redactor=Redactor([KEY]))
FAST = "ttft2-gap1"
"""Words of the simulator's menu for a run that is over in a hundredth of a second."""

_numbers = itertools.count()


def unique(words: str = FAST, name: str = "m") -> str:
    """Return the id of a simulated model that no other test asks for: the simulator's records are told apart by it."""
    return f"{name}{next(_numbers)}-sim-{words}"


def settings(simulator: SpawnedSimulator, name: str = "groq", **table: Any) -> ResolvedProvider:
    """Return a provider at the simulator's address that may start as fast as it likes, two at a time."""
    base_url = f"{simulator.url}/{name}" + ("" if name == "anthropic" else "/v1")
    given: dict[str, Any] = {"base_url": base_url, "requests_per_minute": 60_000.0, "concurrency": 2} | table
    return resolve(name, ProviderTable(**given), Path())


def lane(
    provider: ResolvedProvider, open_with: Callable[[], Provider] | None = None, problem: str | None = None
) -> Lane:
    return Lane(settings=provider, open=open_with or partial(open_provider, provider, KEY), problem=problem)


def runs(provider: str, *model_ids: str, profile: Profile = PROFILE) -> list[tuple[Model, Profile]]:
    return [(document(model_id, provider=provider), profile) for model_id in model_ids]


def quick_restarts() -> RestartBudget:
    return RestartBudget(first=0.01, longest=0.05, burst=3, rest=0.2)


class Engine:
    """A supervisor, and all that it told: live events in order, and what was stored, as it was acknowledged."""

    def __init__(self, lanes: Sequence[Lane], plan: Plan, store: Store, **more: Any) -> None:
        self.bus = Bus()
        self.plan = plan
        self.events: list[LiveEvent] = []
        self.stored: list[Outcome] = []
        self._store = store
        self._changed = anyio.Event()
        options: dict[str, Any] = {"budget": quick_restarts, "probe_seconds": 0.2} | more
        self.supervisor = Supervisor(lanes, plan, store, RUNNER, bus=self.bus, on_stored=self._on_stored, **options)

    def _on_stored(self, outcome: Outcome) -> None:
        self.stored.append(outcome)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        """Run it until the block ends, then stop it gracefully and wait for its end."""
        with anyio.fail_after(LIMIT), self.bus.subscribe() as subscription:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, subscription)
                group.start_soon(self.supervisor.run)
                yield self
                self.supervisor.stop()

    async def finish(self) -> Engine:
        """Run it until its plan is finished."""
        with anyio.fail_after(LIMIT), self.bus.subscribe() as subscription:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, subscription)
                await self.supervisor.run()
        return self

    async def _listen(self, subscription: AsyncIterator[LiveEvent]) -> None:
        async for event in subscription:
            self.events.append(event)
            self._tell()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was told makes the condition true."""
        while not condition():
            await self._changed.wait()

    def told(self, kind: type[E]) -> list[E]:
        """Return the events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def states(self, actor: str) -> list[LaneState]:
        """Return what was told of one actor's state so far."""
        return [state for state in self.told(LaneState) if state.lane == actor]

    def statuses(self, actor: str) -> list[str]:
        return [state.status for state in self.states(actor)]

    def started(self, model_id: str | None = None) -> list[RunStarted]:
        return [run for run in self.told(RunStarted) if model_id in (None, run.model_id)]

    def of(self, provider: str) -> list[Outcome]:
        """Return what was stored of one provider so far."""
        return [outcome for outcome in self.stored if outcome.provider == provider]


class Faulty(OpenAIFamily):
    """A provider with a bug: it can't lay out the request of one model."""

    def __init__(self, provider: ResolvedProvider, key: str, model_id: str) -> None:
        super().__init__(provider, key)
        self._bad = model_id

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        if model.model_id == self._bad:
            raise RuntimeError("provoked")
        return super().prepare(model, profile, prompt)


def samples(outcomes: Sequence[Outcome]) -> list[Sample]:
    return [outcome for outcome in outcomes if isinstance(outcome, Sample)]


def failures(outcomes: Sequence[Outcome]) -> list[Failure]:
    return [outcome for outcome in outcomes if isinstance(outcome, Failure)]


def ids(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the ids in order, each as often as it is there."""
    return sorted(outcome.id for outcome in outcomes)


async def in_store(store: Store) -> list[Outcome]:
    return await store.outcomes(OutcomeQuery())


async def seen(simulator: SpawnedSimulator, model_id: str) -> list[RequestRecord]:
    """Return the requests for one model that the server saw, in order of their arrival."""
    return await anyio.to_thread.run_sync(partial(simulator.requests, model=model_id))


async def becomes(simulator: SpawnedSimulator, model_id: str, words: str) -> None:
    """Have a model behave in another way from now on."""
    await anyio.to_thread.run_sync(simulator.alias, model_id, f"sim-{words}")


def overlaps(records: Sequence[RequestRecord]) -> list[tuple[int, int]]:
    """Return the pairs of requests, by number, of which the later came before the earlier was answered."""
    pairs = itertools.pairwise(sorted(records, key=lambda record: record.arrival_ns))
    return [
        (first.sequence, then.sequence)
        for first, then in pairs
        if then.arrival_ns < (first.end_written_ns or first.client_closed_ns or 2**63)
    ]

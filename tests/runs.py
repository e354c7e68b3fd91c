"""Real runs for tests: the real SDK of a provider, over a real socket, against the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trustme

from llmbench.actors.attempt import Attempt, OnText
from llmbench.actors.record import Runner
from llmbench.clock import SystemClock
from llmbench.config import ResolvedProvider
from llmbench.config.providers import resolve
from llmbench.config.tables import ProviderTable
from llmbench.ids import new_outcome_id
from llmbench.measure.transport import StartGate
from llmbench.messages import Failure, Job, Model, Outcome, Profile, Sample
from llmbench.providers.base import Provider
from llmbench.providers.presets import CLOUD_KINDS, PRESETS
from llmbench.providers.registry import open_provider
from llmbench.secrets import Redactor
from llmbench.simulator import SpawnedSimulator, spawn_simulator
from llmbench.simulator.record import RequestRecord

KEY = "sk-canary-0123456789abcdefABCDEF"
"""The key of every run here; it must never be found in an outcome."""

PROMPT = "Write a long essay."
QUICK = "ttft5-gap1"
"""Words of the simulator's menu for a run that is over in a tenth of a second."""


_BARE = ("anthropic", "bedrock", "vertex")
"""Providers whose base URL has no version in it."""


class Family(NamedTuple):
    """One API of one provider, and how its simulated models are called."""

    mode: str
    provider: str
    prefix: str
    suffix: str = ""

    def model(self, words: str) -> str:
        return f"{self.prefix}sim-{words}{self.suffix}"


CHAT = Family("chat", "openai", "gpt-")
RESPONSES = Family("responses", "openai", "o3-")
COMPLETIONS = Family("completions", "openai", "gpt-", "-instruct")
MESSAGES = Family("messages", "anthropic", "claude-")
CONVERSE = Family("converse", "bedrock", "us.amazon.nova-")
"""Needs `tests.clouds.aws_environment`."""
GEMINI = Family("gemini", "vertex", "gemini-2.5-")
VERTEX_CLAUDE = Family("messages", "vertex", "claude-")
VERTEX_MAAS = Family("chat", "vertex", "meta/llama-", "-maas")
VERTEX = (GEMINI, VERTEX_CLAUDE, VERTEX_MAAS)
"""These need `tests.clouds.google_environment`."""
FAMILIES = (CHAT, RESPONSES, COMPLETIONS, MESSAGES)


class Ran(NamedTuple):
    """One run from both sides: its outcome, and the requests that the server saw meanwhile."""

    outcome: Outcome
    requests: list[RequestRecord]

    @property
    def request(self) -> RequestRecord:
        """The one request; more would be a hidden retry."""
        (request,) = self.requests
        return request

    @property
    def sample(self) -> Sample:
        assert isinstance(self.outcome, Sample), self.outcome
        return self.outcome

    @property
    def failure(self) -> Failure:
        assert isinstance(self.outcome, Failure), self.outcome
        return self.outcome


def settings(name: str, base_url: str, **more: Any) -> ResolvedProvider:
    """Return a provider's settings: its preset's, or those of an OpenAI-compatible one, at another address."""
    table = ProviderTable(base_url=base_url, kind=None if name in PRESETS else "openai-compatible", **more)
    return resolve(name, table, Path())


def base_url(root: str, provider: str) -> str:
    """Return the address of a simulated provider."""
    return f"{root}/{provider}" if provider in _BARE else f"{root}/{provider}/v1"


def profile(**changes: Any) -> Profile:
    """Return a profile whose limits suit a test."""
    usual = Profile(
        id="test",
        prompt=PROMPT,
        max_tokens=64,
        timeout_seconds=10.0,
        idle_timeout_seconds=5.0,
        connect_timeout_seconds=5.0,
    )
    return msgspec.structs.replace(usual, **changes)


def job(provider: str, model_id: str, shape: Profile, request: dict[str, Any] | None = None) -> Job:
    """Return a job to run a model."""
    now = datetime.now(UTC)
    model = Model(provider=provider, model_id=model_id, enabled=True, deprecated=False, created_at=now, request=request)
    return Job(outcome_id=new_outcome_id(), model=model, profile=shape)


def attempt(provider: Provider, work: Job, *, gate: StartGate | None = None, on_text: OnText | None = None) -> Attempt:
    """Return an attempt at a job, to be run."""
    runner = Runner(id="tests", region=None, redactor=Redactor([KEY]))
    return Attempt(work, provider, gate=gate or StartGate(), runner=runner, clock=SystemClock(), on_text=on_text)


@asynccontextmanager
async def opened(
    name: str, address: str, key: str | None = KEY, *, kernel: bool = True, **more: Any
) -> AsyncIterator[Provider]:
    """Open a provider at an address as its lane does, and close it in the end."""
    found = settings(name, address, **more)
    provider = open_provider(found, None if found.kind in CLOUD_KINDS else key, kernel=kernel)
    await provider.warm_up()
    try:
        await provider.check()
        yield provider
    finally:
        await provider.close()


@contextmanager
def tls_simulator(folder: Path, *names: str) -> Iterator[SpawnedSimulator]:
    """Run a simulator that serves TLS; ``ca_file`` is the authority that signed its certificate for ``names``."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    server = folder / "server.pem"
    ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(server)
    with spawn_simulator(tls_cert=str(server), tls_key=str(server), ca_file=str(folder / "ca.pem")) as spawned:
        yield spawned


async def run_at(address: str, provider: str, model_id: str, /, **changes: Any) -> Outcome:
    """Make one run at an address; ``changes`` are of the profile."""
    async with opened(provider, address) as client:
        return await attempt(client, job(provider, model_id, profile(**changes))).run()


async def run_once(simulator: SpawnedSimulator, provider: str, model_id: str, /, **changes: Any) -> Ran:
    """Make one run against the simulator; ``changes`` are of the profile."""
    before = simulator.counts().requests
    outcome = await run_at(base_url(simulator.url, provider), provider, model_id, **changes)
    return Ran(outcome, simulator.requests(since=before))


async def run_family(simulator: SpawnedSimulator, family: Family, words: str, /, **changes: Any) -> Ran:
    """Make one run of a family's model with this behaviour."""
    return await run_once(simulator, family.provider, family.model(words), **changes)

"""K18: a run that is cancelled at any of its awaits leaves nothing behind."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from types import coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest

from llmbench.measure.exchange import Exchange, Limits, current_exchange
from llmbench.measure.transport import StartGate
from llmbench.messages import Failure, Outcome, Sample
from llmbench.simulator import SpawnedSimulator
from tests.conformance.families import PATHS
from tests.conformance.scenario import names_of
from tests.measure.support import open_sockets
from tests.runs import CHAT, Family, attempt, base_url, job, opened, profile, tls_simulator

MOST_AWAITS = 60
WORDS = "ttft10-gap10-tok8"
"""Long enough for the server to see that its client has gone."""

pytestmark = pytest.mark.usefixtures("clouds")


class Stepped:
    """Runs a coroutine and cancels a scope as it suspends for the n-th time; counts how often it did."""

    def __init__(self, inner: Coroutine[Any, Any, Outcome], scope: anyio.CancelScope, cancel_at: int) -> None:
        self.suspensions = 0
        self._inner = inner
        self._scope = scope
        self._cancel_at = cancel_at

    @coroutine
    def run(self) -> Generator[Any, Any, Outcome]:
        """Await it, passing on what the event loop sends and throws."""
        step = self._inner.send
        argument: Any = None
        while True:
            try:
                awaited = step(argument)
            except StopIteration as finished:
                outcome: Outcome = finished.value
                return outcome
            self.suspensions += 1
            if self.suspensions == self._cancel_at:
                self._scope.cancel()
            try:
                argument = yield awaited
                step = self._inner.send
            except BaseException as error:  # noqa: BLE001  a cancellation, above all: the coroutine gets it as it is
                argument = error
                step = self._inner.throw


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpawnedSimulator]:
    """A simulator that serves TLS with a certificate of an authority of its own."""
    with tls_simulator(tmp_path_factory.mktemp("tls"), "127.0.0.1") as spawned:
        yield spawned


@pytest.mark.parametrize("family", PATHS, ids=lambda family: names_of(family)[0])
async def test_K18_cancelled_at_each_await(simulator: SpawnedSimulator, family: Family) -> None:
    """No socket or task is left, the server sees its client go, and one outcome says that the run was cut off."""
    await sweep(simulator, family)


async def test_K18_cancelled_at_each_await_with_tls(tls: SpawnedSimulator) -> None:
    """The same through a TLS handshake."""
    await sweep(tls, CHAT, ca_file=tls.ca_file)


async def sweep(simulator: SpawnedSimulator, family: Family, **settings: Any) -> None:
    """Cancel one run after the other, each an await later, until one gets through."""
    gate, since = StartGate(), simulator.counts().requests
    work = job(family.provider, family.model(WORDS), profile(max_tokens=8))
    async with opened(family.provider, base_url(simulator.url, family.provider), **settings) as provider:
        assert isinstance(await attempt(provider, work, gate=gate).run(), Sample)
        sockets, tasks = open_sockets(), asyncio.all_tasks()
        for cancel_at in range(1, MOST_AWAITS):
            run = attempt(provider, work, gate=gate)
            with anyio.CancelScope() as scope:
                stepped = Stepped(run.run(), scope, cancel_at)
                outcome = await stepped.run()
            assert open_sockets() <= sockets
            if not scope.cancelled_caught:
                assert isinstance(outcome, Sample)
                break
            assert asyncio.all_tasks() <= tasks
            assert current_exchange() is None
            assert_cut_off(run.cancelled())
            await assert_open(gate)
        else:
            raise AssertionError(f"the run did not get through within {MOST_AWAITS} awaits")
    assert cancel_at >= 5, "a run waits for its name, its connection, the gate, the head and the body"
    await assert_noticed(simulator, work.model.model_id, since)


async def assert_noticed(simulator: SpawnedSimulator, model_id: str, since: int) -> None:
    """The server's side of each connection has ended: the first and the last answer whole, one at least cut off."""
    ends: list[str | None] = [None]
    with anyio.fail_after(5):
        while None in ends:
            requests = await anyio.to_thread.run_sync(lambda: simulator.requests(model=model_id, since=since))
            ends = [request.ended for request in requests]
    assert (ends[0], ends[-1]) == ("complete", "complete")
    assert "client_closed" in ends


def assert_cut_off(outcome: Outcome) -> None:
    assert isinstance(outcome, Failure)
    assert (outcome.error_kind, outcome.error_cause) == ("local", "cancelled")
    assert outcome.stage in ("connect", "generate")


async def assert_open(gate: StartGate) -> None:
    """The gate gives a turn to whoever asks next."""
    with anyio.fail_after(5):
        async with gate.handshaking():
            pass
        async with Exchange(Limits()) as exchange, gate.turn(exchange):
            pass

"""Whatever happens to a run, exactly one outcome comes of it."""

from __future__ import annotations

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from llmbench.measure.exchange import Exchange
from llmbench.measure.transport import StartGate
from llmbench.messages import Failure, Model, Profile
from llmbench.providers.base import Prepared
from llmbench.providers.openai_family import OpenAIFamily
from llmbench.simulator import SpawnedSimulator
from tests.faults.support import assert_clean, verdict
from tests.runs import CHAT, KEY, QUICK, attempt, base_url, job, opened, profile, settings


class Unprepared(OpenAIFamily):
    """A provider with a bug."""

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        raise LookupError(f"no such thing as {model.model_id}")


async def test_a_bug_is_an_outcome() -> None:
    """It is called internal, has its traceback, and no provider is blamed."""
    provider = Unprepared(settings("groq", "http://127.0.0.1:9/v1"), KEY)
    outcome = await attempt(provider, job("groq", "m", profile())).run()
    await provider.close()
    assert isinstance(outcome, Failure)
    assert (outcome.error_kind, outcome.exc_type, outcome.partial) == ("internal", "LookupError", {})
    assert outcome.traceback is not None
    assert "no such thing as m" in outcome.traceback


class AnsweredFirst(StartGate):
    """A gate that lets a request pass once the server has answered it, which a server can do in its sleep."""

    @asynccontextmanager
    async def turn(self, exchange: Exchange) -> AsyncIterator[None]:
        with anyio.fail_after(5.0):
            while not exchange.response.complete:  # noqa: ASYNC110  an exchange tells nobody of it
                await anyio.sleep(0.001)
        async with super().turn(exchange):
            yield


async def test_an_answer_before_the_request_is_no_bug_of_ours() -> None:
    """A server that says 200 to whoever connects does not speak HTTP; nothing of it is measured."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 14\r\n\r\ndata: [DONE]\n\n"

    async def hasty(stream: SocketStream) -> None:
        async with stream:
            await stream.send(answer)
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, hasty)
        url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1"
        async with opened("groq", url) as provider:
            outcome = await attempt(provider, job("groq", "m", profile()), gate=AnsweredFirst()).run()
        group.cancel_scope.cancel()
    assert isinstance(outcome, Failure)
    assert verdict(outcome) == ("network", "protocol", "generate")
    assert outcome.partial == {}


async def test_a_run_that_never_began_can_be_cancelled() -> None:
    """The lane stopped first; the job still has its one outcome."""
    async with opened("groq", "http://127.0.0.1:9/v1") as provider:
        work = job("groq", "m", profile())
        outcome = attempt(provider, work).cancelled()
    assert isinstance(outcome, Failure)
    assert (outcome.id, outcome.error_kind, outcome.error_cause) == (work.outcome_id, "local", "cancelled")
    assert outcome.partial == {}


async def test_a_run_that_is_cut_off_keeps_its_figures(simulator: SpawnedSimulator) -> None:
    """Two chunks had come when llmbench stopped; the failure is ours, not the provider's."""
    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider)) as provider:
        run = attempt(provider, job(CHAT.provider, CHAT.model("ttft5-gap300-tok64"), profile()))
        with anyio.move_on_after(0.45) as scope:
            await run.run()
    assert scope.cancelled_caught
    outcome = run.cancelled()
    assert isinstance(outcome, Failure)
    assert verdict(outcome) == ("local", "cancelled", "generate")
    assert outcome.partial["visible_stream_chunks"] == 2
    assert outcome.partial["client_lag_max"] >= 0
    assert_clean(outcome)


def fill_the_gaps() -> list[socket.socket]:
    """Take every free descriptor below the highest one in use."""
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    return [socket.socket() for _ in range(highest)]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors can be limited and counted on Linux only")
async def test_out_of_descriptors_is_our_own_fault(simulator: SpawnedSimulator) -> None:
    """K15: the provider is not blamed for what this machine ran out of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with opened(CHAT.provider, base_url(simulator.url, CHAT.provider)) as provider:
        run = attempt(provider, job(CHAT.provider, CHAT.model(QUICK), profile()))
        fillers = fill_the_gaps()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            outcome = await run.run()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                filler.close()
    assert isinstance(outcome, Failure)
    assert verdict(outcome) == ("local", "local_resource", "connect")

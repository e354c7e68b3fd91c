"""Runs of Bedrock through aioboto3: the row, every failure by its name after one request, and cutting off."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import process_time
from typing import Any

import anyio
import pytest

from llmbench.measure.exchange import Limits
from llmbench.messages import Failure, Outcome, Sample
from llmbench.providers.aws_credentials import Keys
from llmbench.providers.base import Provider
from llmbench.providers.bedrock import Bedrock
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.flavours import sequence_of
from llmbench.simulator.sigv4 import ACCESS_KEY_ID
from tests.clouds import AWS_REGION, aws_environment
from tests.faults.support import assert_clean, verdict
from tests.runs import (
    CONVERSE,
    KEY,
    QUICK,
    attempt,
    base_url,
    job,
    opened,
    profile,
    run_at,
    run_family,
    run_once,
    settings,
    tls_simulator,
)

WORDS = "ttft1-gap0-tok8"
SMALL: dict[str, Any] = {"max_tokens": 8}


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> None:
    aws_environment(monkeypatch)


# the row


async def test_a_good_run_is_one_complete_row(simulator: SpawnedSimulator) -> None:
    """Counts, chunks, finish reason, request id, times, clock, from one request."""
    ran = await run_family(simulator, CONVERSE, "ttft5-gap5")
    row = ran.sample
    assert (row.outcome, row.request_mode, row.finish_reason, row.clock) == ("ok", "converse", "max_tokens", "kernel")
    assert (row.output_tokens, row.visible_stream_chunks, row.warnings) == (64, 64, None)
    assert sequence_of(row.request_id or "") == ran.request.sequence
    assert row.endpoint == base_url(simulator.url, "bedrock")
    assert row.misc["provider_timings"]["latency"] > 0


async def test_reasoning_is_timed_apart(simulator: SpawnedSimulator) -> None:
    """Its text comes first; ConverseStream counts it in with the rest."""
    row = (await run_family(simulator, CONVERSE, "rtok5-ttft20-gap5", validation_policy="reasoning")).sample
    assert row.time_to_first_reasoning_token is not None
    assert row.time_to_first_token is not None
    assert row.time_to_first_reasoning_token < row.time_to_first_token
    assert (row.output_tokens, row.visible_stream_chunks) == (64, 59)


async def test_a_custom_authority_makes_tls_work(tmp_path: Path) -> None:
    """With ``ca_file``; the handshake has a time of its own."""
    with tls_simulator(tmp_path, "127.0.0.1") as tls:
        async with opened("bedrock", base_url(tls.url, "bedrock"), ca_file=tls.ca_file) as provider:
            row = await attempt(provider, job("bedrock", CONVERSE.model(WORDS), profile(**SMALL))).run()
        untrusted = await run_at(base_url(tls.url, "bedrock"), "bedrock", CONVERSE.model(WORDS))
    assert isinstance(row, Sample)
    assert (row.tls_time or 0) > 0
    assert isinstance(untrusted, Failure)
    assert verdict(untrusted) == ("network", "tls", "connect")


# errors


@pytest.mark.parametrize(
    ("words", "kind", "cause", "says"),
    [
        ("429-retry7", "rate_limit", "rate_limited", "Too many requests"),
        ("quota", "rate_limit", "rate_limited", "Too many tokens per day"),
        ("401", "auth", "auth", "security token"),
        ("402", "billing", "billing", "payment instrument"),
        ("403", "hard_model", "model_gone", "don't have access"),
        ("404", "hard_model", "model_gone", "model identifier"),
        ("400", "hard_capability", "bad_request", "Malformed input"),
        ("408", "transient_provider", "server_error", "timed out"),
        ("424", "transient_provider", "server_error", "error during processing"),
        ("500", "transient_provider", "server_error", "error during processing"),
        ("502", "transient_provider", "server_error", "Bad Gateway"),
        ("529", "transient_provider", "server_error", "not ready"),
        ("html403", "auth", "auth", "Just a moment..."),
        ("html404", "configuration", "protocol", "Just a moment..."),
        ("redirect", "configuration", "protocol", "HTTP 302 with an empty body"),
        ("hangup", "network", "protocol", "closed the connection"),
        ("errormid3-429", "rate_limit", "stream_error", "Too many requests"),
        ("errorobj-503", "transient_provider", "stream_error", "unable to process"),
        (f"truncate3-{QUICK}", "malformed_stream", "truncated", "middle of the body"),
        (f"badcrc3-{QUICK}", "malformed_stream", "malformed", "checksum"),
    ],
)
async def test_a_failure_is_named_after_one_request(
    simulator: SpawnedSimulator, words: str, kind: str, cause: str, says: str
) -> None:
    """No error makes the SDK ask a second time, and none is lost on its way through it."""
    ran = await run_family(simulator, CONVERSE, words)
    failure = ran.failure
    assert len(ran.requests) == 1
    assert (failure.error_kind, failure.error_cause) == (kind, cause)
    assert says in failure.message
    assert failure.retry_after == (7.0 if "retry" in words else None)
    assert failure.error_kind != "internal"
    assert_clean(failure)


async def test_a_model_that_needs_a_profile_says_so(simulator: SpawnedSimulator) -> None:
    """The id without its geography is refused, and the advice names what to use."""
    failure = (await run_once(simulator, "bedrock", f"anthropic.claude-sim-{WORDS}")).failure
    assert verdict(failure) == ("hard_model", "model_gone", "generate")
    assert "inference profile" in failure.advice


async def test_what_goes_wrong_before_a_connection_is_named(free_tcp_port: int) -> None:
    """Nothing listens; nothing resolves."""
    refused = await run_at(f"http://127.0.0.1:{free_tcp_port}/bedrock", "bedrock", "m")
    unknown = await run_at("http://bedrock.llmbench.invalid/bedrock", "bedrock", "m")
    assert isinstance(refused, Failure)
    assert isinstance(unknown, Failure)
    assert verdict(refused) == ("network", "connect_refused", "connect")
    assert verdict(unknown) == ("network", "dns", "connect")
    assert "region" in unknown.advice


async def test_an_echo_tells_nothing_of_the_keys(simulator: SpawnedSimulator) -> None:
    """A server that repeats the header finds it masked in the row."""
    failure = (await run_family(simulator, CONVERSE, "echo")).failure
    assert "AWS4-HMAC-SHA256" in failure.message
    assert ACCESS_KEY_ID not in failure.message
    assert failure.message.endswith("Signature=***")


async def test_an_echo_tells_nothing_of_a_bearer_token(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor of an API key."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    failure = (await run_family(simulator, CONVERSE, "echo")).failure
    assert "***" in failure.message
    assert_clean(failure)


# cancellation


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections, by its backlog, and never reads or answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/bedrock"


async def test_a_run_can_be_cut_off_while_the_answer_is_awaited(silent_server: str) -> None:
    """The SDK's call is cancelled where it waits; the next run of the same provider is sound."""
    async with opened("bedrock", silent_server) as provider:
        for _ in range(2):
            outcome = await cut_off(provider, "m", 0.05)
            assert outcome.http_status is None
    gc.collect()


@pytest.mark.parametrize("words", ["silent", f"stall3-{QUICK}"])
async def test_a_run_can_be_cut_off_in_the_stream(simulator: SpawnedSimulator, words: str) -> None:
    """What had come is kept, the connection is closed, and the SDK's stream too."""
    since = simulator.counts().requests
    async with opened("bedrock", base_url(simulator.url, "bedrock")) as provider:
        outcome = await cut_off(provider, CONVERSE.model(words), 0.2)
        again = await attempt(provider, job("bedrock", CONVERSE.model(WORDS), profile(**SMALL))).run()
    gc.collect()
    assert outcome.http_status == 200
    assert again.outcome == "ok"
    assert [record.status for record in simulator.requests(since=since)] == [200, 200]


async def cut_off(provider: Provider, model_id: str, seconds: float) -> Failure:
    run = attempt(provider, job("bedrock", model_id, profile()))
    with anyio.move_on_after(seconds) as scope:
        await run.run()
    assert scope.cancelled_caught
    outcome: Outcome = run.cancelled()
    assert isinstance(outcome, Failure)
    assert verdict(outcome) == ("local", "cancelled", "generate")
    return outcome


async def test_a_stream_is_closed_whatever_happens(simulator: SpawnedSimulator) -> None:
    """Also if who reads it raises."""
    async with opened("bedrock", base_url(simulator.url, "bedrock")) as provider:
        prepared = provider.prepare(job("bedrock", CONVERSE.model(WORDS), profile()).model, profile(), "hello")
        async with provider.exchange(Limits()) as exchange:
            await provider.connect(exchange, prepared)
            with exchange.current(), pytest.raises(LookupError):
                async with prepared.send():
                    raise LookupError("the reader")


# what it costs


async def test_a_restarted_lane_opens_at_once() -> None:
    """All that takes long is shared in the process: opening one more takes a few milliseconds of the loop."""
    async with opened("bedrock", "http://127.0.0.1:9/bedrock"):
        begun = process_time()
        provider = Bedrock(settings("bedrock", "http://127.0.0.1:9/bedrock"), None)
        provider._credentials = Keys("key", "secret", None)
        await provider._client(AWS_REGION)
        spent = process_time() - begun
        await provider.close()
    assert spent < 0.025

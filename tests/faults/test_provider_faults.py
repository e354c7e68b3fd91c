"""The provider rows of the fault matrix, injected for real: what is refused, and what never connects."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anyio
import pytest
import trustme

from llmbench.measure.transport import StartGate
from llmbench.messages import Failure, Outcome, Sample
from llmbench.simulator import SpawnedSimulator, spawn_simulator
from tests.faults.support import assert_clean, every_family, failed, verdict
from tests.runs import (
    CHAT,
    MESSAGES,
    QUICK,
    RESPONSES,
    Family,
    attempt,
    base_url,
    job,
    opened,
    profile,
    run_family,
)

# what the provider refuses


@every_family
async def test_P1_a_rate_limit_says_how_long(simulator: SpawnedSimulator, family: Family) -> None:
    """429 with Retry-After: the pause that the lane has to make is in the outcome."""
    failure = await failed(simulator, family, "429-retry7")
    assert verdict(failure) == ("rate_limit", "rate_limited", "generate")
    assert (failure.http_status, failure.retry_after) == (429, 7.0)
    assert "providers." in failure.advice


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        ("retrydate30", 30.0),
        ("retry1.5", 1.5),
        ("retryjunk", None),
        ("retryneg", None),
        ("retry1000000000", 900.0),
    ],
)
async def test_P2_retry_after_is_believed_within_reason(
    simulator: SpawnedSimulator, word: str, seconds: float | None
) -> None:
    """A date counts from the server's own, junk and negative numbers say nothing, a quarter of an hour is the most."""
    failure = await failed(simulator, CHAT, f"429-{word}")
    assert verdict(failure) == ("rate_limit", "rate_limited", "generate")
    assert failure.retry_after == (None if seconds is None else pytest.approx(seconds, abs=1.1))


@every_family
@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_P3_server_errors_are_one_outcome_each(simulator: SpawnedSimulator, family: Family, status: int) -> None:
    """No retry inside the run, and the provider's words are kept."""
    failure = await failed(simulator, family, str(status))
    assert verdict(failure) == ("transient_provider", "server_error", "generate")
    assert failure.http_status == status
    assert failure.request_id is not None
    phases = {"connect_time", "time_to_first_byte", "generate_time", "client_lag_max", "connection_reused"}
    assert failure.partial.keys() == phases, "nothing was streamed, so no speed was measured"


# what never connects


async def refused(url: str, family: Family = CHAT, ca_file: str | None = None, **limits: float) -> Failure:
    """Make one run at an address where it can't connect."""
    more: dict[str, Any] = {} if ca_file is None else {"ca_file": ca_file}
    async with opened(family.provider, base_url(url, family.provider), **more) as provider:
        outcome = await attempt(provider, job(family.provider, family.model("x"), profile(**limits))).run()
    assert isinstance(outcome, Failure)
    assert_clean(outcome)
    assert outcome.partial == {}, "nothing was sent, so nothing was measured"
    return outcome


@contextmanager
def bound() -> Iterator[socket.socket]:
    """Yield a socket on a port of its own that does not listen yet."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def url_of(sock: socket.socket, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("family", [CHAT, MESSAGES], ids=lambda family: family.mode)
async def test_P4_a_refused_connection_is_told_at_once(family: Family) -> None:
    """Nobody listens: within a second, with a word on what to check."""
    with bound() as sock:
        start = perf_counter()
        failure = await refused(url_of(sock), family)
    assert verdict(failure) == ("network", "connect_refused", "connect")
    assert perf_counter() - start < 1.5
    assert "base_url" in failure.advice


async def test_P5_a_connection_that_hangs_ends_at_its_limit() -> None:
    """The listener never accepts, and its queue is full."""
    with bound() as sock:
        sock.listen(0)
        fillers = list(filled(sock))
        start = perf_counter()
        failure = await refused(url_of(sock), connect_timeout_seconds=0.3)
        took = perf_counter() - start
        for filler in fillers:
            filler.close()
    assert verdict(failure) == ("network", "connect_timeout", "connect")
    assert 0.3 <= took < 1.5


def filled(listener: socket.socket) -> Iterator[socket.socket]:
    """Connect to the listener until it takes no more."""
    while True:
        filler = socket.socket()
        filler.settimeout(0.1)
        yield filler
        try:
            filler.connect(listener.getsockname())
        except TimeoutError:
            return


async def test_P6_a_name_that_does_not_resolve_is_dns() -> None:
    """The top-level domain ``invalid`` has no names (RFC 6761)."""
    failure = await refused("http://llmbench.invalid")
    assert verdict(failure) == ("network", "dns", "connect")


@contextmanager
def tls_server(folder: Path, name: str, expired: bool = False) -> Iterator[SpawnedSimulator]:
    """Run a simulator with a certificate for this name, signed by the authority in ``ca.pem``."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    not_after = datetime.now(UTC) - timedelta(days=1) if expired else None
    certificate = folder / "server.pem"
    ca.issue_cert(name, not_after=not_after).private_key_and_cert_chain_pem.write_to_path(certificate)
    with spawn_simulator(tls_cert=str(certificate), tls_key=str(certificate)) as spawned:
        yield spawned


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "reason"),
    [
        ("127.0.0.1", False, False, "unable to get local issuer certificate"),
        ("127.0.0.1", True, True, "certificate has expired"),
        ("example.org", False, True, "is not valid for '127.0.0.1'"),
    ],
    ids=["unknown-authority", "expired", "wrong-name"],
)
async def test_P7_a_bad_certificate_is_refused(
    tmp_path: Path, name: str, expired: bool, trusted: bool, reason: str
) -> None:
    """The reason is told, and there is no second try without verification."""
    with tls_server(tmp_path, name, expired) as server:
        failure = await refused(server.url, ca_file=str(tmp_path / "ca.pem") if trusted else None)
    assert verdict(failure) == ("network", "tls", "connect")
    assert reason in failure.message
    assert "ca_file" in failure.advice


async def test_P7_a_handshake_with_a_server_that_speaks_no_tls_is_tls(simulator: SpawnedSimulator) -> None:
    """It is cut off, and no request in the clear follows."""
    since = simulator.counts().requests
    failure = await refused(simulator.url.replace("http:", "https:"))
    assert verdict(failure) == ("network", "tls", "connect")
    assert "check the port and http:// versus https:// in providers." in failure.advice
    assert failure.message.count("WRONG_VERSION_NUMBER") == 1
    assert simulator.requests(since=since) == []


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


@every_family
async def test_P24_an_unpaid_bill_is_billing(simulator: SpawnedSimulator, family: Family) -> None:
    """402, and the 429 or 400 that really mean the same."""
    for word, status in (("402", 402), ("quota", 400 if family is MESSAGES else 429)):
        failure = await failed(simulator, family, word)
        assert verdict(failure) == ("billing", "billing", "generate")
        assert failure.http_status == status


async def test_P24_one_of_three_models_is_gone(simulator: SpawnedSimulator) -> None:
    """404 concerns that model alone: the others go on."""
    models = (f"{QUICK}-tok8", "404", f"{QUICK}-tok8")
    outcomes = [(await run_family(simulator, RESPONSES, words, max_tokens=8)).outcome for words in models]
    assert [type(outcome) for outcome in outcomes] == [Sample, Failure, Sample]
    gone = outcomes[1]
    assert isinstance(gone, Failure)
    assert verdict(gone) == ("hard_model", "model_gone", "generate")
    assert gone.model_name in gone.message


@pytest.mark.parametrize("family", [CHAT, MESSAGES], ids=lambda family: family.mode)
async def test_P24_other_refusals(simulator: SpawnedSimulator, family: Family) -> None:
    """401 and 403 are about the key, 400 about the request."""
    assert verdict(await failed(simulator, family, "401")) == ("auth", "auth", "generate")
    assert verdict(await failed(simulator, family, "403")) == ("auth", "auth", "generate")
    assert verdict(await failed(simulator, family, "400")) == ("hard_capability", "bad_request", "generate")


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

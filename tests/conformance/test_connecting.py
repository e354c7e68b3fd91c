"""Rows P4 to P7 of the fault matrix: what never connects, through each SDK's own way to the socket."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import trustme
from anyio.abc import ByteStream

from llmbench.messages import Failure, Sample
from llmbench.simulator import SpawnedSimulator
from tests.conformance.families import PATHS
from tests.conformance.scenario import names_of
from tests.faults.support import assert_clean, verdict
from tests.measure.support import serving
from tests.runs import CHAT, Family, attempt, base_url, job, opened, profile, tls_simulator

pytestmark = pytest.mark.usefixtures("clouds")

every_path = pytest.mark.parametrize("family", PATHS, ids=lambda family: names_of(family)[0])


async def refused(url: str, family: Family, ca_file: str | None = None, **limits: float) -> Failure:
    """Make one run at an address where it can't connect."""
    more: dict[str, Any] = {} if ca_file is None else {"ca_file": ca_file}
    async with opened(family.provider, base_url(url, family.provider), **more) as provider:
        outcome = await attempt(provider, job(family.provider, family.model("x"), profile(**limits))).run()
    assert isinstance(outcome, Failure)
    assert_clean(outcome)
    assert outcome.partial == {}, "nothing was sent, so nothing was measured"
    assert (outcome.http_status, outcome.stage) == (None, "connect")
    return outcome


@contextmanager
def bound() -> Iterator[socket.socket]:
    """Yield a socket on a port of its own that does not listen yet."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@every_path
async def test_P4_a_refused_connection_is_told_at_once(family: Family) -> None:
    """Nobody listens: no waiting, and a word on what to check."""
    with bound() as sock:
        failure = await refused(url_of(sock), family)
    assert verdict(failure) == ("network", "connect_refused", "connect")
    assert failure.ts - failure.run_ts < timedelta(seconds=2)
    assert "base_url" in failure.advice


@pytest.fixture(scope="module")
def deaf() -> Iterator[str]:
    """The address of a listener that never accepts, and whose queue is full."""
    with bound() as sock:
        sock.listen(0)
        fillers = list(filled(sock))
        yield url_of(sock)
        for filler in fillers:
            filler.close()


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


@every_path
async def test_P5_a_connection_that_hangs_ends_at_its_limit(deaf: str, family: Family) -> None:
    """Not before it, and long before the run's own limit of ten seconds."""
    start = perf_counter()
    failure = await refused(deaf, family, connect_timeout_seconds=0.3)
    assert verdict(failure) == ("network", "connect_timeout", "connect")
    assert 0.3 <= perf_counter() - start < 8


@every_path
async def test_P6_a_name_that_does_not_resolve_is_dns(family: Family) -> None:
    """The top-level domain ``invalid`` has no names (RFC 6761)."""
    failure = await refused("http://llmbench.invalid", family)
    assert verdict(failure) == ("network", "dns", "connect")


class Impostor:
    """Serves TLS with a certificate of an authority of its own, which is in the file ``ca``."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.requests = 0
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(self.ca)

    def serving(self, name: str, *, expired: bool) -> AbstractAsyncContextManager[str]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        not_after = datetime.now(UTC) - timedelta(days=1) if expired else None
        self._authority.issue_cert(name, not_after=not_after).configure_cert(context)
        return serving(self._listen, context)

    async def _listen(self, stream: ByteStream) -> None:
        await stream.receive()
        self.requests += 1


@every_path
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
    tmp_path: Path, family: Family, name: str, expired: bool, trusted: bool, reason: str
) -> None:
    """The reason is told, and there is no second try without verification."""
    impostor = Impostor(tmp_path)
    async with impostor.serving(name, expired=expired) as url:
        failure = await refused(url, family, ca_file=str(impostor.ca) if trusted else None)
    assert verdict(failure) == ("network", "tls", "connect")
    assert reason in failure.message
    assert "ca_file" in failure.advice
    assert impostor.requests == 0


@every_path
async def test_P7_a_handshake_with_a_server_that_speaks_no_tls_is_tls(
    simulator: SpawnedSimulator, family: Family
) -> None:
    """It is cut off, and no request in the clear follows."""
    since = simulator.counts().requests
    failure = await refused(simulator.url.replace("http:", "https:"), family)
    assert verdict(failure) == ("network", "tls", "connect")
    assert "check the port and http:// versus https:// in providers." in failure.advice
    assert failure.message.count("WRONG_VERSION_NUMBER") == 1
    assert [request for request in simulator.requests(since=since) if request.model is not None] == []


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpawnedSimulator]:
    """A simulator whose certificate an authority signed that only ``ca_file`` knows."""
    with tls_simulator(tmp_path_factory.mktemp("tls"), "127.0.0.1") as spawned:
        yield spawned


@every_path
async def test_P7_an_authority_of_ones_own_can_be_trusted(tls: SpawnedSimulator, family: Family) -> None:
    """With ``ca_file``; the handshake has a time of its own, outside of the time to first token."""
    work = job(family.provider, family.model("ttft5-gap1-tok8"), profile(max_tokens=8))
    async with opened(family.provider, base_url(tls.url, family.provider), ca_file=tls.ca_file) as provider:
        row = await attempt(provider, work).run()
    assert isinstance(row, Sample)
    assert (row.tls_time or 0) > 0
    assert row.endpoint.startswith("https://")


async def test_the_total_limit_holds_before_anything_is_sent() -> None:
    """A handshake that hangs, and a run that may take less than connecting may."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        async with opened(CHAT.provider, base_url(url, CHAT.provider)) as provider:
            limits = profile(timeout_seconds=0.2, connect_timeout_seconds=5.0)
            outcome = await attempt(provider, job(CHAT.provider, "m", limits)).run()
    assert isinstance(outcome, Failure)
    assert verdict(outcome) == ("timeout", "total_timeout", "timeout")
    assert (outcome.partial, outcome.http_status) == ({}, None)

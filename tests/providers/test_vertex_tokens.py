"""When Google's access tokens are renewed: ahead, once for all, and never within what is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import anyio
import msgspec
import pytest

from llmbench.messages import Failure, Outcome, Sample
from llmbench.providers.google_credentials import GoogleCredentials, TokenRefused, TokenUnavailable
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import digest
from tests.providers.google_tokens import (
    QUICK,
    asked,
    bearers,
    ends_in,
    run_of,
    token_server,
    vertex,
)
from tests.runs import GEMINI, VERTEX, Family, attempt, job, profile

pytestmark = pytest.mark.usefixtures("nothing_of_google")


async def test_fifty_runs_make_one_renewal(account: Callable[[str], None]) -> None:
    """They all wait for the one who asks, and use what comes of it."""
    async with token_server() as tokens:
        account(tokens.url)
        credentials = GoogleCredentials()
        await credentials.find()
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(credentials.renew)
        assert len(tokens.forms) == 1
        assert credentials.headers == {"Authorization": f"Bearer {tokens.last_token}"}


async def test_fifty_runs_share_one_refusal(account: Callable[[str], None]) -> None:
    """Each fails with it; the next one asks again."""
    refusals: list[str] = []

    async def renew() -> None:
        try:
            await credentials.renew()
        except TokenRefused as error:
            refusals.append(str(error))

    async with token_server() as tokens:
        account(tokens.url)
        tokens.status = "400 Bad Request"
        credentials = GoogleCredentials()
        await credentials.find()
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(renew)
        assert len(tokens.forms) == 1
        await renew()
        assert len(tokens.forms) == 2
    assert refusals == ["no access token was given: invalid_grant: Token has been expired or revoked"] * 51


async def test_a_renewal_that_is_cut_off_is_made_by_the_next(account: Callable[[str], None]) -> None:
    """Whoever waited behind it doesn't take it for one."""
    async with token_server() as tokens:
        account(tokens.url)
        credentials = GoogleCredentials()
        await credentials.find()
        tokens.free = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(credentials.renew)
            await tokens.asked.wait()
            tasks.cancel_scope.cancel()
        tokens.free.set()
        await credentials.renew()
        assert len(tokens.forms) == 2


@pytest.mark.parametrize("family", VERTEX, ids=lambda family: family.mode)
async def test_a_slow_token_endpoint_is_outside_of_every_time(
    simulator: SpawnedSimulator, account: Callable[[str], None], family: Family
) -> None:
    """The token takes 0.2 s, and the first byte comes as fast as ever."""
    async with token_server() as tokens:
        account(tokens.url)
        tokens.free = anyio.Event()
        async with vertex(simulator) as provider, anyio.create_task_group() as tasks:
            outcomes: list[Outcome] = []

            async def run() -> None:
                outcomes.append(await run_of(provider, family=family).run())

            tasks.start_soon(run)
            await tokens.asked.wait()
            await anyio.sleep(0.2)
            tokens.free.set()
    (row,) = outcomes
    assert isinstance(row, Sample)
    assert (row.gen_ts - row.run_ts).total_seconds() > 0.2
    assert (row.time_to_first_byte or 1) < 0.1
    assert row.generate_time < 0.15


@pytest.mark.parametrize(("ends_after", "renewals"), [(-10.0, 2), (120.0, 2), (3000.0, 1)])
async def test_a_token_is_renewed_before_its_end(
    simulator: SpawnedSimulator, account: Callable[[str], None], ends_after: float, renewals: int
) -> None:
    """One that has ended in mid-life, or does soon; the run's own request never waits for it."""
    since = simulator.counts().requests
    async with token_server() as tokens:
        account(tokens.url)
        async with vertex(simulator) as provider:
            await run_of(provider).run()
            ends_in(provider, ends_after)
            assert isinstance(await run_of(provider).run(), Sample)
    assert len(tokens.forms) == renewals
    assert bearers(simulator, since)[-1] == digest(f"Bearer {tokens.last_token}")


@pytest.mark.parametrize("family", VERTEX, ids=lambda family: family.mode)
async def test_a_token_that_the_api_refuses_is_not_used_again(
    simulator: SpawnedSimulator, account: Callable[[str], None], family: Family
) -> None:
    """The refused run fails, once; the next has a new token."""
    since = simulator.counts().requests
    async with token_server() as tokens:
        account(tokens.url)
        async with vertex(simulator) as provider:
            assert isinstance(await run_of(provider, "401", family).run(), Failure)
            assert isinstance(await run_of(provider, family=family).run(), Sample)
    assert len(tokens.forms) == 2
    assert len(set(bearers(simulator, since))) == len(bearers(simulator, since)) == 2


async def test_credentials_that_are_refused_are_an_auth_failure(
    simulator: SpawnedSimulator, account: Callable[[str], None]
) -> None:
    """A revoked key: the API is not asked, and the advice says how to get other credentials."""
    since = simulator.counts().requests
    async with token_server() as tokens:
        account(tokens.url)
        tokens.status = "400 Bad Request"
        async with vertex(simulator) as provider:
            outcome = await run_of(provider).run()
    assert isinstance(outcome, Failure)
    assert (outcome.error_kind, outcome.stage, outcome.exc_type) == ("auth", "connect", "llmbench.TokenRefused")
    assert "gcloud auth application-default login" in outcome.advice
    assert asked(simulator, since) == []


@pytest.mark.parametrize("broken", [True, False])
async def test_a_token_endpoint_in_trouble_is_nobodys_bad_key(
    simulator: SpawnedSimulator, account: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """Whether it can't be reached or answers with a 503, the run is tried again soon, and the lane stays open."""
    # google.auth itself tries three times, seconds apart
    monkeypatch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=lambda _seconds: None))
    async with token_server() as tokens:
        tokens.status = "503 Service Unavailable"
        account(tokens.url if broken else "http://127.0.0.1:9")
        async with vertex(simulator) as provider:
            outcome = await run_of(provider).run()
    assert isinstance(outcome, Failure)
    assert (outcome.error_kind, outcome.exc_type) == ("transient_provider", "llmbench.TokenUnavailable")
    assert "oauth2.googleapis.com" in outcome.advice


async def test_a_token_serves_on_while_no_other_can_be_had(
    simulator: SpawnedSimulator, account: Callable[[str], None], tmp_path: Path
) -> None:
    """Until its last minute; then the failure is the run's."""
    async with token_server() as tokens:
        account(tokens.url)
        async with vertex(simulator) as provider:
            await run_of(provider).run()
            provider._credentials._source._token_uri = "http://127.0.0.1:9"
            ends_in(provider, 120.0)
            assert isinstance(await run_of(provider).run(), Sample)
            ends_in(provider, 30.0)
            with pytest.raises(TokenUnavailable):
                await provider._credentials.renew()


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
async def test_an_endpoint_that_fails_is_asked_every_half_minute(
    account: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    """As long as the present token is good, the runs in between use it and wait for nothing; once, a line says so."""
    monkeypatch.setattr("google.auth._exponential_backoff.time", SimpleNamespace(sleep=lambda _seconds: None))
    async with token_server() as tokens:
        account(tokens.url)
        credentials = GoogleCredentials()
        await credentials.find()
        await credentials.renew()
        good, tokens.status = tokens.last_token, status
        credentials._source.expiry = (datetime.now(UTC) + timedelta(minutes=2)).replace(tzinfo=None)
        await credentials.renew()
        asked_once = len(tokens.forms)
        for _ in range(5):
            await credentials.renew()
        assert len(tokens.forms) == asked_once > 1
        assert credentials.bearer.token == good
        credentials._failed_at -= 31.0
        tokens.status = "200 OK"
        await credentials.renew()
    assert len(tokens.forms) == asked_once + 1
    assert credentials.bearer.token == tokens.last_token
    assert [record.message.partition(":")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "Google's access token was not renewed, and the present one is used on"
    ]


async def test_a_token_that_takes_longer_than_the_run_may_is_no_fault_of_the_providers(
    simulator: SpawnedSimulator, account: Callable[[str], None]
) -> None:
    """The limit of the run begins when the token is there."""
    async with token_server() as tokens:
        account(tokens.url)
        tokens.free = anyio.Event()
        async with vertex(simulator) as provider, anyio.create_task_group() as tasks:
            outcomes: list[Outcome] = []
            run = attempt(provider, job("vertex", GEMINI.model(QUICK), profile(max_tokens=8, timeout_seconds=0.25)))

            async def make() -> None:
                outcomes.append(await run.run())

            tasks.start_soon(make)
            await tokens.asked.wait()
            await anyio.sleep(0.3)
            tokens.free.set()
    assert isinstance(outcomes[0], Sample)


async def test_a_renewal_has_a_limit_of_its_own(
    simulator: SpawnedSimulator, account: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent endpoint is a failure of the token, and not of the provider, nor of the limit in the profile."""
    monkeypatch.setattr("llmbench.providers.google_credentials._RENEWAL_SECONDS", 0.1)
    async with token_server() as tokens:
        account(tokens.url)
        tokens.free = anyio.Event()
        async with vertex(simulator) as provider:
            outcome = await run_of(provider).run()
        tokens.free.set()
    assert isinstance(outcome, Failure)
    assert (outcome.error_kind, outcome.error_cause) == ("transient_provider", "server_error")
    assert outcome.message == "no access token came within 0.1 s"
    assert "oauth2.googleapis.com" in outcome.advice


@pytest.mark.parametrize("error", [KeyError("access_token"), AttributeError("rfind"), TypeError("no string")])
async def test_fields_that_are_missed_only_now_refuse_the_token(error: Exception) -> None:
    """google-auth looks at some only when it asks for a token, and raises whatever that makes it stumble over."""

    def refresh(_request: object) -> None:
        raise error

    credentials = GoogleCredentials()
    credentials._source = SimpleNamespace(token=None, expiry=None, refresh=refresh)
    with pytest.raises(TokenRefused, match="a field is missing, of the wrong type or unknown"):
        await credentials.renew()


async def test_nothing_keeps_the_program_from_its_end(account: Callable[[str], None]) -> None:
    """The thread of a renewal that was cut off is left to itself; Python waits for others when it exits."""
    async with token_server() as tokens:
        account(tokens.url)
        credentials = GoogleCredentials()
        await credentials.find()
        tokens.free = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(credentials.renew)
            await tokens.asked.wait()
            (left,) = [thread for thread in threading.enumerate() if "_refresh" in thread.name]
            tasks.cancel_scope.cancel()
        assert left.is_alive()
        assert left.daemon
        tokens.free.set()


async def test_a_lane_that_is_restarted_finds_file_and_token(
    simulator: SpawnedSimulator, account: Callable[[str], None]
) -> None:
    """Reading a key stops the event loop for 40 ms, and a token that is good is good for the next lane, too."""
    async with token_server() as tokens:
        account(tokens.url)
        for _ in range(2):
            async with vertex(simulator) as provider:
                assert isinstance(await run_of(provider).run(), Sample)
    assert len(tokens.forms) == 1


async def test_cutting_a_run_off_while_it_waits_for_a_token_leaves_nothing(
    simulator: SpawnedSimulator, account: Callable[[str], None]
) -> None:
    """No connection to the API was opened; that to the token endpoint closes with its answer."""
    async with token_server() as tokens:
        account(tokens.url)
        tokens.free = anyio.Event()
        async with vertex(simulator) as provider:
            since, run = simulator.counts().requests, run_of(provider)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run.run)
                await tokens.asked.wait()
                tasks.cancel_scope.cancel()
            assert isinstance(run.cancelled(), Failure)
            assert asked(simulator, since) == []
            tokens.free.set()
            assert isinstance(await run_of(provider).run(), Sample)


async def test_no_secret_of_the_file_gets_into_an_outcome(
    simulator: SpawnedSimulator, account: Callable[[str], None]
) -> None:
    """Neither key nor assertion, when the token endpoint refuses."""
    async with token_server() as tokens:
        account(tokens.url)
        tokens.status = "400 Bad Request"
        async with vertex(simulator) as provider:
            stored = msgspec.json.encode(await run_of(provider).run())
    assert tokens.forms[0]["assertion"][0].encode() not in stored
    assert b"PRIVATE KEY" not in stored

"""Bedrock's credentials: each source of the SDK's chain, what is said when there are none, and their renewal."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from llmbench.messages import Outcome, Sample
from llmbench.providers import aws_session
from llmbench.providers.aws_credentials import Bearer, Keys
from llmbench.providers.base import Provider, Unusable
from llmbench.providers.bedrock import Bedrock
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.aws import SESSION_TOKEN
from llmbench.simulator.record import digest
from llmbench.simulator.sigv4 import ACCESS_KEY_ID, EXPIRED_SESSION_TOKEN, SECRET_ACCESS_KEY
from tests.clouds import AWS_KEYS, aws_environment, no_aws
from tests.faults.support import assert_clean, verdict
from tests.runs import CONVERSE, KEY, Ran, attempt, base_url, job, opened, profile, run_family, settings

MODEL = "ttft1-gap0-tok8"
SMALL: dict[str, Any] = {"max_tokens": 8}
NOWHERE = "http://127.0.0.1:9/bedrock"


async def ran(simulator: SpawnedSimulator) -> Ran:
    return await run_family(simulator, CONVERSE, MODEL, **SMALL)


async def run_of(provider: Provider) -> Outcome:
    return await attempt(provider, job("bedrock", CONVERSE.model(MODEL), profile(**SMALL))).run()


async def unusable() -> str:
    """Return why the provider can't be used as this machine is set up; it must not be usable."""
    provider = Bedrock(settings("bedrock", NOWHERE), None)
    with pytest.raises(Unusable) as caught:
        await provider.check()
    await provider.close()
    return str(caught.value)


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def file_of(key: str, secret: str, profile_name: str = "default") -> str:
    return f"[{profile_name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"


# each source


async def test_keys_from_variables(simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature, and a session token if there is one, which is signed too. White space is no part of a key."""
    aws_environment(monkeypatch)
    assert "x-amz-security-token" not in (await ran(simulator)).request.headers
    aws_environment(monkeypatch, AWS_SESSION_TOKEN=f"{SESSION_TOKEN}\n", **AWS_KEYS)
    once = await ran(simulator)
    assert once.sample.outcome == "ok"
    assert once.request.headers["x-amz-security-token"] == digest(SESSION_TOKEN)


async def test_keys_from_a_profile(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shared credentials file, and the profile that AWS_PROFILE names."""
    path = written(tmp_path / "credentials", file_of(ACCESS_KEY_ID, SECRET_ACCESS_KEY, "bench"))
    aws_environment(monkeypatch, AWS_SHARED_CREDENTIALS_FILE=path, AWS_PROFILE="bench")
    assert (await ran(simulator)).sample.outcome == "ok"


@pytest.mark.skipif(shutil.which("cat") is None, reason="the credential process here is cat")
async def test_keys_from_a_process(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a profile's credential_process prints."""
    keys = {"Version": 1, "AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY}
    told = written(tmp_path / "keys.json", json.dumps(keys))
    path = written(tmp_path / "config", f"[default]\ncredential_process = cat {told}\n")
    aws_environment(monkeypatch, AWS_CONFIG_FILE=path)
    assert (await ran(simulator)).sample.outcome == "ok"


async def test_keys_from_an_instances_role(simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata service, version 2; its session token is sent, and nothing of that goes over the run's exchange."""
    aws_environment(monkeypatch, AWS_EC2_METADATA_SERVICE_ENDPOINT=simulator.url, AWS_EC2_METADATA_DISABLED="false")
    since = simulator.counts().requests
    async with opened("bedrock", base_url(simulator.url, "bedrock")) as provider:
        outcome = await run_of(provider)
    *asked, request = simulator.requests(since=since)
    assert outcome.outcome == "ok"
    assert request.headers["x-amz-security-token"] == digest(SESSION_TOKEN)
    assert {record.path.split("/")[1] for record in asked} == {"latest"}


async def test_a_bearer_token(simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no keys, and is preferred to them."""
    aws_environment(monkeypatch, AWS_BEARER_TOKEN_BEDROCK=KEY)
    assert (await ran(simulator)).request.headers["authorization"] == digest(f"Bearer {KEY}")
    aws_environment(monkeypatch, AWS_BEARER_TOKEN_BEDROCK=KEY, **AWS_KEYS)
    once = await ran(simulator)
    assert once.sample.outcome == "ok"
    assert once.request.headers["authorization"] == digest(f"Bearer {KEY}")
    assert "x-amz-date" not in once.request.headers


async def test_a_bearer_token_is_sent_without_the_white_space_around_it(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line end, as reading a file leaves one, would break the request's head."""
    aws_environment(monkeypatch, AWS_BEARER_TOKEN_BEDROCK=f" {KEY}\r\n")
    assert (await ran(simulator)).request.headers["authorization"] == digest(f"Bearer {KEY}")


@pytest.mark.parametrize("others", [{}, {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID}], ids=["no keys", "half a pair"])
async def test_with_a_bearer_token_nothing_else_is_looked_for(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, others: dict[str, str]
) -> None:
    """Not the metadata service, in the check or for a region opened later; half a pair of keys is no trouble."""
    metadata = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": simulator.url, "AWS_EC2_METADATA_DISABLED": "false"}
    aws_environment(monkeypatch, AWS_BEARER_TOKEN_BEDROCK=KEY, **metadata, **others)
    for shared in (aws_session._core, aws_session._session):
        shared.cache_clear()  # it might remember what it found in another test
    since = simulator.counts().requests
    provider = Bedrock(settings("bedrock", NOWHERE), None)
    await provider.check()
    await provider._client("eu-west-1")
    await provider.close()
    assert simulator.requests(since=since) == []


async def test_a_variable_that_is_empty_is_not_set(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container's environment often has them."""
    aws_environment(monkeypatch, AWS_BEARER_TOKEN_BEDROCK="", AWS_SESSION_TOKEN="", **AWS_KEYS)
    assert (await ran(simulator)).sample.outcome == "ok"


# none


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which variables to set."""
    no_aws(monkeypatch)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    said = await unusable()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK", "role"):
        assert name in said


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
async def test_a_profile_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Even where there are keys: the SDK refuses, so the message says what to unset."""
    aws_environment(monkeypatch, **{name: "typo"}, **AWS_KEYS)
    assert await unusable() == (
        f"{name} names the profile 'typo', which is in no file of this machine: unset {name}, or add it"
    )


async def test_half_a_pair_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other half is named."""
    aws_environment(monkeypatch, AWS_ACCESS_KEY_ID=ACCESS_KEY_ID)
    assert "AWS_SECRET_ACCESS_KEY" in await unusable()


async def test_a_file_that_is_no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says what the SDK says of it."""
    path = written(tmp_path / "config", "region = us-east-1\n")
    aws_environment(monkeypatch, AWS_CONFIG_FILE=path)
    assert "can't be had" in (said := await unusable())
    assert path in said


async def test_a_bearer_token_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would break the request's head; its value is not told."""
    aws_environment(monkeypatch, AWS_BEARER_TOKEN_BEDROCK="abcdefgh\r\nx-own: 1")
    said = await unusable()
    assert said.startswith("AWS_BEARER_TOKEN_BEDROCK holds a character")
    assert "abcdefgh" not in said


WRONG_ANSWERS = (
    "[]",
    "5",
    '"x"',
    "no JSON",
    '{"Version": 1}',
    '{"Version": 1, "AccessKeyId": null, "SecretAccessKey": null}',
    '{"Version": 1, "AccessKeyId": 5, "SecretAccessKey": "b"}',
    '{"Version": 1, "AccessKeyId": " ", "SecretAccessKey": "b"}',
    '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": 5}',
    '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": 5}',
    '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "99999999999999"}',
)


@pytest.mark.skipif(shutil.which("cat") is None, reason="the credential process here is cat")
@pytest.mark.parametrize("answer", WRONG_ANSWERS)
async def test_a_process_that_prints_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    """JSON of another form takes the lane down with a reason; it does not crash it."""
    told = written(tmp_path / "keys.json", answer)
    path = written(tmp_path / "config", f"[default]\ncredential_process = cat {told}\n")
    aws_environment(monkeypatch, AWS_CONFIG_FILE=path)
    assert (await unusable()).startswith("AWS credentials are set up, but can't be had (")


async def test_a_source_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even if it keeps the thread's own loop from its limit."""
    monkeypatch.setattr("llmbench.providers.aws_credentials._OUTER_LIMIT_SECONDS", 0.01)
    path = written(tmp_path / "config", "[default]\ncredential_process = sleep 1\n")
    aws_environment(monkeypatch, AWS_CONFIG_FILE=path)
    assert "no answer within 10 s" in await unusable()


async def test_a_lane_without_credentials_warms_up_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine lacks shows in the check."""
    no_aws(monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "typo")
    provider = Bedrock(settings("bedrock", NOWHERE), None)
    await provider.warm_up()
    with pytest.raises(Unusable):
        await provider.check()
    await provider.close()


def test_keys_are_not_shown() -> None:
    """Not by accident, in a traceback or a log."""
    assert SECRET_ACCESS_KEY not in repr(Keys(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None))
    assert KEY not in repr(Bearer(KEY))


# refused


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({**AWS_KEYS, "AWS_SECRET_ACCESS_KEY": "another-secret-0123456789"}, "InvalidSignatureException"),
        ({**AWS_KEYS, "AWS_ACCESS_KEY_ID": "AKIA0000000000000000"}, "UnrecognizedClientException"),
        ({**AWS_KEYS, "AWS_SESSION_TOKEN": EXPIRED_SESSION_TOKEN}, "ExpiredTokenException"),
    ],
)
async def test_keys_that_aws_refuses(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: str
) -> None:
    """One request, and the row says that it is the credentials."""
    aws_environment(monkeypatch, **variables)
    once = await ran(simulator)
    assert len(once.requests) == 1
    assert (once.failure.error_kind, once.failure.provider_error_code) == ("auth", code)
    assert_clean(once.outcome)


async def test_refused_keys_are_looked_up_anew(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that other software renews needs no restart."""
    path = written(tmp_path / "credentials", file_of(ACCESS_KEY_ID, "stale-secret-0123456789"))
    aws_environment(monkeypatch, AWS_SHARED_CREDENTIALS_FILE=path)
    async with opened("bedrock", base_url(simulator.url, "bedrock")) as provider:
        assert verdict_of(await run_of(provider)) == ("auth", "auth", "generate")
        written(tmp_path / "credentials", file_of(ACCESS_KEY_ID, SECRET_ACCESS_KEY))
        assert (await run_of(provider)).outcome == "ok"


def verdict_of(outcome: Outcome) -> tuple[str, str, str]:
    assert not isinstance(outcome, Sample)
    return verdict(outcome)


# renewal: a process that hands out keys for as long as a test wants


class Source:
    """A credential process, in a folder of its own. Its files say what it does; it counts how often it was asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        script = 'echo >> "$1/asked"; if [ -f "$1/delay" ]; then sleep "$(cat "$1/delay")"; fi; cat "$1/keys.json"'
        written(folder / "source.sh", script)
        self.config = written(folder / "config", f"[default]\ncredential_process = sh {folder}/source.sh {folder}\n")
        self.valid_for(timedelta(hours=1))

    def valid_for(self, time: timedelta) -> None:
        """From now on, keys end that far from now."""
        keys = {"AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY, "SessionToken": SESSION_TOKEN}
        end = f"{datetime.now(UTC) + time:%Y-%m-%dT%H:%M:%SZ}"
        written(self._folder / "keys.json", json.dumps({"Version": 1, **keys, "Expiration": end}))

    def takes(self, seconds: float) -> None:
        written(self._folder / "delay", str(seconds))

    def fails(self) -> None:
        (self._folder / "keys.json").unlink()

    def prints(self, text: str) -> None:
        written(self._folder / "keys.json", text)

    @property
    def asked(self) -> int:
        return len((self._folder / "asked").read_text())


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    found = Source(tmp_path)
    aws_environment(monkeypatch, AWS_CONFIG_FILE=found.config)
    return found


@pytest.fixture
async def provider(simulator: SpawnedSimulator) -> AsyncIterator[Provider]:
    """A provider that was not checked yet."""
    made = Bedrock(settings("bedrock", base_url(simulator.url, "bedrock")), None)
    await made.warm_up()
    yield made
    await made.close()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return how to let the time pass in which keys that are still good are not asked for again."""
    return lambda: monkeypatch.setattr("llmbench.providers.aws_credentials._HOLD_OFF_SECONDS", 0.0)


async def test_keys_that_last_are_asked_for_once(source: Source, provider: Provider) -> None:
    """By many runs at once, too."""
    outcomes: list[Outcome] = []
    source.takes(0.05)

    async def run() -> None:
        outcomes.append(await run_of(provider))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(run)
    assert [outcome.outcome for outcome in outcomes] == ["ok"] * 8
    assert source.asked == 1


async def test_renewal_takes_no_measured_time(source: Source, provider: Provider, later: Callable[[], None]) -> None:
    """A source that takes 0.15 s is waited for before the connection, let alone the request, begins."""
    later()
    source.valid_for(timedelta(minutes=5))
    await provider.check()
    before = source.asked
    source.takes(0.15)
    row = await run_of(provider)
    assert isinstance(row, Sample)
    assert source.asked > before
    assert row.connect_time is not None
    assert row.connect_time + row.generate_time < 0.1


async def test_keys_that_are_still_good_outlast_a_failing_source(
    source: Source, provider: Provider, caplog: pytest.LogCaptureFixture, later: Callable[[], None]
) -> None:
    """The renewal is ahead of time; a warning says that it failed."""
    later()
    source.valid_for(timedelta(minutes=9))
    await provider.check()
    source.fails()
    assert (await run_of(provider)).outcome == "ok"
    assert "AWS credentials were not renewed" in caplog.text


@pytest.mark.parametrize(
    "answer", [None, "[]", "5", "no JSON", '{"Version": 1, "AccessKeyId": 5, "SecretAccessKey": "b"}']
)
async def test_keys_that_ran_out_and_are_not_renewed(
    simulator: SpawnedSimulator, source: Source, provider: Provider, later: Callable[[], None], answer: str | None
) -> None:
    """Nothing is sent; the row says that it is the credentials, before there was a connection."""
    later()
    source.valid_for(timedelta(seconds=30))
    await provider.check()
    if answer is None:
        source.fails()
    else:
        source.prints(answer)
    since = simulator.counts().requests
    assert verdict_of(await run_of(provider)) == ("auth", "auth", "connect")
    assert simulator.requests(since=since) == []


async def test_good_keys_are_not_asked_for_again_and_again(source: Source, provider: Provider) -> None:
    """An instance's metadata has the next ones only minutes before the present ones end."""
    source.valid_for(timedelta(minutes=5))
    await provider.check()
    before = source.asked
    assert [(await run_of(provider)).outcome for _ in range(3)] == ["ok"] * 3
    assert source.asked == before


async def test_a_run_can_be_cut_off_while_keys_are_awaited(source: Source, provider: Provider) -> None:
    """It does not wait for the thread; the next run asks again."""
    source.takes(0.3)
    with anyio.move_on_after(0.05) as scope:
        await run_of(provider)
    assert scope.cancelled_caught
    source.takes(0)
    assert (await run_of(provider)).outcome == "ok"

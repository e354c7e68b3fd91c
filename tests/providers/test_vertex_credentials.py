"""Google's credentials: where they come from, and what is said when there are none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.oauth2.credentials
import pytest

from llmbench.messages import Sample
from llmbench.providers.base import Unusable
from llmbench.providers.google_credentials import GoogleCredentials
from llmbench.providers.openai_family import sender
from llmbench.providers.registry import open_provider
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import digest
from tests.clouds import GOOGLE_PROJECT
from tests.providers.google_tokens import FILE, account_file, asked, bearers, run_of, token_server, vertex
from tests.runs import VERTEX, Family, base_url, settings

IMPERSONATED = {
    "type": "impersonated_service_account",
    "source_credentials": {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"},
}
"""Without ``service_account_impersonation_url``, for which google-auth doesn't look before it takes it apart."""
EXTERNAL = {
    "type": "external_account",
    "audience": "a",
    "subject_token_type": "b",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": "no object",
}


pytestmark = pytest.mark.usefixtures("nothing_of_google")


# where they come from


@pytest.mark.parametrize("family", VERTEX, ids=lambda family: family.mode)
async def test_a_service_accounts_token_is_what_the_api_gets(
    simulator: SpawnedSimulator, account: Callable[[str], None], family: Family
) -> None:
    """A signed assertion for the scope of Google Cloud is exchanged for it, through each of the three SDKs."""
    since = simulator.counts().requests
    async with token_server() as tokens:
        account(tokens.url)
        async with vertex(simulator) as provider:
            assert isinstance(await run_of(provider, family=family).run(), Sample)
    assert tokens.forms[0]["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert bearers(simulator, since) == [digest(f"Bearer {tokens.last_token}")]


@pytest.mark.parametrize("family", VERTEX, ids=lambda family: family.mode)
async def test_what_gcloud_left_is_used_and_books_on_its_project(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, family: Family
) -> None:
    """A person's refresh token is exchanged, and the quota project goes along as a header."""
    document = {"type": "authorized_user", "client_id": "id", "client_secret": "s", "refresh_token": "1//r"}
    path = tmp_path / "application_default_credentials.json"
    path.write_text(json.dumps({**document, "quota_project_id": "quota-project"}))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # gcloud itself would be asked for its project
    since = simulator.counts().requests
    async with token_server() as tokens:
        monkeypatch.setattr(google.oauth2.credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{tokens.url}/token")
        async with vertex(simulator, project="p") as provider:
            assert isinstance(await run_of(provider, family=family).run(), Sample)
    assert (tokens.forms[0]["grant_type"], tokens.forms[0]["refresh_token"]) == (["refresh_token"], ["1//r"])
    (request,) = asked(simulator, since)
    assert request.headers["x-goog-user-project"] == "quota-project"


async def test_a_file_that_has_changed_is_read_again(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The project is that of the new one."""
    path = tmp_path / "key.json"
    monkeypatch.setenv(FILE, str(path))
    projects = []
    for project in (GOOGLE_PROJECT, "another-project"):
        account_file(simulator, path, project_id=project)
        credentials = GoogleCredentials()
        await credentials.find()
        projects.append(credentials.project)
    assert projects == [GOOGLE_PROJECT, "another-project"]


# what is said


async def unusable(simulator: SpawnedSimulator, **more: Any) -> str:
    with pytest.raises(Unusable) as caught:
        async with vertex(simulator, **more):
            pass
    return str(caught.value)


async def test_without_credentials_the_ways_to_give_some_are_named(simulator: SpawnedSimulator) -> None:
    """The variable, gcloud's command, and the machine's own account."""
    message = await unusable(simulator, project="p")
    assert message.startswith("no Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS to")
    assert "`gcloud auth application-default login`" in message


@pytest.mark.parametrize(
    ("name", "value"),
    [("GOOGLE_CLOUD_PROJECT", "../../evil?x=y#"), ("GOOGLE_CLOUD_LOCATION", "us_central1")],
)
async def test_a_variable_that_cannot_be_right_closes_the_lane(
    monkeypatch: pytest.MonkeyPatch, simulator: SpawnedSimulator, name: str, value: str
) -> None:
    """It would become part of an address; so it is held to the same rule as the key of config.toml, and named."""
    monkeypatch.setenv(name, value)
    provider = open_provider(settings("vertex", base_url(simulator.url, "vertex")), None)
    with pytest.raises(Unusable, match=f"environment variable '{name}' must be .*, not '{re.escape(value)}'"):
        await provider.check()
    await provider.close()


async def test_without_a_project_the_places_for_one_are_named(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An old key file names none."""
    monkeypatch.setenv(FILE, str(account_file(simulator, tmp_path / "old.json", project_id=None)))
    assert await unusable(simulator) == (
        "no Google Cloud project is known: set project under [providers.vertex], or GOOGLE_CLOUD_PROJECT"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("{", "it is no JSON object"),
        ("[]", "it is no JSON object"),
        ('{"type": "guest"}', "does not have a valid type"),
        ('{"type": "service_account"}', "Failed to load service account credentials"),
        ('{"type": "service_account", "private_key": "x", "client_email": "e", "token_uri": "t"}', "Failed to load"),
        ('{"type": "impersonated_service_account"}', "a field is missing, of the wrong type or unknown: Attribute"),
        (json.dumps(IMPERSONATED), "a field is missing, of the wrong type or unknown: AttributeError"),
        (json.dumps(EXTERNAL), "a field is missing, of the wrong type or unknown: AttributeError"),
    ],
)
async def test_a_file_that_cant_be_used_is_named_with_its_variable(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, reason: str
) -> None:
    """Missing, no JSON, of an unknown type, without a key or malformed: the sentence says which, and what to do."""
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(FILE, str(path))
    message = await unusable(simulator, project="p")
    assert message.startswith(f"{FILE} names '{path}', which can't be used (")
    assert reason in message
    assert message.endswith("correct it, or unset the variable to use other credentials")


@pytest.mark.parametrize("project", [5, ["p"], {}])
async def test_a_project_that_is_no_text_is_none(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, project: object
) -> None:
    """It would end up in the address of every request."""
    monkeypatch.setenv(FILE, str(account_file(simulator, tmp_path / "odd.json", project_id=project)))
    assert (await unusable(simulator)).startswith("no Google Cloud project is known")


async def test_a_bad_file_does_not_keep_the_sdks_cold(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The warm-up looks for it last: by then each of the three has made its first request."""
    monkeypatch.setenv(FILE, str(tmp_path / "missing.json"))
    warm = []

    def noted(*given: Any) -> Any:
        warm.append("chat")
        return sender(*given)

    monkeypatch.setattr("llmbench.providers.vertex.sender", noted)
    provider = open_provider(settings("vertex", base_url(simulator.url, "vertex")), None)
    with pytest.raises(Unusable):
        await provider.warm_up()
    await provider.close()
    assert warm == ["chat"]


async def test_a_folder_is_no_file_of_credentials(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable holds a folder's path."""
    monkeypatch.setenv(FILE, str(tmp_path))
    assert "Is a directory" in await unusable(simulator, project="p")

"""Before anything is measured: SDKs are warmed up and credentials looked for, one provider's trouble at a time."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from llmbench.actors.supervisor import Lane
from llmbench.cli.engine import make_lane, missing_credentials, warm_up
from llmbench.config import ResolvedProvider
from llmbench.providers.base import Provider
from llmbench.providers.openai_family import OpenAIFamily
from llmbench.providers.registry import open_provider
from tests.clouds import no_google
from tests.runs import KEY, settings

FILE = "GOOGLE_APPLICATION_CREDENTIALS"


class Faulty(OpenAIFamily):
    """A provider with a bug wherever it looks around."""

    async def warm_up(self) -> None:
        raise LookupError("warm-up")

    async def check(self) -> None:
        raise LookupError("check")


class Noted(OpenAIFamily):
    """A provider that keeps note of its warm-ups."""

    warm_ups = 0

    async def warm_up(self) -> None:
        await super().warm_up()
        Noted.warm_ups += 1


@pytest.fixture
def bad_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose one file of Google's has no address to ask at, which google-auth doesn't look for."""
    no_google(monkeypatch, "http://127.0.0.1:9")
    path = tmp_path / "impersonated.json"
    path.write_text(json.dumps({"type": "impersonated_service_account"}))
    monkeypatch.setenv(FILE, str(path))
    return path


def lane(name: str, made: type[OpenAIFamily]) -> Lane:
    found = settings(name, "http://127.0.0.1:9/v1")
    return Lane(settings=found, open=lambda: made(found, KEY))


async def test_a_lane_that_cant_be_warmed_up_leaves_the_others_theirs(caplog: pytest.LogCaptureFixture) -> None:
    """The trouble is in the log; the lane itself reports it when it starts."""
    Noted.warm_ups = 0
    await warm_up([lane("groq", Faulty), lane("openai", Noted)])
    assert Noted.warm_ups == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "groq could not be warmed up"
    assert record.exc_info is not None


async def test_a_malformed_file_of_google_is_left_to_its_lane(bad_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no bug, so nothing is logged; the next provider is warmed up."""
    Noted.warm_ups = 0
    vertex = make_lane(settings("vertex", "http://127.0.0.1:9/vertex", project="p"), {})
    await warm_up([vertex, lane("openai", Noted)])
    assert Noted.warm_ups == 1
    assert caplog.records == []
    (problem,) = await missing_credentials([vertex.settings])
    assert problem.startswith(f"vertex: {FILE} names '{bad_file}', which can't be used (")


async def test_a_bug_at_one_cloud_is_told_beside_the_others_problems(
    bad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both clouds have their sentence."""

    def opened(found: ResolvedProvider, key: str | None) -> Provider:
        return Faulty(found, key) if found.name == "bedrock" else open_provider(found, key)

    monkeypatch.setattr("llmbench.cli.engine.open_provider", opened)
    clouds = [settings("bedrock", "http://127.0.0.1:9"), settings("vertex", "http://127.0.0.1:9", project="p")]
    bedrock, vertex = await missing_credentials(clouds)
    assert bedrock == "bedrock: its credentials can't be looked for (LookupError: check): correct them"
    assert str(bad_file) in vertex

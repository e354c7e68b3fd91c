"""What goes over the wire: the request of each API, and nothing of the environment that nobody configured."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from llmbench.providers.presets import CLOUD_KINDS, PRESETS
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord, digest
from tests.runs import (
    CHAT,
    COMPLETIONS,
    FAMILIES,
    KEY,
    MESSAGES,
    PROMPT,
    RESPONSES,
    Family,
    Ran,
    attempt,
    base_url,
    job,
    opened,
    profile,
    run_family,
    run_once,
)

WORDS = "ttft1-gap0-tok8"
SMALL: dict[str, Any] = {"max_tokens": 8}
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-environment",
    "OPENAI_ORG_ID": "org-environment",
    "OPENAI_PROJECT_ID": "proj-environment",
    "OPENAI_BASE_URL": "http://environment.invalid/v1",
    "OPENAI_CUSTOM_HEADERS": "x-leak: openai",
    "ANTHROPIC_API_KEY": "sk-ant-environment",
    "ANTHROPIC_AUTH_TOKEN": "environment",
    "ANTHROPIC_BASE_URL": "http://environment.invalid",
    "ANTHROPIC_CUSTOM_HEADERS": "x-leak: anthropic",
    "HTTP_PROXY": "http://proxy.invalid:3128",
    "HTTPS_PROXY": "http://proxy.invalid:3128",
    "ALL_PROXY": "http://proxy.invalid:3128",
    "SSL_CERT_FILE": "/nonexistent",
}

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.mode)


def prompt_in(body: dict[str, Any]) -> str:
    """Return what was asked, wherever the API has it."""
    asked = body.get("prompt") or body.get("input") or body["messages"][0]["content"]
    assert isinstance(asked, str)
    return asked


def without_prompt(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("prompt", "input", "messages")}


async def small(simulator: SpawnedSimulator, family: Family, **changes: Any) -> Ran:
    return await run_family(simulator, family, WORDS, **(SMALL | changes))


# the body


@every_family
async def test_the_prompt_begins_with_a_nonce(simulator: SpawnedSimulator, family: Family) -> None:
    """A different one each time, so that no provider answers from its prompt cache."""
    prompts = [prompt_in((await small(simulator, family)).request.body) for _ in range(3)]
    assert all(re.fullmatch(rf"\[[0-9a-f]{{16}}\] {re.escape(PROMPT)}", prompt) for prompt in prompts)
    assert len(set(prompts)) == 3


async def test_a_chat_request_to_openai(simulator: SpawnedSimulator) -> None:
    """The budget under its present name, usage asked for, no padding of the deltas."""
    request = (await small(simulator, CHAT, temperature=0.0)).request
    assert request.path == "/openai/v1/chat/completions"
    assert without_prompt(request.body) == {
        "model": CHAT.model(WORDS),
        "max_completion_tokens": 8,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    }
    assert [message["role"] for message in request.body["messages"]] == ["user"]


async def test_a_chat_request_to_a_compatible_server(simulator: SpawnedSimulator) -> None:
    """The budget under the name that they all know, and no option that only OpenAI has."""
    request = (await run_once(simulator, "groq", f"sim-{WORDS}", temperature=0.0, **SMALL)).request
    assert without_prompt(request.body) == {
        "model": f"sim-{WORDS}",
        "max_tokens": 8,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_responses_request(simulator: SpawnedSimulator) -> None:
    """Nothing is stored at the provider, the effort is passed on, and a reasoning model gets no temperature."""
    request = (await small(simulator, RESPONSES, reasoning_effort="low")).request
    assert request.path == "/openai/v1/responses"
    assert without_prompt(request.body) == {
        "model": RESPONSES.model(WORDS),
        "max_output_tokens": 8,
        "reasoning": {"effort": "low"},
        "store": False,
        "stream": True,
    }


async def test_a_completions_request(simulator: SpawnedSimulator) -> None:
    """The legacy API: a prompt instead of messages."""
    request = (await small(simulator, COMPLETIONS, temperature=0.0)).request
    assert request.path == "/openai/v1/completions"
    assert without_prompt(request.body) == {
        "model": COMPLETIONS.model(WORDS),
        "max_tokens": 8,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_messages_request(simulator: SpawnedSimulator) -> None:
    """Anthropic's API: the temperature only if the profile has one."""
    expected = {"model": MESSAGES.model(WORDS), "max_tokens": 8, "stream": True}
    request = (await small(simulator, MESSAGES)).request
    assert request.path == "/anthropic/v1/messages"
    assert without_prompt(request.body) == expected
    request = (await small(simulator, MESSAGES, temperature=0.0)).request
    assert without_prompt(request.body) == {**expected, "temperature": 0.0}


@pytest.mark.parametrize("family", [CHAT, RESPONSES, COMPLETIONS], ids=lambda family: family.mode)
async def test_no_temperature_no_field(simulator: SpawnedSimulator, family: Family) -> None:
    """A profile without one leaves it out, and a null would be refused by some."""
    assert "temperature" not in (await small(simulator, family)).request.body


async def test_the_effort_goes_into_a_chat_request(simulator: SpawnedSimulator) -> None:
    """Under the name that the API has for it."""
    assert (await small(simulator, CHAT, reasoning_effort="high")).request.body["reasoning_effort"] == "high"


# the model's own fields


async def overridden(simulator: SpawnedSimulator, family: Family, request: dict[str, Any], **changes: Any) -> Ran:
    """Run a model whose catalogue row has request fields of its own."""
    since = simulator.counts().requests
    async with opened(family.provider, base_url(simulator.url, family.provider)) as provider:
        work = job(family.provider, family.model(WORDS), profile(**(SMALL | changes)), request)
        outcome = await attempt(provider, work).run()
    return Ran(outcome, simulator.requests(since=since))


@every_family
async def test_a_models_own_fields_go_into_the_body(simulator: SpawnedSimulator, family: Family) -> None:
    """They win over the profile's, and the row tells the temperature that was really sent."""
    ran = await overridden(simulator, family, {"temperature": 0.5, "x_own": [1, {"a": None}]}, temperature=0.0)
    body = ran.requests[0].body
    assert (body["temperature"], body["x_own"]) == (0.5, [1, {"a": None}])
    assert "api" not in body
    if family is not RESPONSES:  # there the simulated API refuses a temperature, as the real one does
        assert ran.sample.temperature == 0.5


async def test_thinking_excludes_a_temperature(simulator: SpawnedSimulator) -> None:
    """Anthropic's API refuses the two together."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    ran = await overridden(simulator, MESSAGES, {"thinking": thinking}, temperature=0.0)
    assert ran.request.body["thinking"] == thinking
    assert "temperature" not in ran.request.body
    assert ran.sample.temperature is None


@pytest.mark.parametrize(("api", "path"), [("responses", "responses"), ("chat", "chat/completions")])
async def test_a_model_can_name_its_api(simulator: SpawnedSimulator, api: str, path: str) -> None:
    """Whatever its id looks like; the word itself is not sent."""
    request = (await overridden(simulator, RESPONSES, {"api": api})).request
    assert request.path == f"/openai/v1/{path}"
    assert "api" not in request.body


# the headers


@every_family
async def test_a_request_has_the_key_and_asks_for_plain_bytes(simulator: SpawnedSimulator, family: Family) -> None:
    """One key, in the header of the API, and identity encoding."""
    headers = (await small(simulator, family)).request.headers
    assert {headers.get("authorization"), headers.get("x-api-key")} <= {digest(f"Bearer {KEY}"), digest(KEY), None}
    assert headers.get("authorization") or headers.get("x-api-key")
    assert headers["accept-encoding"] == "identity"
    assert KEY not in str(headers)


async def test_a_local_server_without_a_key_is_sent_none(simulator: SpawnedSimulator) -> None:
    """Not even a made-up one."""
    since = simulator.counts().requests
    async with opened("local", base_url(simulator.url, "local"), None, api_key_env="") as provider:
        outcome = await attempt(provider, job("local", f"sim-{WORDS}", profile(**SMALL))).run()
    (request,) = simulator.requests(since=since)
    assert outcome.outcome == "ok"
    assert not request.headers.keys() & {"authorization", "x-api-key", "api-key"}


@pytest.mark.parametrize("family", [CHAT, MESSAGES], ids=lambda family: family.mode)
async def test_configured_headers_are_sent(simulator: SpawnedSimulator, family: Family) -> None:
    """Those of the provider's table."""
    since = simulator.counts().requests
    async with opened(family.provider, base_url(simulator.url, family.provider), headers={"x-own": "yes"}) as provider:
        await attempt(provider, job(family.provider, family.model(WORDS), profile(**SMALL))).run()
    assert simulator.requests(since=since)[0].headers["x-own"] == "yes"


@pytest.mark.parametrize("name", sorted(name for name, preset in PRESETS.items() if preset.kind not in CLOUD_KINDS))
async def test_the_environment_does_not_leak(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No header, key, address, proxy or certificate comes from variables that the SDKs and httpx2 know."""
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    ran = await run_once(simulator, name, f"sim-{WORDS}", **SMALL)
    assert ran.sample.outcome == "ok"
    assert_nothing_leaked(ran.request, openai_itself=name == "openai")


def assert_nothing_leaked(request: RequestRecord, *, openai_itself: bool) -> None:
    """An organisation and a project are OpenAI's own affair, and go to nobody else."""
    sent = {"openai-organization", "openai-project"} & request.headers.keys()
    assert sent == ({"openai-organization", "openai-project"} if openai_itself else set())
    own = {name: value for name, value in request.headers.items() if name not in sent}
    assert "x-leak" not in own
    assert "environment" not in str(own)
    key = own.get("authorization") or own.get("x-api-key")
    assert key in (digest(f"Bearer {KEY}"), digest(KEY))


async def test_the_environment_is_put_back(simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hidden only while a client is made."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-leak: openai")
    async with opened("groq", base_url(simulator.url, "groq")):
        assert os.environ["OPENAI_CUSTOM_HEADERS"] == "x-leak: openai"

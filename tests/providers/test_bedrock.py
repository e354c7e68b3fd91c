"""Bedrock through aioboto3: requests as the server saw them, and regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmbench.messages import Failure
from llmbench.providers.base import Prepared, Provider, Unusable
from llmbench.providers.bedrock import Bedrock
from llmbench.simulator import SpawnedSimulator
from tests.clouds import AWS_REGION, aws_environment
from tests.faults.support import verdict
from tests.runs import (
    CONVERSE,
    PROMPT,
    Ran,
    attempt,
    base_url,
    job,
    opened,
    profile,
    run_family,
    settings,
)

WORDS = "ttft1-gap0-tok8"
SMALL: dict[str, Any] = {"max_tokens": 8}
CLAUDE = "us.anthropic.claude-opus-4-7-sim-ttft1-gap0-tok8"
ODD_ENVIRONMENT = {
    "AWS_ENDPOINT_URL": "http://environment.invalid",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://environment.invalid",
    "AWS_CA_BUNDLE": "/nonexistent",
    "AWS_MAX_ATTEMPTS": "5",
    "AWS_RETRY_MODE": "adaptive",
    "AWS_DEFAULTS_MODE": "auto",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_AUTH_SCHEME_PREFERENCE": "httpBearerAuth",
    "HTTP_PROXY": "http://proxy.invalid:3128",
    "HTTPS_PROXY": "http://proxy.invalid:3128",
}


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> None:
    aws_environment(monkeypatch)


async def small(simulator: SpawnedSimulator, **changes: Any) -> Ran:
    return await run_family(simulator, CONVERSE, WORDS, **(SMALL | changes))


async def asked(
    simulator: SpawnedSimulator, model_id: str, request: dict[str, Any] | None = None, /, **changes: Any
) -> Ran:
    """Run a model whose catalogue row has request fields of its own."""
    since = simulator.counts().requests
    async with opened("bedrock", base_url(simulator.url, "bedrock")) as provider:
        outcome = await attempt(provider, job("bedrock", model_id, profile(**(SMALL | changes)), request)).run()
    return Ran(outcome, simulator.requests(since=since))


def prepared_for(provider: Provider, model_id: str, region: str | None = None) -> Prepared:
    model = job("bedrock", model_id, profile()).model
    return provider.prepare(msgspec.structs.replace(model, region=region), profile(), "hello")


# the request


async def test_a_converse_request(simulator: SpawnedSimulator) -> None:
    """The prompt as one text block, budget and temperature in inferenceConfig, and nothing else."""
    request = (await small(simulator, temperature=0.0)).request
    assert request.path == f"/bedrock/model/{CONVERSE.model(WORDS)}/converse-stream"
    body = request.body
    (message,) = body.pop("messages")
    assert body == {"inferenceConfig": {"maxTokens": 8, "temperature": 0.0}}
    assert (message["role"], list(message["content"][0])) == ("user", ["text"])
    assert message["content"][0]["text"].endswith(f"] {PROMPT}")


async def test_no_temperature_no_field(simulator: SpawnedSimulator) -> None:
    """A profile without one leaves it out."""
    ran = await small(simulator)
    assert set(ran.request.body) == {"messages", "inferenceConfig"}
    assert ran.request.body["inferenceConfig"] == {"maxTokens": 8}
    assert (ran.sample.temperature, ran.sample.reasoning_effort) == (None, None)


async def test_the_headers_are_those_that_were_signed(simulator: SpawnedSimulator) -> None:
    """The simulator checks the signature; plain bytes are asked for."""
    headers = (await small(simulator)).request.headers
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"
    assert headers["amz-sdk-request"] == "attempt=1"
    assert "x-amz-date" in headers


@pytest.mark.parametrize(
    ("model_id", "path"),
    [
        (f"us.amazon.nova-sim-{WORDS}-v1:0", f"us.amazon.nova-sim-{WORDS}-v1%3A0"),
        (
            f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-sim-{WORDS}",
            f"arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-sim-{WORDS}",
        ),
    ],
    ids=["version", "arn"],
)
async def test_an_id_is_encoded_once(simulator: SpawnedSimulator, model_id: str, path: str) -> None:
    """Colons and slashes of an id are sent as the signature has them."""
    ran = await asked(simulator, model_id)
    assert ran.request.path == f"/bedrock/model/{path}/converse-stream"
    assert ran.sample.model_name == model_id


async def test_configured_headers_are_signed(simulator: SpawnedSimulator) -> None:
    """One of AWS's own would be refused otherwise."""
    since = simulator.counts().requests
    headers = {"x-amz-own": "yes", "x-own": "too"}
    async with opened("bedrock", base_url(simulator.url, "bedrock"), headers=headers) as provider:
        outcome = await attempt(provider, job("bedrock", CONVERSE.model(WORDS), profile(**SMALL))).run()
    assert outcome.outcome == "ok"
    (request,) = simulator.requests(since=since)
    assert (request.headers["x-amz-own"], request.headers["x-own"]) == ("yes", "too")


async def test_the_environment_does_not_leak(simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address, proxy, certificate, retry or other mode comes from variables that the SDK knows."""
    for name, value in ODD_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    ran = await small(simulator)
    assert ran.sample.outcome == "ok"
    assert ran.request.path.startswith("/bedrock/model/")
    assert len((await run_family(simulator, CONVERSE, "429")).requests) == 1


# reasoning, and a model's own fields

MORE = "additionalModelRequestFields"
ADAPTIVE: dict[str, Any] = {"thinking": {"type": "adaptive", "display": "summarized"}}
NO_THINKING: dict[str, Any] = {"thinking": {"type": "disabled"}}


@pytest.mark.parametrize(
    ("model_id", "fields"),
    [
        ("us.anthropic.claude-opus-4-7", ADAPTIVE | {"output_config": {"effort": "low"}}),
        ("us.amazon.nova-2-lite", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        ("openai.gpt-oss-120b", {"reasoning_effort": "low"}),
        ("us.deepseek.r1", None),
        ("us.amazon.nova-pro", None),
        ("us.meta.llama4-scout-17b-instruct", None),
        ("us.anthropic.claude-sonnet-4-5-20250929", None),
        ("us.anthropic.claude-3-7-sonnet-20250219", None),
        ("us.anthropic.claude-opus-4-20250514", None),
    ],
)
async def test_each_family_is_asked_to_reason_in_its_own_way(
    simulator: SpawnedSimulator, model_id: str, fields: dict[str, Any] | None
) -> None:
    """One that knows no effort is asked for none, and the row says so."""
    ran = await asked(simulator, f"{model_id}-sim-{WORDS}-v1:0", reasoning_effort="low")
    assert ran.request.body.get(MORE) == fields
    assert ran.sample.reasoning_effort == (None if fields is None else "low")


async def test_thinking_excludes_a_temperature(simulator: SpawnedSimulator) -> None:
    """Claude refuses the two together; the row tells what was sent."""
    ran = await asked(simulator, CLAUDE, temperature=0.0, reasoning_effort="high", validation_policy="reasoning")
    assert ran.request.body["inferenceConfig"] == {"maxTokens": 8}
    assert ran.request.body[MORE]["output_config"] == {"effort": "high"}
    assert (ran.sample.temperature, ran.sample.reasoning_effort) == (None, "high")


@pytest.mark.parametrize(("effort", "temperature"), [("low", 0.0), ("high", None)])
async def test_nova_excludes_a_temperature_at_its_highest_effort(effort: str, temperature: float | None) -> None:
    """Below that it takes one."""
    provider = Bedrock(settings("bedrock", "http://127.0.0.1:9/bedrock"), None)
    model = job("bedrock", "us.amazon.nova-2-lite-v1:0", profile()).model
    prepared = provider.prepare(model, profile(reasoning_effort=effort, temperature=0.0), "hello")
    assert (prepared.temperature, prepared.reasoning_effort) == (temperature, effort)


def claude(effort: str) -> dict[str, Any]:
    return ADAPTIVE | {"output_config": {"effort": effort}}


def nova(effort: str) -> dict[str, Any]:
    return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}


@pytest.mark.parametrize(
    ("model_id", "effort", "fields", "told", "temperature"),
    [
        ("us.anthropic.claude-opus-4-6", "none", NO_THINKING, "none", 0.0),
        ("us.anthropic.claude-opus-4-7", "none", None, None, 0.0),
        ("us.anthropic.claude-opus-5", "none", NO_THINKING, "none", 0.0),
        ("us.anthropic.claude-opus-5-5", "none", claude("low"), "low", None),
        ("us.anthropic.claude-fable-5", "none", claude("low"), "low", None),
        ("us.anthropic.claude-opus-4-7", "minimal", claude("low"), "low", None),
        ("us.anthropic.claude-sonnet-4-6", "xhigh", claude("high"), "high", None),
        ("us.anthropic.claude-sonnet-4-6", "max", claude("max"), "max", None),
        ("us.anthropic.claude-opus-4-7", "xhigh", claude("xhigh"), "xhigh", None),
        ("us.amazon.nova-2-lite", "none", {"reasoningConfig": {"type": "disabled"}}, "none", 0.0),
        ("us.amazon.nova-2-lite", "minimal", nova("low"), "low", 0.0),
        ("us.amazon.nova-2-lite", "medium", nova("medium"), "medium", 0.0),
        ("us.amazon.nova-2-lite", "xhigh", nova("high"), "high", None),
        ("us.amazon.nova-2-lite", "max", nova("high"), "high", None),
        ("openai.gpt-oss-20b", "none", {"reasoning_effort": "low"}, "low", 0.0),
        ("openai.gpt-oss-20b", "minimal", {"reasoning_effort": "low"}, "low", 0.0),
        ("openai.gpt-oss-20b", "max", {"reasoning_effort": "high"}, "high", 0.0),
    ],
)
async def test_each_effort_is_asked_for_in_the_familys_own_words(
    simulator: SpawnedSimulator,
    model_id: str,
    effort: str,
    fields: dict[str, Any] | None,
    told: str | None,
    temperature: float | None,
) -> None:
    """The row tells what was sent. Without thinking the temperature stays; the simulator refuses unknown efforts."""
    ran = await asked(simulator, f"{model_id}-sim-{WORDS}", temperature=0.0, reasoning_effort=effort)
    assert ran.request.body.get(MORE) == fields
    assert (ran.sample.reasoning_effort, ran.sample.temperature) == (told, temperature)


async def test_a_model_that_says_itself_whether_it_thinks_is_asked_nothing_more(simulator: SpawnedSimulator) -> None:
    """An effort beside its own word would be refused."""
    ran = await asked(simulator, CLAUDE.replace("4-7", "4-6"), {MORE: NO_THINKING}, reasoning_effort="high")
    assert ran.request.body[MORE] == NO_THINKING
    assert ran.sample.reasoning_effort == "none"


BUDGET = "us.anthropic.claude-opus-4-7-sim-ttft1-gap0-budget"


async def test_thinking_is_asked_to_be_shown(simulator: SpawnedSimulator) -> None:
    """Claude sends no text of it unasked, and then a budget that it has eaten could not be timed."""
    ran = await asked(simulator, BUDGET, reasoning_effort="low")
    assert ran.sample.outcome == "budget_exhausted"
    assert ran.sample.time_to_first_reasoning_token is not None


async def test_hidden_thinking_that_eats_the_budget(simulator: SpawnedSimulator) -> None:
    """Its signature says that there was some; nothing says when, and Bedrock does not count it."""
    ran = await asked(simulator, BUDGET, {MORE: {"thinking": {"type": "adaptive"}}})
    sample = ran.sample
    assert sample.outcome == "budget_exhausted"
    assert (sample.time_to_first_reasoning_token, sample.visible_output_tokens) == (None, None)


async def test_a_models_own_fields_are_merged(simulator: SpawnedSimulator) -> None:
    """At any depth; they win over the profile's, and the word that chooses an API is not sent."""
    own = {"inferenceConfig": {"temperature": 0.5, "topP": 0.9}, MORE: {"top_k": 5}, "api": "converse"}
    ran = await asked(simulator, CONVERSE.model(WORDS), own, temperature=0.0)
    assert ran.request.body["inferenceConfig"] == {"maxTokens": 8, "temperature": 0.5, "topP": 0.9}
    assert ran.request.body[MORE] == {"top_k": 5}
    assert ran.sample.temperature == 0.5


async def test_a_null_takes_a_field_out(simulator: SpawnedSimulator) -> None:
    """For a model that refuses what the profile asks of all of them."""
    own = {"inferenceConfig": {"temperature": None}}
    ran = await asked(simulator, CONVERSE.model(WORDS), own, temperature=0.0)
    assert ran.request.body["inferenceConfig"] == {"maxTokens": 8}
    assert ran.sample.temperature is None


async def test_older_claude_thinks_by_its_own_fields(simulator: SpawnedSimulator) -> None:
    """A budget in the catalogue's row excludes the temperature as well."""
    own = {MORE: {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
    ran = await asked(simulator, f"us.anthropic.claude-sonnet-4-5-20250929-sim-{WORDS}", own, temperature=0.0)
    assert ran.request.body[MORE] == own[MORE]
    assert "temperature" not in ran.request.body["inferenceConfig"]


async def test_a_field_that_the_operation_has_not_is_refused_here(simulator: SpawnedSimulator) -> None:
    """The SDK's validation says which; nothing is sent."""
    ran = await asked(simulator, CONVERSE.model(WORDS), {"noSuchField": 1})
    assert ran.requests == []
    assert verdict(ran.failure) == ("configuration", "bad_request", "generate")
    assert "noSuchField" in ran.failure.message


# regions


@pytest.mark.parametrize(
    ("region", "address"),
    [
        ("us-east-1", "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ("eu-central-1", "https://bedrock-runtime.eu-central-1.amazonaws.com"),
        ("us-gov-west-1", "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        ("xx-new-1", "https://bedrock-runtime.xx-new-1.amazonaws.com"),
    ],
)
async def test_a_region_has_its_host(region: str, address: str) -> None:
    """By the rule of its partition; the SDK takes it as it is."""
    provider = Bedrock(settings("bedrock", "", region=region), None)
    await provider.check()
    assert provider.endpoint == address
    assert prepared_for(provider, "m").endpoint == address
    assert (await provider._client(region)).meta.endpoint_url == address
    await provider.close()


async def test_which_region_a_model_is_asked_in() -> None:
    """Its own, else that of the table for it, else the provider's."""
    regions = {"of-the-table": "eu-west-1"}
    provider = Bedrock(settings("bedrock", "", region="us-west-2", model_regions=regions), None)
    assert "us-west-2" in prepared_for(provider, "m").endpoint
    assert "eu-west-1" in prepared_for(provider, "of-the-table").endpoint
    assert "ap-south-1" in prepared_for(provider, "of-the-table", "ap-south-1").endpoint


async def test_a_request_is_signed_for_its_models_region(simulator: SpawnedSimulator) -> None:
    """A base URL replaces every region's host, and not the region."""
    since = simulator.counts().requests
    async with opened("bedrock", base_url(simulator.url, "bedrock")) as provider:
        for region in (None, "eu-west-1"):
            work = job("bedrock", CONVERSE.model("echo"), profile(**SMALL))
            work = msgspec.structs.replace(work, model=msgspec.structs.replace(work.model, region=region))
            outcome = await attempt(provider, work).run()
            assert isinstance(outcome, Failure)
            assert f"/{region or AWS_REGION}/bedrock/aws4_request" in outcome.message
    assert len(simulator.requests(since=since)) == 2


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
async def test_a_region_from_a_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Both names are known."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv(name, "sa-east-1")
    assert "sa-east-1" in Bedrock(settings("bedrock", ""), None).endpoint


async def test_a_region_from_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last place that is looked at, in a thread."""
    monkeypatch.delenv("AWS_REGION")
    config = tmp_path / "config"
    config.write_text("[default]\nregion = ca-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    provider = Bedrock(settings("bedrock", ""), None)
    assert provider.endpoint == ""
    await provider.check()
    assert "ca-central-1" in provider.endpoint
    await provider.close()


async def test_no_region_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where to set it."""
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(Unusable, match=r"set region under \[providers.bedrock\], or AWS_REGION"):
        await Bedrock(settings("bedrock", ""), None).check()


async def no_region(**changes: Any) -> str:
    """Return what is said of a provider that has a region that is none."""
    provider = Bedrock(settings("bedrock", "http://127.0.0.1:9", **changes), None)
    with pytest.raises(Unusable) as caught:
        await provider.check()
    await provider.close()
    return str(caught.value)


async def test_an_impossible_region_is_unusable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would be part of a host name; what is said names where it came from."""
    correct = "'us east' is no region: correct "
    assert await no_region(region="us east") == f"{correct}region under [providers.bedrock]"
    assert await no_region(model_regions={"m": "us east"}) == f"{correct}model_regions under [providers.bedrock]"
    monkeypatch.delenv("AWS_REGION")
    config = tmp_path / "config"
    config.write_text("[default]\nregion = us east\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert await no_region() == f"{correct}the profile's region in ~/.aws/config"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us east")
    assert await no_region() == f"{correct}AWS_DEFAULT_REGION"

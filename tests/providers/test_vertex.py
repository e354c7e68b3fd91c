"""Vertex: what its three families are asked, where, and what comes of refusals. Real SDKs against the simulator."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import msgspec
import pytest

from llmbench.messages import Model, Outcome
from llmbench.providers.registry import open_provider
from llmbench.providers.vertex import UnaskableModel, api_for
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from tests.clouds import GOOGLE_PROJECT, google_environment
from tests.measure.support import open_sockets, until
from tests.runs import (
    GEMINI,
    VERTEX,
    VERTEX_CLAUDE,
    VERTEX_MAAS,
    Family,
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
PATHS = {
    "gemini": "publishers/google/models/gemini-2.5-sim-{words}:streamGenerateContent?alt=sse",
    "messages": "publishers/anthropic/models/claude-sim-{words}:streamRawPredict",
    "chat": "endpoints/openapi/chat/completions",
}
LEAKING = {
    "GOOGLE_API_KEY": "AIza-environment",
    "GEMINI_API_KEY": "AIza-environment",
    "GOOGLE_API_USE_MTLS_ENDPOINT": "always",
    "GOOGLE_GENAI_USE_VERTEXAI": "false",
    "GOOGLE_VERTEX_BASE_URL": "http://environment.invalid",
    "ANTHROPIC_VERTEX_BASE_URL": "http://environment.invalid",
    "ANTHROPIC_VERTEX_PROJECT_ID": "environment",
    "ANTHROPIC_CUSTOM_HEADERS": "x-leak: anthropic",
    "CLOUD_ML_REGION": "environment",
    "OPENAI_ORG_ID": "org-environment",
    "OPENAI_CUSTOM_HEADERS": "x-leak: openai",
    "HTTP_PROXY": "http://proxy.invalid:3128",
    "ALL_PROXY": "http://proxy.invalid:3128",
    "SSL_CERT_FILE": "/nonexistent",
}

every_family = pytest.mark.parametrize("family", VERTEX, ids=lambda family: family.mode)


@pytest.fixture(autouse=True)
def google(monkeypatch: pytest.MonkeyPatch, simulator: SpawnedSimulator) -> None:
    """Every test here has a service account of the simulator, and nothing of the developer's."""
    google_environment(monkeypatch, simulator.url)


def asked(requests: list[RequestRecord]) -> RequestRecord:
    """Return the one request to the API; more would be a hidden retry."""
    (request,) = [request for request in requests if not request.path.endswith("/token")]
    return request


async def sent(
    simulator: SpawnedSimulator,
    family: Family,
    model: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    **provider: Any,
) -> RequestRecord:
    """Make one good run, and return what the server saw."""
    since = simulator.counts().requests
    work = job("vertex", family.model(WORDS), profile(**(SMALL | (changes or {}))))
    work = msgspec.structs.replace(work, model=msgspec.structs.replace(work.model, **(model or {})))
    async with opened("vertex", base_url(simulator.url, "vertex"), **provider) as opened_provider:
        outcome = await attempt(opened_provider, work).run()
    assert outcome.outcome == "ok", outcome
    return asked(simulator.requests(since=since))


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def model_of(model_id: str, **fields: Any) -> Model:
    return msgspec.structs.replace(job("vertex", model_id, profile()).model, **fields)


# the request


@every_family
async def test_the_path_names_project_region_and_model(simulator: SpawnedSimulator, family: Family) -> None:
    """The project of the service account's own file, the default region, and the API that the model's id tells."""
    request = await sent(simulator, family)
    path = PATHS[family.mode].format(words=WORDS)
    assert request.path == f"/vertex/v1/projects/{GOOGLE_PROJECT}/locations/us-central1/{path}"


async def test_a_gemini_request(simulator: SpawnedSimulator) -> None:
    """Contents and two fields of the configuration; nothing of thinking unless an effort asks for it."""
    request = await sent(simulator, GEMINI, changes={"temperature": 0.0})
    assert [content["role"] for content in request.body["contents"]] == ["user"]
    assert without(request.body, "contents") == {"generationConfig": {"maxOutputTokens": 8, "temperature": 0.0}}


async def test_a_claude_request(simulator: SpawnedSimulator) -> None:
    """Anthropic's body, with the version in it and without the model, which is in the path."""
    body = (await sent(simulator, VERTEX_CLAUDE, changes={"temperature": 0.0})).body
    assert body["anthropic_version"]
    assert [message["role"] for message in body["messages"]] == ["user"]
    expected = {"max_tokens": 8, "stream": True, "temperature": 0.0}
    assert without(body, "anthropic_version", "messages") == expected


async def test_a_request_to_an_open_model(simulator: SpawnedSimulator) -> None:
    """Chat Completions as every compatible server knows them."""
    body = (await sent(simulator, VERTEX_MAAS, changes={"temperature": 0.0})).body
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert without(body, "messages") == {
        "model": VERTEX_MAAS.model(WORDS),
        "max_tokens": 8,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@every_family
async def test_a_models_own_fields_are_laid_over_the_body(simulator: SpawnedSimulator, family: Family) -> None:
    """Gemini's are merged into the configuration that the profile makes."""
    own: dict[str, Any] = {"generationConfig": {"topK": 3}} if family is GEMINI else {"top_k": 3}
    body = (await sent(simulator, family, {"request": own})).body
    expected = {"generationConfig": {"maxOutputTokens": 8, "topK": 3}} if family is GEMINI else own
    assert {name: body[name] for name in expected} == expected


@every_family
async def test_the_head_of_a_request(simulator: SpawnedSimulator, family: Family) -> None:
    """A token (the record has its digest), the configured headers, and no compression."""
    headers = (await sent(simulator, family, headers={"x-team": "bench"})).headers
    assert headers["authorization"].startswith("sha256:")
    assert (headers["x-team"], headers["accept-encoding"]) == ("bench", "identity")
    assert "x-goog-user-project" not in headers


@every_family
async def test_the_environment_changes_nothing(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    """Keys, addresses and headers that the SDKs would take from variables don't get into a request."""
    for name, value in LEAKING.items():
        monkeypatch.setenv(name, value)
    request = await sent(simulator, family)
    assert request.path.startswith(f"/vertex/v1/projects/{GOOGLE_PROJECT}/locations/us-central1/")
    assert not {"x-leak", "x-goog-api-key", "openai-organization"} & set(request.headers)


# which API


@pytest.mark.parametrize(
    ("model_id", "request_", "api"),
    [
        ("gemini-2.5-flash", None, "gemini"),
        ("claude-sonnet-4-5@20250929", None, "messages"),
        ("meta/llama-3.3-70b-instruct-maas", None, "chat"),
        ("deepseek-ai/deepseek-r1-0528-maas", None, "chat"),
        ("llama-4-scout-maas", None, "chat"),
        ("google/gemini-2.5-flash", None, "chat"),
        ("gemini-2.5-flash", {"api": "chat"}, "chat"),
        ("tuned", {"api": "gemini"}, "gemini"),
    ],
)
def test_the_api_follows_from_the_id(model_id: str, request_: dict[str, Any] | None, api: str) -> None:
    """Gemini and Claude by their names, what has a publisher in front by the compatible endpoint; or as told."""
    assert api_for(model_of(model_id, request=request_)) == api


@pytest.mark.parametrize("model_id", ["mistral-small-2503", "mistralai/mistral-small-2503", "text-bison"])
async def test_what_cant_be_asked_is_refused_before_anything_is_sent(
    simulator: SpawnedSimulator, model_id: str
) -> None:
    """The failure says that the model is at fault, and which ones can be asked."""
    since = simulator.counts().requests
    async with opened("vertex", base_url(simulator.url, "vertex")) as provider:
        outcome = await attempt(provider, job("vertex", model_id, profile())).run()
    assert outcome.outcome == "failed"
    assert (outcome.error_kind, outcome.error_cause) == ("configuration", "bad_request")
    assert f"'{model_id}' can't be asked" in outcome.message
    assert [request.path for request in simulator.requests(since=since) if request.model] == []


# regions


async def test_a_region_has_its_own_host() -> None:
    """By Google's rules; the global endpoint and the two multi-regions have other names than the rest."""
    provider = open_provider(settings("vertex", "", region="europe-west4", project="p"), None)
    shape = profile()

    def endpoint(region: str | None) -> str:
        return provider.prepare(model_of("gemini-2.5-flash", region=region), shape, "x").endpoint

    assert provider.endpoint == "https://europe-west4-aiplatform.googleapis.com"
    assert endpoint(None) == "https://europe-west4-aiplatform.googleapis.com"
    assert endpoint("us-east5") == "https://us-east5-aiplatform.googleapis.com"
    assert endpoint("global") == "https://aiplatform.googleapis.com"
    assert endpoint("eu") == "https://aiplatform.eu.rep.googleapis.com"
    with pytest.raises(UnaskableModel, match="is no region"):
        endpoint("evil.invalid/")
    await provider.close()


@pytest.mark.parametrize(
    ("of_model", "of_provider", "variables", "expected"),
    [
        ("eu", {"region": "us-east5", "model_regions": True}, {}, "eu"),
        (None, {"region": "us-east5", "model_regions": True}, {}, "europe-west1"),
        (None, {"region": "us-east5"}, {"GOOGLE_CLOUD_LOCATION": "us-west1"}, "us-east5"),
        (None, {}, {"GOOGLE_CLOUD_LOCATION": "us-west1", "GOOGLE_CLOUD_REGION": "us-west2"}, "us-west1"),
        (None, {}, {"GOOGLE_CLOUD_REGION": "us-west2"}, "us-west2"),
    ],
)
async def test_the_nearest_word_on_the_region_counts(
    simulator: SpawnedSimulator,
    monkeypatch: pytest.MonkeyPatch,
    of_model: str | None,
    of_provider: dict[str, Any],
    variables: dict[str, str],
    expected: str,
) -> None:
    """The model's own, the table's for this model, the table's, the environment's."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "model_regions" in of_provider:
        of_provider = {**of_provider, "model_regions": {GEMINI.model(WORDS): "europe-west1"}}
    request = await sent(simulator, GEMINI, {"region": of_model}, **of_provider)
    assert f"/locations/{expected}/" in request.path


@pytest.mark.parametrize(("project", "expected"), [("configured", "configured"), (None, "environment")])
async def test_the_project_is_the_configured_one_else_the_environments(
    simulator: SpawnedSimulator, monkeypatch: pytest.MonkeyPatch, project: str | None, expected: str
) -> None:
    """Both come before that of the credentials."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "environment")
    request = await sent(simulator, GEMINI, project=project)
    assert f"/projects/{expected}/" in request.path


@every_family
async def test_every_family_asks_in_the_models_region(simulator: SpawnedSimulator, family: Family) -> None:
    """Each SDK puts it into the path in its own way."""
    assert "/locations/us-east5/" in (await sent(simulator, family, {"region": "us-east5"})).path


# thinking


async def test_thoughts_of_gemini_are_shown_and_timed(simulator: SpawnedSimulator) -> None:
    """With an effort the request asks to see them; the row tells what was asked and what came."""
    since = simulator.counts().requests
    shape = {"reasoning_effort": "low", "validation_policy": "reasoning", "max_tokens": 64}
    row = (await run_family(simulator, GEMINI, "rtok5-ttft5-gap1", **shape)).sample
    request = asked(simulator.requests(since=since))
    expected = {"includeThoughts": True, "thinkingBudget": 32}
    assert request.body["generationConfig"] == {"maxOutputTokens": 64, "thinkingConfig": expected}
    assert row.time_to_first_reasoning_token is not None
    assert (row.reasoning_effort, row.reasoning_tokens, row.visible_output_tokens) == ("minimal", 5, 59)


async def test_an_effort_asks_claude_to_think(simulator: SpawnedSimulator) -> None:
    """Adaptively and visibly, and without a temperature, which thinking excludes."""
    shape = {"reasoning_effort": "low", "temperature": 0.0}
    body = (await sent(simulator, VERTEX_CLAUDE, changes=shape)).body
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "low"}
    assert "temperature" not in body


# what comes of it


@every_family
async def test_a_good_run(simulator: SpawnedSimulator, family: Family) -> None:
    """Stamped by the kernel, with the counts, and with the address but not the path that has the project in it."""
    since = simulator.counts().requests
    row = (await run_family(simulator, family, "ttft5-gap1")).sample
    request = asked(simulator.requests(since=since))
    assert (row.request_mode, row.clock, row.output_tokens) == (family.mode, "kernel", 64)
    assert row.endpoint == f"{simulator.url}/vertex"
    assert row.served_model == family.model("ttft5-gap1")
    assert row.finish_reason in ("MAX_TOKENS", "max_tokens", "length")
    assert (row.request_id is not None) == (family is VERTEX_CLAUDE)
    assert int((row.response_id or "")[-20:]) == request.sequence


@every_family
@pytest.mark.parametrize(
    ("words", "kind", "cause", "status"),
    [
        ("429", "rate_limit", "rate_limited", 429),
        ("quota", "rate_limit", "rate_limited", 429),
        ("403", "hard_model", "model_gone", 403),
        ("404", "hard_model", "model_gone", 404),
        ("redirect", "configuration", "protocol", 302),
        ("nocontent", "network", "protocol", 204),
        ("errormid3-429-ttft1-gap0", "rate_limit", "stream_error", 200),
    ],
)
async def test_refusals(
    simulator: SpawnedSimulator, family: Family, words: str, kind: str, cause: str, status: int
) -> None:
    """Google's own wording is understood through all three SDKs, and none of them asks twice."""
    ran = await run_family(simulator, family, words)
    assert asked(ran.requests).model == family.model(words)
    failure = ran.failure
    assert (failure.error_kind, failure.error_cause, failure.http_status) == (kind, cause, status)


async def test_a_blocked_prompt_is_the_profiles_fault(simulator: SpawnedSimulator) -> None:
    """Google answers with a 200 and the reason; the advice is to reword the prompt."""
    failure = (await run_family(simulator, GEMINI, "blocked-ttft1-gap0")).failure
    assert (failure.error_kind, failure.error_cause, failure.http_status) == ("configuration", "stream_error", 200)
    assert failure.message == "the prompt was blocked: PROHIBITED_CONTENT"
    assert failure.advice.startswith("reword the prompt")


@every_family
async def test_a_page_in_place_of_an_error_is_read_as_one(simulator: SpawnedSimulator, family: Family) -> None:
    """The message is the page's title, and the words of the status line are no code of the provider's."""
    failure = (await run_family(simulator, family, "html503")).failure
    assert (failure.message, failure.provider_error_code) == ("Just a moment...", None)


@every_family
@pytest.mark.parametrize("words", ["echo", "errorobj-echo", "errorbody-echo"])
async def test_no_token_gets_into_an_outcome(simulator: SpawnedSimulator, family: Family, words: str) -> None:
    """Even if the server repeats it, wherever it does."""
    failure = (await run_family(simulator, family, words)).failure
    assert "***" in failure.message
    assert b"ya29" not in msgspec.json.encode(failure)


def test_the_heavy_packages_are_not_loaded() -> None:
    """Nothing of the heavy packages is loaded for three REST APIs: they take ten seconds to import."""
    assert not {"vertexai", "google.cloud.aiplatform"} & set(sys.modules)


# cancellation


@every_family
@pytest.mark.parametrize(
    ("words", "phase"),
    [("noanswer", "headers"), ("stall3-ttft1-gap0", "body")],
)
async def test_a_run_that_is_cut_off_leaves_nothing_behind(
    simulator: SpawnedSimulator, family: Family, words: str, phase: str
) -> None:
    """Waiting for the head or in the stream: the socket is closed, and the outcome says what happened."""
    async with opened("vertex", base_url(simulator.url, "vertex")) as provider:
        await attempt(provider, job("vertex", family.model(WORDS), profile(**SMALL))).run()
        before = open_sockets()
        run = attempt(provider, job("vertex", family.model(words), profile(max_tokens=8)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.run)
            await until(lambda: run._exchange is not None and run._exchange.phase == phase)
            tasks.cancel_scope.cancel()
        assert open_sockets() <= before
    assert_cut_off(run.cancelled())


def assert_cut_off(outcome: Outcome) -> None:
    assert outcome.outcome == "failed"
    assert (outcome.error_kind, outcome.error_cause) == ("local", "cancelled")

"""What tells one provider from another, and what each of them refuses."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.simulator import SpawnedSimulator
from tests.simulator.support import Response, ask, ask_chat, chat

QUICK = "ttft5-gap1"
ANTHROPIC = {"anthropic-version": "2023-06-01"}
PROVIDERS = [
    "openai", "groq", "together", "fireworks", "deepinfra", "cerebras", "openrouter", "anthropic", "local", "any-other",
]  # fmt: skip


def _message(model: str = f"claude-sim-tok2-{QUICK}", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "stream": True, **more}


def _responses(model: str = f"sim-tok2-{QUICK}", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": "hi", "stream": True, **more}


def _without_key(simulator: SpawnedSimulator, path: str, body: object) -> Response:
    return ask(simulator, path, body, {"authorization": "", **ANTHROPIC})


@pytest.mark.parametrize(
    ("provider", "status", "body"),
    [
        ("openai", 404, {"error": {"type": "invalid_request_error", "param": None, "code": "model_not_found"}}),
        ("groq", 404, {"error": {"type": "invalid_request_error", "code": "model_not_found"}}),
        ("together", 404, {"error": {"type": "invalid_request_error", "code": "model_not_available"}}),
        ("fireworks", 404, {"error": {"object": "error", "code": "NOT_FOUND"}}),
        ("deepinfra", 404, {"error": {"code": "model_not_found"}}),
        ("cerebras", 404, {"type": "not_found_error", "code": "model_not_found"}),
        ("openrouter", 400, {"error": {"message": "gpt-9 is not a valid model ID", "code": 400}}),
        ("any-other", 404, {"error": {"type": "NotFoundError", "code": 404}}),
    ],
)
def test_an_unknown_model_is_refused_in_the_providers_words(
    simulator: SpawnedSimulator, provider: str, status: int, body: dict[str, Any]
) -> None:
    """A name without ``sim`` gets the provider's documented error."""
    response = ask_chat(simulator, "gpt-9", provider)
    assert response.status == status
    got = response.json()
    inner, expected = got.get("error", got), body.get("error", body)
    assert {**inner, **expected} == inner


def test_an_unknown_model_at_anthropic(simulator: SpawnedSimulator) -> None:
    """Anthropic's error says only which model."""
    response = ask(simulator, "/anthropic/v1/messages", _message("claude-9"), ANTHROPIC)
    assert response.status == 404
    assert response.json()["type"] == "error"
    assert response.json()["error"] == {"type": "not_found_error", "message": "model: claude-9"}
    assert response.json()["request_id"] == response.headers["request-id"]


def test_a_misspelt_word_is_a_bad_request(simulator: SpawnedSimulator) -> None:
    """The message names the word, so that a typo is found at once."""
    response = ask_chat(simulator, "sim-tftt200")
    assert response.status == 400
    assert "'tftt200'" in response.json()["error"]["message"]


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name not in ("local", "anthropic")])
def test_a_request_without_a_key_is_401(simulator: SpawnedSimulator, provider: str) -> None:
    """No Authorization, an empty one, one without a token: none of them is a key."""
    path, body = f"/{provider}/v1/chat/completions", chat(f"sim-{QUICK}")
    for authorization in ("", "Bearer ", "Basic abc"):
        assert ask(simulator, path, body, {"authorization": authorization}).status == 401


def test_local_servers_need_no_key(simulator: SpawnedSimulator) -> None:
    """Under ``local`` everyone is served."""
    assert _without_key(simulator, "/local/v1/chat/completions", chat(f"sim-tok1-{QUICK}")).status == 200


def test_anthropic_takes_its_own_header_or_a_bearer_token(simulator: SpawnedSimulator) -> None:
    """Either is a key; neither is a 401 of Anthropic's."""
    path = "/anthropic/v1/messages"
    assert ask(simulator, path, _message(), {"authorization": "", "x-api-key": "k", **ANTHROPIC}).status == 200
    assert ask(simulator, path, _message(), ANTHROPIC).status == 200
    refused = _without_key(simulator, path, _message())
    assert (refused.status, refused.json()["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (_message(max_tokens=None), ANTHROPIC, "max_tokens: Field required"),
        (_message(max_tokens=0), ANTHROPIC, "max_tokens: Input should be greater"),
        (_message(max_tokens="5"), ANTHROPIC, "max_tokens: Input should be a valid integer"),
        (_message(messages=[]), ANTHROPIC, "messages: at least one"),
        (_message(), {}, "anthropic-version: header is required"),
        (_message(stream=False), ANTHROPIC, "set 'stream' to true"),
        (b'{"model": ', ANTHROPIC, "not valid JSON"),
    ],
)
def test_anthropic_is_strict(simulator: SpawnedSimulator, body: object, headers: dict[str, str], message: str) -> None:
    """What the real API refuses is refused with 400 and a message that says why."""
    response = ask(simulator, "/anthropic/v1/messages", body, headers)
    assert response.status == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("chat/completions", chat(f"o3-sim-{QUICK}", max_tokens=5), 400, "max_tokens"),
        ("chat/completions", chat(f"gpt-5-sim-{QUICK}", temperature=0.2), 400, "temperature"),
        ("chat/completions", chat(f"sim-{QUICK}", max_tokens=5, max_completion_tokens=5), 400, "max_tokens"),
        ("chat/completions", chat(f"sim-{QUICK}", max_tokens=0), 400, "max_tokens"),
        ("chat/completions", chat(f"sim-{QUICK}", max_tokens=True), 400, "max_tokens"),
        ("chat/completions", chat(f"sim-{QUICK}", max_tokens=10**9), 400, "max_tokens"),
        ("chat/completions", chat(f"sim-{QUICK}", messages=[]), 400, "messages"),
        ("chat/completions", chat(f"sim-{QUICK}", stream=False), 400, "stream"),
        ("chat/completions", chat(f"sim-{QUICK}-instruct"), 404, "model"),
        ("chat/completions", {"messages": [1]}, 400, "model"),
        ("chat/completions", b"not json", 400, None),
        ("chat/completions", b'"text"', 400, None),
        ("completions", {"model": f"sim-{QUICK}", "prompt": "x", "stream": True}, 404, "model"),
        ("completions", {"model": f"sim-{QUICK}-instruct", "stream": True}, 400, "prompt"),
        ("responses", _responses(max_tokens=5), 400, "max_tokens"),
        ("responses", _responses(f"o3-sim-{QUICK}", temperature=0.2), 400, "temperature"),
        ("responses", _responses(max_output_tokens=-1), 400, "max_output_tokens"),
        ("responses", _responses(input=""), 400, "input"),
    ],
)
def test_openai_is_strict(simulator: SpawnedSimulator, path: str, body: object, status: int, param: str | None) -> None:
    """What the real API refuses is refused, naming the parameter."""
    response = ask(simulator, f"/openai/v1/{path}", body)
    assert response.status == status
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["message"]


def test_reasoning_models_are_taken_as_they_are_elsewhere(simulator: SpawnedSimulator) -> None:
    """OpenAI's rules for its models are not those of others who serve a model of that name."""
    assert ask_chat(simulator, f"o3-sim-tok1-{QUICK}", "openrouter", max_tokens=5, temperature=0.2).status == 200
    assert ask_chat(simulator, f"o3-sim-tok1-{QUICK}", max_completion_tokens=5, temperature=1).status == 200


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [({"max_tokens": 3}, 3), ({"max_completion_tokens": 4}, 4), ({}, 256)],
)
def test_the_limit_is_honoured_by_either_name(simulator: SpawnedSimulator, limits: dict[str, int], tokens: int) -> None:
    """Without ``tok`` an answer is as long as the request allows."""
    assert len(ask_chat(simulator, "sim-ttft5-gap0", **limits).texts()) == tokens


def test_groq_puts_usage_into_x_groq(simulator: SpawnedSimulator) -> None:
    """The last chunk carries counts and times in x_groq, and usage of its own once asked for."""
    last = ask_chat(simulator, "sim-ttft20-gap10-tok2", "groq").events()[-1]
    assert last["x_groq"]["usage"]["completion_tokens"] == 2
    assert last["x_groq"]["usage"]["prompt_time"] == 0.02
    assert "usage" not in last
    asked = ask_chat(simulator, f"sim-tok2-{QUICK}", "groq", stream_options={"include_usage": True}).events()
    assert asked[-1]["usage"]["completion_tokens"] == 2
    assert asked[-1]["choices"] == []


@pytest.mark.parametrize("provider", ["together", "fireworks", "deepinfra", "cerebras"])
def test_usage_comes_with_the_finish_reason(simulator: SpawnedSimulator, provider: str) -> None:
    """These providers count in the chunk that ends the choice, unasked."""
    last = ask_chat(simulator, f"sim-tok2-{QUICK}", provider).events()[-1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == 2


def test_cerebras_tells_its_times(simulator: SpawnedSimulator) -> None:
    """time_info comes with the finish reason, there and wherever ``timeinfo`` asks for it."""
    for provider, model in (("cerebras", f"sim-tok2-{QUICK}"), ("any-other", f"sim-timeinfo-tok2-{QUICK}")):
        times = ask_chat(simulator, model, provider).events()[-1]["time_info"]
        assert times["total_time"] == pytest.approx(times["prompt_time"] + times["completion_time"])


def test_xgroq_works_anywhere(simulator: SpawnedSimulator) -> None:
    """The word gives any provider groq's place for usage."""
    last = ask_chat(simulator, f"sim-xgroq-tok2-{QUICK}", "any-other").events()[-1]
    assert last["x_groq"]["usage"]["completion_tokens"] == 2


def test_openrouter_sends_comments(simulator: SpawnedSimulator) -> None:
    """Its keep-alive comment comes before anything else."""
    body = ask_chat(simulator, f"sim-tok1-{QUICK}", "openrouter").body
    assert body.startswith(b": OPENROUTER PROCESSING\n\ndata: {")


def test_openai_hides_reasoning_in_chat(simulator: SpawnedSimulator) -> None:
    """No delta shows it; usage counts it, and with ``budget`` there is nothing but that."""
    options = {"include_usage": True}
    events = ask_chat(simulator, f"o3-sim-rtok3-tok2-{QUICK}", stream_options=options).events()
    details = events[-1]["usage"]["completion_tokens_details"]
    assert (events[-1]["usage"]["completion_tokens"], details["reasoning_tokens"]) == (5, 3)
    assert all(set(event["choices"][0]["delta"]) <= {"role", "content"} for event in events[:-1])
    spent = ask_chat(simulator, f"o3-sim-budget-{QUICK}", max_completion_tokens=6, stream_options=options)
    assert spent.texts() == []
    assert spent.events()[-2]["choices"][0]["finish_reason"] == "length"
    assert spent.events()[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6


def test_responses_end_without_done(simulator: SpawnedSimulator) -> None:
    """The terminator is an event; with ``noend`` even that is missing."""
    whole = ask(simulator, "/openai/v1/responses", _responses())
    cut = ask(simulator, "/openai/v1/responses", _responses(f"sim-noend-tok2-{QUICK}"))
    assert whole.events()[-1]["type"] == "response.completed"
    assert cut.events()[-1]["type"] == "response.output_item.done"
    assert b"[DONE]" not in whole.body + cut.body


def test_anthropic_noend_stops_before_message_stop(simulator: SpawnedSimulator) -> None:
    """The stop reason comes, the terminator does not."""
    response = ask(simulator, "/anthropic/v1/messages", _message(f"sim-noend-tok2-{QUICK}"), ANTHROPIC)
    assert response.events()[-1]["type"] == "message_delta"


def test_anthropic_can_spend_all_on_thinking(simulator: SpawnedSimulator) -> None:
    """With ``budget`` there is only a thinking block, and max_tokens as the reason."""
    response = ask(simulator, "/anthropic/v1/messages", _message(f"sim-budget-{QUICK}"), ANTHROPIC)
    deltas = [event["delta"]["type"] for event in response.events() if event["type"] == "content_block_delta"]
    assert deltas == ["thinking_delta"] * 5 + ["signature_delta"]
    assert response.events()[-2]["delta"]["stop_reason"] == "max_tokens"
    assert response.events()[-2]["usage"]["output_tokens_details"]["thinking_tokens"] == 5


def test_headers_are_the_providers(simulator: SpawnedSimulator) -> None:
    """The request id has the provider's name for it; a rate-limited answer says that nothing is left."""
    openai = ask_chat(simulator, f"sim-tok1-{QUICK}").headers
    assert openai["content-type"] == "text/event-stream; charset=utf-8"
    assert openai["transfer-encoding"] == "chunked"
    assert openai["x-request-id"].startswith("req_")
    assert openai["openai-processing-ms"].isdigit()
    assert openai["x-ratelimit-remaining-requests"] == "9999"
    assert "GMT" in openai["date"]
    anthropic = ask(simulator, "/anthropic/v1/messages", _message(), ANTHROPIC).headers
    assert anthropic["request-id"].startswith("req_")
    assert "x-request-id" not in anthropic
    assert ask_chat(simulator, "sim-429").headers["x-ratelimit-remaining-requests"] == "0"


def test_lists_of_models(simulator: SpawnedSimulator) -> None:
    """OpenAI's shape for most, Anthropic's with pages; what is listed can be run."""
    listed = ask(simulator, "/groq/v1/models", method="GET").json()
    assert listed["object"] == "list"
    assert {"id", "object", "created", "owned_by"} == set(listed["data"][0])
    pages, after = list[list[str]](), ""
    while True:
        page = ask(simulator, f"/anthropic/v1/models?limit=2{after}", headers=ANTHROPIC, method="GET").json()
        pages.append([model["id"] for model in page["data"]])
        if not page["has_more"]:
            break
        after = f"&after_id={page['last_id']}"
    assert [len(page) for page in pages] == [2, 1]
    assert ask_chat(simulator, listed["data"][1]["id"], "groq", max_tokens=2).status == 200


def test_one_model_can_be_looked_up(simulator: SpawnedSimulator) -> None:
    """A model that would run is there; another is 404."""
    assert ask(simulator, "/openai/v1/models/meta%2Fsim-tok3", method="GET").json()["id"] == "meta/sim-tok3"
    assert ask(simulator, "/openai/v1/models/gpt-9", method="GET").status == 404
    assert ask(simulator, "/openai/v1/models/sim-nonsense", method="GET").status == 404


def test_addresses_that_do_not_exist(simulator: SpawnedSimulator) -> None:
    """A wrong path is 404, a wrong method 405, in the provider's shape."""
    assert ask(simulator, "/openai/v1/embeddings", chat("sim")).json()["error"]["message"] == "Invalid URL"
    for path in ("/", "//", "*"):
        assert ask(simulator, path, method="OPTIONS").status == 404
    assert ask(simulator, "/openai/v1/chat/completions", method="GET").status == 405
    assert ask(simulator, "/openai/v1/models", b"{}").status == 405


def test_real_path_prefixes_work_too(simulator: SpawnedSimulator) -> None:
    """What a provider has between its host and the API may stay in the base URL."""
    for base in ("/groq/openai/v1", "/fireworks/inference/v1", "/deepinfra/v1/openai", "/openrouter/api/v1"):
        assert ask(simulator, f"{base}/chat/completions", chat(f"sim-tok1-{QUICK}")).status == 200

"""Vertex AI's three families, its errors and its token endpoint."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from llmbench.simulator import SpawnedSimulator
from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.events import Decoder, End, Event, Finish, Malformed, ReasoningDelta, StreamFault, TextDelta, Usage
from llmbench.wire.gemini import GeminiDecoder
from llmbench.wire.openai_chat import ChatDecoder
from tests.simulator.support import LIMIT, Response, ask, chat, connected, read_until, request_bytes

QUICK = "ttft2-gap0"
PROJECT = "/vertex/v1/projects/some-project/locations/us-east5"
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]
MESSAGES = [{"role": "user", "content": "hi"}]
FAMILIES = ("gemini", "claude", "maas")
DECODERS: dict[str, type[Decoder]] = {"gemini": GeminiDecoder, "claude": MessagesDecoder, "maas": ChatDecoder}
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def _gemini_path(model: str) -> str:
    return f"{PROJECT}/publishers/google/models/{model}:streamGenerateContent?alt=sse"


def _config(**config: Any) -> dict[str, Any]:
    return {"contents": CONTENTS, "generationConfig": {"maxOutputTokens": 20, **config}}


def _claude(**more: Any) -> dict[str, Any]:
    return {"anthropic_version": "vertex-2023-10-16", "messages": MESSAGES, "max_tokens": 20, "stream": True, **more}


def _request(family: str, words: str) -> tuple[str, dict[str, Any]]:
    match family:
        case "gemini":
            return _gemini_path(f"gemini-sim-{words}"), _config(thinkingConfig={"includeThoughts": True})
        case "claude":
            return f"{PROJECT}/publishers/anthropic/models/claude-sim-{words}:streamRawPredict", _claude()
        case _:
            return f"{PROJECT}/endpoints/openapi/chat/completions", chat(f"meta/sim-{words}-maas", max_tokens=20)


def _ask(simulator: SpawnedSimulator, family: str, words: str, headers: dict[str, str] | None = None) -> Response:
    path, body = _request(family, words)
    return ask(simulator, path, body, headers)


def _error(response: Response) -> dict[str, Any]:
    """Return Google's error; where a client has not asked for server-sent events, it is in a list."""
    body = response.json()
    error: dict[str, Any] = (body[0] if isinstance(body, list) else body)["error"]
    return error


def _decoded(simulator: SpawnedSimulator, family: str, words: str) -> list[Event]:
    response = _ask(simulator, family, f"{words}-{QUICK}")
    assert response.status == 200, response.body
    decoder = DECODERS[family]()
    events = [*decoder.feed(response.body), *decoder.finish()]
    assert decoder.unknown_events == 0
    return events


def _count(events: list[Event], kind: type) -> int:
    return sum(isinstance(event, kind) for event in events)


every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
@pytest.mark.parametrize("words", ["tok7", "tok7-crlf", "tok7-unicode", "tok7-comments", "tok7-burst3", "rtok3-tok7"])
def test_a_stream_is_understood_to_its_end(simulator: SpawnedSimulator, family: str, words: str) -> None:
    """Our own decoders read seven tokens, the reasoning, a finish, the counts and an end."""
    events = _decoded(simulator, family, words)
    reasoning = 3 if "rtok" in words else 0
    assert (_count(events, TextDelta), _count(events, ReasoningDelta)) == (7, reasoning)
    assert _count(events, Finish) == 1
    assert [event.output_tokens for event in events if isinstance(event, Usage)][-1] == 7 + reasoning
    assert isinstance(events[-1], End)
    assert _count(events, Malformed) == _count(events, StreamFault) == 0


@every_family
@pytest.mark.parametrize(("words", "texts"), [("errorobj", 0), ("errormid3-503", 3), ("errorstr", 0)])
def test_an_error_in_the_stream_is_understood(simulator: SpawnedSimulator, family: str, words: str, texts: int) -> None:
    """It is a fault with a message, and no end follows."""
    events = _decoded(simulator, family, words)
    (fault,) = (event for event in events if isinstance(event, StreamFault))
    assert fault.message
    assert (_count(events, TextDelta), _count(events, End)) == (texts, 0)


@every_family
@pytest.mark.parametrize(("words", "texts"), [("badjson3-tok7", 2), ("flood1", 0)])
def test_a_broken_event_is_understood_as_broken(
    simulator: SpawnedSimulator, family: str, words: str, texts: int
) -> None:
    """What came before it counts, and nothing comes after it."""
    events = _decoded(simulator, family, words)
    assert _count(events, TextDelta) == texts
    assert isinstance(events[-1], Malformed)


@every_family
def test_a_missing_end_is_missed(simulator: SpawnedSimulator, family: str) -> None:
    """``noend`` leaves out the terminator; Gemini has none, so there it leaves out the finish reason."""
    events = _decoded(simulator, family, "noend-tok2")
    assert (_count(events, TextDelta), _count(events, End)) == (2, 0)
    assert _count(events, Finish) == (0 if family == "gemini" else 1)


@every_family
@pytest.mark.parametrize("word", ["truncate2", "reset2", "badchunk2"])
def test_a_body_is_cut_short(simulator: SpawnedSimulator, family: str, word: str) -> None:
    """Two tokens, then the connection goes wrong; the record says that it was meant to."""
    model_path, body = _request(family, f"{word}-{QUICK}")
    response = ask(simulator, model_path, body)
    record = simulator.requests(provider="vertex")[-1]
    assert not response.complete
    assert record.ended == "fault"
    assert len(record.writes_ns) == 2


@every_family
@pytest.mark.parametrize(
    ("word", "code", "status", "reason"),
    [
        ("400", 400, "INVALID_ARGUMENT", None),
        ("401", 401, "UNAUTHENTICATED", "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ("402", 403, "PERMISSION_DENIED", "BILLING_DISABLED"),
        ("403", 403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED"),
        ("404", 404, "NOT_FOUND", None),
        ("429-retry7", 429, "RESOURCE_EXHAUSTED", None),
        ("quota", 429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"),
        ("500", 500, "INTERNAL", None),
        ("503", 503, "UNAVAILABLE", None),
        ("529", 503, "UNAVAILABLE", None),
    ],
)
def test_errors_are_googles(
    simulator: SpawnedSimulator, family: str, word: str, code: int, status: str, reason: str | None
) -> None:
    """Whoever's model it is, an error response is Google's; in a list unless server-sent events were asked for."""
    response = _ask(simulator, family, word)
    error = _error(response)
    assert (response.status, error["code"], error["status"]) == (code, code, status)
    assert [detail["reason"] for detail in error.get("details", [])] == ([reason] if reason else [])
    assert isinstance(response.json(), list) == (family != "gemini")
    assert response.headers.get("retry-after") == ("7" if "retry7" in word else None)


def test_a_rate_limit_is_told_from_a_quota(simulator: SpawnedSimulator) -> None:
    """Both are RESOURCE_EXHAUSTED: one says to try again, the other to ask for more."""
    assert "Please try again later" in _error(_ask(simulator, "gemini", "429"))["message"]
    assert "Please submit a quota increase request" in _error(_ask(simulator, "gemini", "quota"))["message"]


def test_errors_in_claudes_stream_are_anthropics(simulator: SpawnedSimulator) -> None:
    """Behind the head, it is Anthropic who speaks."""
    event = _ask(simulator, "claude", f"errormid1-529-{QUICK}").events()[-1]
    assert (event["type"], event["error"]["type"]) == ("error", "overloaded_error")


def test_errors_in_geminis_stream_are_googles(simulator: SpawnedSimulator) -> None:
    """The event has nothing but the error, and the body ends properly."""
    response = _ask(simulator, "gemini", f"errormid1-429-{QUICK}")
    error = response.events()[-1]["error"]
    assert (error["code"], error["status"], response.complete) == (429, "RESOURCE_EXHAUSTED", True)


@every_family
@pytest.mark.parametrize("authorization", ["", "Bearer ", "Basic abc"])
def test_a_bearer_token_is_needed(simulator: SpawnedSimulator, family: str, authorization: str) -> None:
    """Nothing else will do, not even Anthropic's header."""
    response = _ask(simulator, family, QUICK, {"authorization": authorization, "x-api-key": "sk-ant-1"})
    assert (response.status, _error(response)["status"]) == (401, "UNAUTHENTICATED")
    assert _error(response)["details"][0]["reason"] == "CREDENTIALS_MISSING"
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (_gemini_path("gemini-9"), _config()),
        (f"{PROJECT}/publishers/anthropic/models/claude-9:streamRawPredict", _claude()),
        (f"{PROJECT}/endpoints/openapi/chat/completions", chat("meta/llama-9-maas")),
    ],
)
def test_an_unknown_model_is_not_found(simulator: SpawnedSimulator, path: str, body: object) -> None:
    """The message names the publisher model."""
    response = ask(simulator, path, body)
    assert (response.status, _error(response)["status"]) == (404, "NOT_FOUND")
    assert "was not found or your project does not have access to it" in _error(response)["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"generationConfig": {}}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "contents"),
        ({"contents": [{"role": "user", "parts": []}]}, "contents"),
        ({"contents": "hi"}, "contents"),
        ({"contents": CONTENTS, "model": "x"}, "model"),
        ({"contents": CONTENTS, "stream": True}, "stream"),
        (_config(maxOutputTokens="20"), "generation_config.max_output_tokens"),
        (_config(maxOutputTokens=True), "generation_config.max_output_tokens"),
        (_config(maxOutputTokens=0), "generation_config.max_output_tokens"),
        (_config(maxOutputTokens=10**6), "generation_config.max_output_tokens"),
        (_config(temperature=3), "generation_config.temperature"),
        (_config(max_tokens=3), "generation_config.max_tokens"),
        (_config(thinkingConfig={"includeThoughts": "yes"}), "generation_config.thinking_config.include_thoughts"),
        (_config(thinkingConfig={"budget": 5}), "generation_config.thinking_config.budget"),
    ],
)
def test_gemini_is_strict(simulator: SpawnedSimulator, body: object, field: str) -> None:
    """What the real API refuses is refused with 400, naming the field."""
    response = ask(simulator, _gemini_path(f"gemini-sim-{QUICK}"), body)
    error = _error(response)
    assert (response.status, error["status"]) == (400, "INVALID_ARGUMENT")
    (violation,) = error["details"][0]["fieldViolations"]
    assert violation == {"field": field, "description": error["message"]}


def test_gemini_takes_the_names_of_protocol_buffers(simulator: SpawnedSimulator) -> None:
    """A limit is one by either of its names."""
    body = {"contents": CONTENTS, "generation_config": {"max_output_tokens": 3}}
    response = ask(simulator, _gemini_path(f"gemini-sim-{QUICK}"), body)
    assert response.events()[-1]["usageMetadata"]["candidatesTokenCount"] == 3


def test_gemini_streams_only_server_sent_events(simulator: SpawnedSimulator) -> None:
    """Without ``alt=sse`` the answer would be one JSON list, which the simulator does not have."""
    response = ask(simulator, _gemini_path(f"gemini-sim-{QUICK}").removesuffix("?alt=sse"), _config())
    assert response.status == 400
    assert "?alt=sse" in _error(response)["message"]


def test_gemini_says_who_answered(simulator: SpawnedSimulator) -> None:
    """Each chunk has the model and an id that ends in the request's number; the last one also the counts."""
    events = _ask(simulator, "gemini", f"tok2-{QUICK}").events()
    record = simulator.requests(model=f"gemini-sim-tok2-{QUICK}")[-1]
    assert {int(event["responseId"][-20:]) for event in events} == {record.sequence}
    assert {event["modelVersion"] for event in events} == {record.model}
    assert [event["candidates"][0].get("finishReason") for event in events] == [None, None, "STOP"]
    assert [event["usageMetadata"] for event in events] == [
        {"trafficType": "ON_DEMAND"},
        {"trafficType": "ON_DEMAND"},
        {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12, "trafficType": "ON_DEMAND"},
    ]


def test_gemini_shows_thoughts_only_if_asked(simulator: SpawnedSimulator) -> None:
    """They are counted all the same, apart from the candidates' tokens."""
    for shown in (True, False):
        body = _config(thinkingConfig={"includeThoughts": shown})
        events = ask(simulator, _gemini_path(f"gemini-sim-rtok3-tok2-{QUICK}"), body).events()
        parts = [part for event in events for part in event["candidates"][0]["content"].get("parts", [])]
        assert sum(part.get("thought", False) for part in parts) == (3 if shown else 0)
        usage = events[-1]["usageMetadata"]
        assert (usage["thoughtsTokenCount"], usage["candidatesTokenCount"]) == (3, 2)


def test_gemini_can_spend_all_on_thoughts(simulator: SpawnedSimulator) -> None:
    """With ``budget`` no part is left for the answer, and no count of it."""
    body = _config(maxOutputTokens=6)
    (event,) = ask(simulator, _gemini_path(f"gemini-sim-budget-{QUICK}"), body).events()
    assert event["candidates"] == [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]
    assert event["usageMetadata"]["thoughtsTokenCount"] == 6
    assert "candidatesTokenCount" not in event["usageMetadata"]


@pytest.mark.parametrize(("word", "count"), [("wrongcount77", 77), ("negcount", -5)])
def test_gemini_can_count_wrongly(simulator: SpawnedSimulator, word: str, count: int) -> None:
    """Candidates and thoughts together are what the word says."""
    usage = _ask(simulator, "gemini", f"rtok2-tok2-{word}-{QUICK}").events()[-1]["usageMetadata"]
    assert usage["candidatesTokenCount"] + usage["thoughtsTokenCount"] == count


def test_gemini_without_usage(simulator: SpawnedSimulator) -> None:
    """With ``nousage`` no chunk has any."""
    events = _ask(simulator, "gemini", f"tok2-nousage-{QUICK}").events()
    assert [event for event in events if "usageMetadata" in event] == []


def test_gemini_keeps_a_late_head_back(simulator: SpawnedSimulator) -> None:
    """Nothing comes before the first token, so neither does the head."""
    path, body = _request("gemini", "latehead-tok1-ttft50")
    with connected(simulator.url) as sock:
        sock.settimeout(LIMIT)
        sock.sendall(request_bytes(path, body))
        assert b"data: " in read_until(sock, b"\r\n\r\n")


@every_family
def test_stamped_tokens_say_when_they_were_written(simulator: SpawnedSimulator, family: str) -> None:
    """The text of a token is the very stamp in the record."""
    texts = [event.text for event in _decoded(simulator, family, "stamp-tok3") if isinstance(event, TextDelta)]
    record = simulator.requests(provider="vertex")[-1]
    assert [int(text.strip().removeprefix("t")) for text in texts] == record.writes_ns.tolist()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"anthropic_version": None}, "anthropic_version"),
        ({"anthropic_version": "bedrock-2023-05-31"}, "anthropic_version"),
        ({"model": "claude-sim"}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_claude_is_strict(simulator: SpawnedSimulator, more: dict[str, Any], field: str) -> None:
    """The version belongs into the body, the model does not; the rest is as Anthropic has it."""
    path = f"{PROJECT}/publishers/anthropic/models/claude-sim-{QUICK}:streamRawPredict"
    response = ask(simulator, path, _claude(**more))
    assert response.status == 400
    assert _error(response)["details"][0]["fieldViolations"][0]["field"] == field


def test_claude_has_a_request_id(simulator: SpawnedSimulator) -> None:
    """Google passes Anthropic's on, none of its own; the message's id ends in the request's number."""
    claude = _ask(simulator, "claude", f"tok1-{QUICK}")
    record = simulator.requests(model=f"claude-sim-tok1-{QUICK}")[-1]
    assert claude.headers["request-id"] == f"req_vrtx_{record.sequence:020d}"
    assert int(claude.events()[0]["message"]["id"][-20:]) == record.sequence
    assert "request-id" not in _ask(simulator, "gemini", f"tok1-{QUICK}").headers


def test_open_models_have_their_publisher_in_front(simulator: SpawnedSimulator) -> None:
    """A name without it is malformed."""
    response = ask(simulator, f"{PROJECT}/endpoints/openapi/chat/completions", chat(f"llama-sim-{QUICK}-maas"))
    assert (response.status, _error(response)["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "path",
    [
        "/vertex/v1/chat/completions",
        "/vertex/v1/models",
        f"{PROJECT}/publishers/google/models/gemini-sim:generateContent",
        f"{PROJECT}/publishers/meta/models/gemini-sim:streamGenerateContent",
    ],
)
def test_other_addresses_do_not_exist(simulator: SpawnedSimulator, path: str) -> None:
    """Vertex has its own paths and no others."""
    response = ask(simulator, path, _config())
    assert (response.status, _error(response)["status"]) == (404, "NOT_FOUND")


def test_the_region_and_the_version_are_free(simulator: SpawnedSimulator) -> None:
    """The global location and the beta API are the same here; the colon may be encoded."""
    models = "/vertex/v1beta1/projects/p/locations/global/publishers/google/models"
    path = f"{models}/gemini-sim-{QUICK}%3AstreamGenerateContent?alt=sse"
    assert ask(simulator, path, _config(maxOutputTokens=1)).status == 200


# the token endpoint


def _jwt(*, header: object | None = None, **claims: object) -> str:
    now = int(time.time())
    body = {"iss": "sim@example.iam", "aud": "https://token", "iat": now, "exp": now + 3600, **claims}
    parts = [msgspec.json.encode(header or {"alg": "RS256", "typ": "JWT"}), msgspec.json.encode(body), b"signature"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def _token(simulator: SpawnedSimulator, **form: str) -> Response:
    headers = {"authorization": "", "content-type": "application/x-www-form-urlencoded"}
    return ask(simulator, "/vertex/token", urlencode(form).encode(), headers)


def test_a_service_account_gets_a_token(simulator: SpawnedSimulator) -> None:
    """Each time a new one, which lets its bearer in, and the assertion is not in the record."""
    first, second = (_token(simulator, grant_type=GRANT, assertion=_jwt()).json() for _ in range(2))
    assert first["access_token"].startswith("ya29.sim-")
    assert first["access_token"] != second["access_token"]
    assert (first["expires_in"], first["token_type"]) == (3599, "Bearer")
    record = simulator.requests(provider="vertex")[-1]
    assert (record.path, record.status, record.body) == ("/vertex/token", 200, None)
    headers = {"authorization": f"Bearer {first['access_token']}"}
    assert _ask(simulator, "gemini", f"tok1-{QUICK}", headers).status == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"assertion": "a.b.c"}, "invalid_request"),
        ({"grant_type": "password", "assertion": "a.b.c"}, "unsupported_grant_type"),
        ({"grant_type": GRANT}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": "a.b"}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": "a.b.c"}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": "\u00e9.b.c"}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _jwt(header={"alg": "none"})}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _jwt(iss=None)}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _jwt(exp=int(time.time()) - 10)}, "invalid_grant"),
        ({"grant_type": GRANT, "assertion": _jwt(exp=int(time.time()) + 9000)}, "invalid_grant"),
    ],
)
def test_a_bad_assertion_gets_none(simulator: SpawnedSimulator, form: dict[str, str], error: str) -> None:
    """The answer is 400 in OAuth's form, saying what is wrong."""
    response = _token(simulator, **form)
    assert (response.status, response.json()["error"]) == (400, error)
    assert response.json()["error_description"]


def test_a_token_is_asked_for_with_post(simulator: SpawnedSimulator) -> None:
    """Any other method is not allowed."""
    assert ask(simulator, "/vertex/token", method="GET").status == 405


def test_a_blocked_prompt_is_said_in_a_200(simulator: SpawnedSimulator) -> None:
    """One event with the feedback and the counts, and no candidates; the other formats have nothing of the kind."""
    (fault,) = [event for event in _decoded(simulator, "gemini", "blocked") if isinstance(event, StreamFault)]
    assert (fault.type, fault.code) == ("prompt_blocked", "PROHIBITED_CONTENT")
    for family in ("claude", "maas"):
        response = _ask(simulator, family, "blocked")
        assert response.status == 400
        assert b"has the word 'blocked'" in response.body

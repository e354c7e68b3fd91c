"""Gemini on Vertex, through google-genai: its client, and what it is asked."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import httpx2
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from llmbench.messages import Model, Profile
from llmbench.providers.base import body_overrides, without_environment

_LEAKING = (
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_API_USE_CLIENT_CERTIFICATE",
    "GOOGLE_API_USE_MTLS_ENDPOINT",
    "GOOGLE_GENAI_CLIENT_MODE",
    "GOOGLE_GENAI_HTTP_CLIENT",
    "GOOGLE_GENAI_REPLAYS_DIRECTORY",
    "GOOGLE_GENAI_USE_ENTERPRISE",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_VERTEX_BASE_URL",
)
_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Given to the SDK so that it doesn't read the authorities for connections that it never makes, 20 ms each time."""

_OK = 200
_UNAUTHORISED = 401


class HeadsOnly(httpx2.AsyncBaseTransport):
    """Gives the SDKs the body of refusals only; that of a good answer is read from the exchange, with its stamps.

    google-genai would read the first piece before it returns. ``on_unauthorised`` is called for each 401.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, on_unauthorised: Callable[[], None]) -> None:
        self._inner = inner
        self._on_unauthorised = on_unauthorised

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.status_code == _UNAUTHORISED:
            self._on_unauthorised()
        if not response.is_success:
            return response
        return httpx2.Response(_OK, headers={"content-type": "text/event-stream"}, content=b"")


class Gemini(NamedTuple):
    """A request of `streamGenerateContent`, and what of it the row tells."""

    contents: str
    config: dict[str, Any]
    body: Mapping[str, Any]
    temperature: float | None
    reasoning_effort: str | None


def gemini_client(http: httpx2.AsyncClient, credentials: Credentials, headers: Mapping[str, str]) -> genai.Client:
    """Return a client that reaches every region and project: both are named anew with each request."""
    options = types.HttpOptions(
        base_url="http://named-anew.invalid",
        api_version="v1",
        headers=dict(headers),
        httpx_async_client=http,
        httpx_client=httpx2.Client(transport=httpx2.MockTransport(_nobody), trust_env=False),
        client_args={"verify": _TRUSTS_NOBODY},
        async_client_args={"verify": _TRUSTS_NOBODY, "ssl": _TRUSTS_NOBODY},
    )
    with without_environment(*_LEAKING):
        return genai.Client(
            vertexai=True, project="named-anew", location="global", credentials=credentials, http_options=options
        )


def _nobody(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"google-genai asked for {request.url} without being told to")


def send_gemini(
    client: genai.Client, base_url: str, path: str, asked: Gemini, headers: Mapping[str, str]
) -> AbstractAsyncContextManager[object]:
    """Ask ``path`` (``projects/…/models/…``) at ``base_url``."""
    options = types.HttpOptions(base_url=base_url, extra_body=dict(asked.body) or None, headers=dict(headers))
    config = types.GenerateContentConfig(
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        automatic_continuation=False,
        http_options=options,
        **asked.config,
    )
    return _sent(client, path, asked.contents, config)


@asynccontextmanager
async def _sent(
    client: genai.Client, path: str, contents: str, config: types.GenerateContentConfig
) -> AsyncIterator[None]:
    answer = await client.aio.models.generate_content_stream(model=path, contents=contents, config=config)
    async for _ in answer:  # the SDK sends when it is first asked for a chunk; `HeadsOnly` leaves it none
        pass
    yield


def ask_gemini(model: Model, profile: Profile, prompt: str) -> Gemini:
    """Lay a request out: the profile's, with the model's own fields laid over it."""
    own = body_overrides(model)
    effort, thinking = thinking_config(model.model_id, profile)
    body = _merged({"generationConfig": {"thinkingConfig": thinking}}, own) if thinking else dict(own)
    config: dict[str, Any] = {"max_output_tokens": profile.max_tokens}
    if profile.temperature is not None:
        config["temperature"] = profile.temperature
    given = own.get("generationConfig")
    temperature = given.get("temperature", profile.temperature) if isinstance(given, dict) else profile.temperature
    return Gemini(prompt, config, body, temperature, effort)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


# thinking

_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_FIRST_THAT_THINKS = (2, 5)
_FIRST_WITH_LEVELS = (3, 0)
_LEVELS = {"none": "minimal", "xhigh": "high", "max": "high"}
"""Efforts of other providers that Gemini calls differently. Nothing switches the thinking of Gemini 3 off."""

_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
_LEAST_OF_PRO = 128
_LEAST = 512


def thinking_config(model_id: str, profile: Profile) -> tuple[str | None, dict[str, Any]]:
    """Return the effort that is asked for, and how; nothing if the profile has none or the model doesn't think.

    Gemini 2.5 takes a number of tokens, of which at most half the run's budget is given to thinking; 3 and later a
    level. Source: Google Cloud's "Thinking".
    """
    effort = profile.reasoning_effort
    version = _version(model_id)
    if effort is None or version < _FIRST_THAT_THINKS:
        return None, {}
    if version >= _FIRST_WITH_LEVELS:
        effort = _LEVELS.get(effort, effort)
        return effort, {"includeThoughts": True, "thinkingLevel": effort.upper()}
    effort = effort if effort in _BUDGETS else "high"
    if effort == "none" and "-pro" in model_id:
        effort = "minimal"  # Pro can't be kept from thinking
    budget = _budget(model_id, effort, profile.max_tokens)
    return effort, {"includeThoughts": True, "thinkingBudget": budget} if budget else {"thinkingBudget": 0}


def _version(model_id: str) -> tuple[int, int]:
    """Return the model's version; names without one, such as ``gemini-flash-latest``, mean the newest."""
    found = _VERSION.match(model_id)
    return (int(found[1]), int(found[2] or 0)) if found else _FIRST_WITH_LEVELS


def _budget(model_id: str, effort: str, max_tokens: int) -> int:
    """Return a budget within the model's range, which begins at 128 for Pro and at 512 for Flash-Lite."""
    wanted = _BUDGETS[effort]
    least = _LEAST_OF_PRO if "-pro" in model_id else _LEAST
    return max(min(wanted, max_tokens // 2), least) if wanted else 0

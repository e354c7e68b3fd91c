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
from llmbench.providers.base import body_overrides, merged, without_environment

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

_ARGUMENTS = {"maxOutputTokens": "max_output_tokens", "temperature": "temperature"}
"""The SDK's names of the fields that a profile sets."""

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
    body = merged({"generationConfig": {"thinkingConfig": thinking}} if thinking else {}, own)
    usual = {"maxOutputTokens": profile.max_tokens, "temperature": profile.temperature}
    laid = merged({"generationConfig": usual}, own).get("generationConfig")
    kept = laid if isinstance(laid, Mapping) else {}
    config = {_ARGUMENTS[name]: value for name, value in usual.items() if kept.get(name) is not None}
    return Gemini(prompt, config, body, kept.get("temperature"), _effort(kept.get("thinkingConfig"), effort))


def _effort(own: object, effort: str | None) -> str | None:
    """Return the effort that is sent, which the model's own fields may change; a number of tokens has no name."""
    if not isinstance(own, Mapping):
        return effort
    level = own.get("thinkingLevel")
    return level.lower() if isinstance(level, str) else None if "thinkingBudget" in own else effort


# thinking

_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_FIRST_THAT_THINKS = (2, 5)
_FIRST_WITH_LEVELS = (3, 0)
_LEVELS = {"none": "minimal", "xhigh": "high", "max": "high"}
"""Efforts of other providers that Gemini calls differently. Nothing switches the thinking of Gemini 3 off."""

_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
_LEAST = {"-pro": 128, "-lite": 512}
"""Where the range of budgets begins, by a part of the id; for Flash and all others it begins at 1."""


def thinking_config(model_id: str, profile: Profile) -> tuple[str | None, dict[str, Any]]:
    """Return the effort that is sent, and how; nothing if the profile has none or the model doesn't think.

    Gemini 2.5 takes a number of tokens, 3 and later a level. Thinking may have half the tokens of the run: the effort
    that is sent is the highest whose tokens fit into that, so that no two efforts mean the same number. Source: Google
    Cloud's "Thinking".
    """
    effort = profile.reasoning_effort
    version = _version(model_id)
    if effort is None or version < _FIRST_THAT_THINKS:
        return None, {}
    if version >= _FIRST_WITH_LEVELS:
        effort = _LEVELS.get(effort, effort)
        return effort, {"includeThoughts": True, "thinkingLevel": effort.upper()}
    effort = _that_fits(effort if effort in _BUDGETS else "high", profile.max_tokens)
    if effort == "none" and "-pro" in model_id:
        effort = "minimal"  # Pro can't be kept from thinking
    if effort == "none":
        return effort, {"thinkingBudget": 0}
    return effort, {"includeThoughts": True, "thinkingBudget": _budget(model_id, effort, profile.max_tokens)}


def _version(model_id: str) -> tuple[int, int]:
    """Return the model's version; names without one, such as ``gemini-flash-latest``, mean the newest."""
    found = _VERSION.match(model_id)
    return (int(found[1]), int(found[2] or 0)) if found else _FIRST_WITH_LEVELS


def _that_fits(effort: str, max_tokens: int) -> str:
    """Return the highest effort that is not above ``effort`` and has its tokens; ``minimal`` always has some."""
    wanted = _BUDGETS[effort]
    share = min(wanted, max(max_tokens // 2, _BUDGETS["minimal"]))
    return next(name for name, budget in reversed(_BUDGETS.items()) if budget <= share)


def _budget(model_id: str, effort: str, max_tokens: int) -> int:
    """Return a number of tokens within the model's range; where that begins higher, it can be more than the run has."""
    least = next((least for part, least in _LEAST.items() if part in model_id), 1)
    return max(min(_BUDGETS[effort], max_tokens // 2), least)

"""OpenAI and every API shaped like it: Chat Completions, Responses and legacy Completions, through the openai SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, cast

import httpx2
import openai

from llmbench.config import ResolvedProvider
from llmbench.measure.exchange import Exchange, Limits
from llmbench.messages import Model, Profile
from llmbench.providers.base import (
    WARM_UP_URL,
    Prepared,
    SdkEndpoint,
    body_overrides,
    warm_up_client,
    without_environment,
)
from llmbench.wire.events import Decoder
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.openai_completions import CompletionsDecoder
from llmbench.wire.openai_responses import ResponsesDecoder

Api = Literal["chat", "responses", "completions"]
Send = Callable[[], AbstractAsyncContextManager[object]]

LEAKING = ("OPENAI_CUSTOM_HEADERS", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET")
LEAKING_ELSEWHERE = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""These two belong to the openai provider itself and would be sent to every other one."""

_NO_KEY = "none"
IDENTITY: Mapping[str, Any] = {"accept-encoding": "identity"}
_DECODERS: Mapping[Api, Callable[[], Decoder]] = {
    "chat": ChatDecoder,
    "responses": ResponsesDecoder,
    "completions": CompletionsDecoder,
}


class OpenAIFamily:
    """One OpenAI-shaped API. Satisfies `Provider`."""

    def __init__(self, settings: ResolvedProvider, key: str | None, *, kernel: bool = True) -> None:
        self.name = settings.name
        self.endpoint = settings.base_url
        self._settings = settings
        self._official = settings.kind == "openai"
        self._http = SdkEndpoint(ca_file=settings.ca_file, kernel=kernel)
        self._client = self._sdk(settings.base_url, key, self._http.client)
        self._headers = {**IDENTITY} if key is not None else {**IDENTITY, "Authorization": openai.omit}

    def _sdk(self, base_url: str, key: str | None, http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
        hidden = LEAKING if self._official else LEAKING + LEAKING_ELSEWHERE
        with without_environment(*hidden):
            return openai.AsyncOpenAI(
                base_url=base_url,
                api_key=key or _NO_KEY,
                max_retries=0,
                timeout=None,
                default_headers=dict(self._settings.headers),
                http_client=http_client,
            )

    async def warm_up(self) -> None:
        sink = warm_up_client("text/event-stream", b"data: [DONE]\n\n")
        async with self._sdk(WARM_UP_URL, "warm-up", sink) as client:
            for api in _DECODERS:
                async with sender(client, api, IDENTITY, {"model": "warm-up", **SMALLEST[api]})():
                    pass

    def exchange(self, limits: Limits) -> Exchange:
        return self._http.exchange(limits)

    async def check(self) -> None:
        """The key was looked up before the provider was opened."""

    async def renew(self) -> None:
        """A key has no end that is known beforehand."""

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        await self._http.connect(exchange, prepared.endpoint)

    async def close(self) -> None:
        await self._client.close()

    def api_for(self, model: Model) -> Api:
        """Return the API that reaches the model: its own ``request.api``, or what its id's prefix or suffix tells."""
        chosen = (model.request or {}).get("api")
        if chosen in _DECODERS:
            return cast("Api", chosen)
        if self._official and model.model_id.startswith(self._settings.responses_prefixes):
            return "responses"
        if self._official and model.model_id.endswith(self._settings.completions_suffixes):
            return "completions"
        return "chat"

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        api = self.api_for(model)
        request = self._request(api, profile, prompt)
        overrides = body_overrides(model)
        temperature = overrides.get("temperature", request.get("temperature"))
        request |= {"model": model.model_id, "extra_body": overrides or None}
        send = sender(self._client, api, self._headers, request)
        effort = profile.reasoning_effort if api != "completions" else None
        decoder = _DECODERS[api]
        return Prepared(
            mode=api,
            endpoint=self.endpoint,
            temperature=temperature,
            reasoning_effort=effort,
            decoder=decoder,
            send=send,
        )

    def _request(self, api: Api, profile: Profile, prompt: str) -> dict[str, Any]:
        match api:
            case "chat":
                return ask_chat(profile, prompt, official=self._official)
            case "responses":
                return self._responses(profile, prompt)
            case "completions":
                return self._completions(profile, prompt)

    def _responses(self, profile: Profile, prompt: str) -> dict[str, Any]:
        request: dict[str, Any] = {"input": prompt, "max_output_tokens": profile.max_tokens, "store": False}
        if profile.reasoning_effort is not None:
            request["reasoning"] = {"effort": profile.reasoning_effort}
        return request | _temperature(profile)

    def _completions(self, profile: Profile, prompt: str) -> dict[str, Any]:
        options = {"include_usage": True}
        return {"prompt": prompt, "max_tokens": profile.max_tokens, "stream_options": options} | _temperature(profile)


def ask_chat(profile: Profile, prompt: str, *, official: bool = False) -> dict[str, Any]:
    """Return the SDK's arguments for Chat Completions, the model excepted; some fields only OpenAI itself knows."""
    budget = "max_completion_tokens" if official else "max_tokens"
    options: dict[str, Any] = {"include_usage": True}
    if official:
        options["include_obfuscation"] = False
    request = {
        "messages": [{"role": "user", "content": prompt}],
        budget: profile.max_tokens,
        "stream_options": options,
    }
    if profile.reasoning_effort is not None:
        request["reasoning_effort"] = profile.reasoning_effort
    return request | _temperature(profile)


def _temperature(profile: Profile) -> dict[str, Any]:
    return {} if profile.temperature is None else {"temperature": profile.temperature}


SMALLEST: Mapping[Api, dict[str, Any]] = {
    "chat": {"messages": []},
    "responses": {"input": ""},
    "completions": {"prompt": ""},
}


def _resource(client: openai.AsyncOpenAI, api: Api) -> Any:
    match api:
        case "chat":
            return client.chat.completions
        case "responses":
            return client.responses
        case "completions":
            return client.completions


def sender(client: openai.AsyncOpenAI, api: Api, headers: Mapping[str, Any], request: Mapping[str, Any]) -> Send:
    """Return what sends a request; the SDK leaves the body of a good answer to be read from the exchange."""

    def send() -> AbstractAsyncContextManager[object]:
        create = _resource(client, api).with_streaming_response.create
        return cast("AbstractAsyncContextManager[object]", create(stream=True, extra_headers=headers, **request))

    return send

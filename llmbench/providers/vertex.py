"""Google's Vertex AI: Gemini through google-genai, Claude through anthropic's SDK, open models through openai's.

All three send over one transport, with a token that `GoogleCredentials` renewed before the connection was opened.
"""

from __future__ import annotations

import os
import re
from typing import Any, cast

import anthropic
import httpx2
import openai

from llmbench.catalog.vertex_ids import APIS, ASKABLE, Api, api_of
from llmbench.config import ResolvedProvider
from llmbench.config.check import check_text
from llmbench.config.tables import CloudRegion, ProjectId
from llmbench.measure.exchange import Exchange, Limits
from llmbench.messages import Model, Profile
from llmbench.providers import anthropic_messages, openai_family
from llmbench.providers.anthropic_messages import ask_messages, send_messages
from llmbench.providers.base import (
    WARM_UP_URL,
    Prepared,
    SdkEndpoint,
    Unusable,
    body_overrides,
    warm_up_client,
    without_environment,
)
from llmbench.providers.google_credentials import GoogleCredentials
from llmbench.providers.openai_family import IDENTITY, ask_chat, sender
from llmbench.providers.presets import first_set
from llmbench.providers.vertex_gemini import Gemini, HeadsOnly, ask_gemini, gemini_client, send_gemini
from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.gemini import GeminiDecoder
from llmbench.wire.openai_chat import ChatDecoder

_PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
_REGION_VARIABLES = ("GOOGLE_CLOUD_LOCATION", "GOOGLE_CLOUD_REGION")
_DEFAULT_REGION = "us-central1"
_MULTI_REGIONS = ("us", "eu")
_REGION = re.compile(r"[a-z][a-z0-9-]*")
_HIDDEN = (
    *anthropic_messages.LEAKING,
    *openai_family.LEAKING,
    *openai_family.LEAKING_ELSEWHERE,
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "CLOUD_ML_REGION",
)


class UnaskableModel(ValueError):
    """No request can be made of the model's id, region or fields. The message says why."""


class Vertex:
    """Vertex AI in one project and any number of regions. Satisfies `Provider`."""

    def __init__(self, settings: ResolvedProvider, key: str | None, *, kernel: bool = True) -> None:
        del key  # the configuration refuses a key's variable for this kind
        self.name = settings.name
        self._settings = settings
        self._region = settings.region or _from_environment(*_REGION_VARIABLES) or _DEFAULT_REGION
        self.endpoint = self._host(self._region)
        self._credentials = GoogleCredentials()
        self._endpoint = SdkEndpoint(ca_file=settings.ca_file, kernel=kernel)
        self._http = httpx2.AsyncClient(
            transport=HeadsOnly(self._endpoint.transport, self._credentials.refused),
            trust_env=False,
            follow_redirects=False,
        )
        self._gemini = gemini_client(self._http, self._credentials.bearer, settings.headers)
        self._claude: dict[str, anthropic.AsyncAnthropicVertex] = {}
        self._chat: dict[str, openai.AsyncOpenAI] = {}

    async def warm_up(self) -> None:
        """Have each SDK make a request that goes nowhere, then read the file of the credentials, if there is one."""
        sink = warm_up_client("text/event-stream", b"")
        credentials = GoogleCredentials()
        credentials.bearer.token = "warm-up"  # noqa: S105  it goes nowhere
        client = gemini_client(sink, credentials.bearer, {})
        smallest = Gemini("", {"max_output_tokens": 1}, {}, None, None)
        async with send_gemini(client, WARM_UP_URL, _gemini_path("warm-up", "global", "warm-up"), smallest, {}):
            pass
        claude = self._claude_client(WARM_UP_URL, "global", "warm-up", sink)
        async with send_messages(claude, anthropic_messages.SMALLEST, credentials.headers):
            pass
        chat = self._chat_client(WARM_UP_URL, "global", "warm-up", sink)
        async with sender(chat, "chat", IDENTITY, {"model": "warm-up", "messages": []})():
            pass
        await sink.aclose()
        await self._credentials.find(ahead=True)  # last, for a bad file must not keep the SDKs cold

    def exchange(self, limits: Limits) -> Exchange:
        return self._endpoint.exchange(limits)

    async def check(self) -> None:
        """Find the credentials, the project and the region. Raises `Unusable`."""
        self._check_environment()
        await self._credentials.find()
        if self._project is None:
            raise Unusable(
                f"no Google Cloud project is known: set project under [providers.{self.name}], or {_PROJECT_VARIABLE}"
            )

    def _check_environment(self) -> None:
        """Hold what variables say to the rules for what the file says: it becomes part of addresses."""
        used: list[tuple[str, Any]] = [] if self._settings.project else [(_PROJECT_VARIABLE, ProjectId)]
        used += [] if self._settings.region else [(name, CloudRegion) for name in _REGION_VARIABLES]
        for name, kind in used:
            given = _from_environment(name)
            _, wrong = check_text(given, kind) if given is not None else (None, None)
            if wrong is not None:
                raise Unusable(f"environment variable {name!r} {wrong}")

    async def renew(self) -> None:
        await self._credentials.renew()

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        await self._endpoint.connect(exchange, prepared.endpoint)

    async def close(self) -> None:
        await self._http.aclose()
        await self._endpoint.client.aclose()

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        """Lay a request out. Raises `UnaskableModel`."""
        api, region, project = api_for(model), self._region_of(model), self._project
        if project is None:
            raise UnaskableModel(f"model {model.model_id!r} can't be asked: no Google Cloud project is known")
        match api:
            case "gemini":
                return self._prepare_gemini(model, profile, prompt, project, region)
            case "messages":
                return self._prepare_messages(model, profile, prompt, project, region)
            case "chat":
                return self._prepare_chat(model, profile, prompt, project, region)

    # one API each

    def _prepare_gemini(self, model: Model, profile: Profile, prompt: str, project: str, region: str) -> Prepared:
        endpoint, asked = self._host(region), ask_gemini(model, profile, prompt)
        path = _gemini_path(project, region, model.model_id)
        return Prepared(
            mode="gemini",
            endpoint=endpoint,
            region=region,
            temperature=asked.temperature,
            reasoning_effort=asked.reasoning_effort,
            decoder=GeminiDecoder,
            send=lambda: send_gemini(self._gemini, endpoint, path, asked, self._credentials.quota_headers),
        )

    def _prepare_messages(self, model: Model, profile: Profile, prompt: str, project: str, region: str) -> Prepared:
        endpoint, asked = self._host(region), ask_messages(model, profile, prompt)
        client = self._claude.get(region)
        if client is None:
            client = self._claude[region] = self._claude_client(endpoint, region, project, self._http)
        return Prepared(
            mode="messages",
            endpoint=endpoint,
            region=region,
            temperature=asked.temperature,
            reasoning_effort=asked.reasoning_effort,
            decoder=MessagesDecoder,
            send=lambda: send_messages(client, asked, self._credentials.headers),
        )

    def _prepare_chat(self, model: Model, profile: Profile, prompt: str, project: str, region: str) -> Prepared:
        endpoint, overrides = self._host(region), body_overrides(model)
        client = self._chat.get(region)
        if client is None:
            client = self._chat[region] = self._chat_client(endpoint, region, project, self._http)
        request = ask_chat(profile, prompt) | {"model": model.model_id, "extra_body": overrides or None}
        return Prepared(
            mode="chat",
            endpoint=endpoint,
            region=region,
            temperature=overrides.get("temperature", profile.temperature),
            reasoning_effort=overrides.get("reasoning_effort", profile.reasoning_effort),
            decoder=ChatDecoder,
            send=lambda: sender(client, "chat", {**IDENTITY, **self._credentials.headers}, request)(),
        )

    def _claude_client(
        self, endpoint: str, region: str, project: str, http: httpx2.AsyncClient
    ) -> anthropic.AsyncAnthropicVertex:
        with without_environment(*_HIDDEN):
            return anthropic.AsyncAnthropicVertex(
                base_url=f"{endpoint}/v1",
                region=region,
                project_id=project,
                max_retries=0,
                timeout=None,
                default_headers=dict(self._settings.headers),
                http_client=http,
                open_telemetry=False,
            )

    def _chat_client(self, endpoint: str, region: str, project: str, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
        with without_environment(*_HIDDEN):
            return openai.AsyncOpenAI(
                base_url=f"{endpoint}/v1/projects/{project}/locations/{region}/endpoints/openapi",
                api_key="none",  # each request brings its token
                max_retries=0,
                timeout=None,
                default_headers=dict(self._settings.headers),
                http_client=http,
            )

    # where

    @property
    def _project(self) -> str | None:
        return self._settings.project or _from_environment(_PROJECT_VARIABLE) or self._credentials.project

    def _region_of(self, model: Model) -> str:
        region = self._settings.region_of(model) or self._region
        if not _REGION.fullmatch(region):
            raise UnaskableModel(f"model {model.model_id!r} can't be asked: {region!r} is no region of Google Cloud")
        return region

    def _host(self, region: str) -> str:
        """Return the base URL of a region. Source: Google Cloud's "Vertex AI endpoints"."""
        if self._settings.base_url:
            return self._settings.base_url
        if region == "global":
            return "https://aiplatform.googleapis.com"
        if region in _MULTI_REGIONS:
            return f"https://aiplatform.{region}.rep.googleapis.com"
        return f"https://{region}-aiplatform.googleapis.com"


def api_for(model: Model) -> Api:
    """Return the API that reaches the model: its own ``request.api``, or what its id tells. Raises `UnaskableModel`."""
    chosen = (model.request or {}).get("api")
    api = cast("Api", chosen) if chosen in APIS else api_of(model.model_id)
    if api is None:
        raise UnaskableModel(f"model {model.model_id!r} can't be asked: {ASKABLE}")
    return api


def _gemini_path(project: str, region: str, model_id: str) -> str:
    return f"projects/{project}/locations/{region}/publishers/google/models/{model_id}"


def _from_environment(*names: str) -> str | None:
    found = first_set(names, os.environ)
    return None if found is None else found[1]

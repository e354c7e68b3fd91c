"""Amazon Bedrock's ConverseStream, through aioboto3: one API for the models of all makers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx2
from botocore.exceptions import ClientError, InvalidRegionError, NoRegionError

from llmbench.config import ResolvedProvider
from llmbench.measure.exchange import Exchange, Limits
from llmbench.measure.transport import StampedTransport
from llmbench.messages import Model, Profile
from llmbench.providers.aws_credentials import (
    BEARER_VARIABLE,
    TROUBLE,
    CredentialChain,
    Keys,
    bearer_token,
    region_of_environment,
    region_of_profile,
    why_unusable,
)
from llmbench.providers.aws_session import CannedSession, endpoint_of, open_client
from llmbench.providers.base import WARM_UP_URL, Prepared, Unusable, body_overrides
from llmbench.wire.bedrock_converse import ConverseDecoder

Fields = dict[str, Any]

_REFUSED_KEYS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
"""Error codes that blame the keys themselves, and not what they may do."""


class _Reasoning(NamedTuple):
    """How the models of a family, known by their ids, are asked to reason."""

    ids: re.Pattern[str]
    ask: Callable[[str], Fields]


# Sources: the Bedrock user guide, "Adaptive thinking"; the Nova 2 guide, "Extended thinking"; OpenAI's model card. Of
# Claude, the versions up to 4.5 don't think adaptively; DeepSeek-R1 always reasons. What is not here is asked nothing.
_OLDER_CLAUDE = r"(?:v\d|instant|3|(?:opus|sonnet|haiku)-4(?:-[015])?-20\d{6})"
_REASONING = (
    _Reasoning(
        re.compile(rf"\banthropic\.claude-(?!{_OLDER_CLAUDE})"),
        lambda effort: {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}},
    ),
    _Reasoning(
        re.compile(r"\bamazon\.nova-2-"),
        lambda effort: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
    ),
    _Reasoning(re.compile(r"\bopenai\.gpt-oss-"), lambda effort: {"reasoning_effort": effort}),
)


_MORE = "additionalModelRequestFields"
_TEMPERATURE = ("inferenceConfig", "temperature")
_THINKING = (_MORE, "thinking", "type")
_NOVA_EFFORT = (_MORE, "reasoningConfig", "maxReasoningEffort")
_EFFORTS = ((_MORE, "output_config", "effort"), _NOVA_EFFORT, (_MORE, "reasoning_effort"))


class _Client(NamedTuple):
    """A client of one region, with what it signs with (None: a bearer token)."""

    keys: Keys | None
    scope: AsyncExitStack
    api: Any


class Bedrock:
    """Bedrock in any number of regions. Satisfies `Provider`; the key is none of its affair."""

    def __init__(self, settings: ResolvedProvider, _key: str | None, *, kernel: bool = True) -> None:
        self.name = settings.name
        self._settings = settings
        self._transport = StampedTransport(ca_file=settings.ca_file, kernel=kernel)
        self._chain = CredentialChain()
        self._keys: Keys | None = None
        self._clients: dict[str, _Client] = {}
        self._region = settings.region or region_of_environment()
        self.endpoint = self._endpoint(self._region)

    def _endpoint(self, region: str | None) -> str:
        return self._settings.base_url or (endpoint_of(region) if region else "")

    async def warm_up(self) -> None:
        """Load the API's model, and have one good answer and one refusal parsed."""
        keys = Keys("warm-up", "warm-up", None)
        async with open_client("us-east-1", WARM_UP_URL, keys, CannedSession) as client:
            for _ in range(2):
                await _warm_up(client)

    def exchange(self, limits: Limits) -> Exchange:
        return self._transport.exchange(limits)

    async def check(self) -> None:
        try:
            self._region = self._region or await region_of_profile()
            await self._renew()
        except TROUBLE as error:
            raise Unusable(why_unusable(error)) from error
        if self._region is None:
            raise Unusable("no region is set: set region under [providers.bedrock], or AWS_REGION")
        self.endpoint = self._endpoint(self._region)
        for region in {self._region, *self._settings.model_regions.values()}:
            await self._open(region)

    async def _renew(self) -> None:
        """Raises what `CredentialChain.keys` raises, and `Unusable` for a bearer token that can't be sent."""
        token = bearer_token()
        if token is None:
            self._keys = await self._chain.keys(self._region)
            return
        self._keys = None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Unusable(f"{BEARER_VARIABLE} holds a character that no key has: copy the key again")

    async def _open(self, region: str) -> None:
        try:
            await self._client(region)
        except InvalidRegionError as error:
            raise Unusable(f"{region!r} is no region: correct it under [providers.bedrock]") from error

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        await self._renew()
        await self._transport.connect(exchange, httpx2.URL(prepared.endpoint))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.scope.aclose()

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        region = model.region or self._settings.model_regions.get(model.model_id) or self._region
        if region is None:
            raise NoRegionError
        request = _request(model, profile, prompt)
        return Prepared(
            mode="converse",
            endpoint=self._endpoint(region),
            temperature=_at(request, *_TEMPERATURE),
            reasoning_effort=_effort(request),
            decoder=ConverseDecoder,
            send=lambda: self._send(region, request),
        )

    @asynccontextmanager
    async def _send(self, region: str, request: Fields) -> AsyncIterator[object]:
        api = await self._client(region)
        try:
            response = await api.converse_stream(**request)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _REFUSED_KEYS:
                self._chain.refused()
            raise
        try:
            yield response
        finally:
            response["stream"].close()

    async def _client(self, region: str) -> Any:
        """Return the region's client; it is made anew, in 3 ms, when the keys have changed. Makes no request."""
        present = self._clients.get(region)
        if present is not None and present.keys == self._keys:
            return present.api
        scope = AsyncExitStack()
        opening = open_client(region, self._endpoint(region), self._keys)
        api = await scope.enter_async_context(opening)
        self._add_headers(api)
        self._clients[region] = _Client(self._keys, scope, api)
        if present is not None:
            await present.scope.aclose()
        return api

    def _add_headers(self, api: Any) -> None:
        """Have the configured headers in each request before it is signed, as AWS asks of its own ones."""

        def add(request: Any, **_event: object) -> None:
            for name, value in self._settings.headers.items():
                request.headers[name] = value

        if self._settings.headers:
            api.meta.events.register("before-sign.bedrock-runtime.ConverseStream", add)


async def _warm_up(api: Any) -> None:
    message = {"role": "user", "content": [{"text": "warm-up"}]}
    try:
        response = await api.converse_stream(modelId="warm-up", messages=[message], inferenceConfig={"maxTokens": 1})
    except ClientError:
        return
    response["stream"].close()


def _request(model: Model, profile: Profile, prompt: str) -> Fields:
    """Return the operation's parameters; the model's own replace the profile's, and a null takes one out."""
    request: Fields = {
        "modelId": model.model_id,
        "messages": [{"role": "user", "content": [{"text": prompt}]}],
        "inferenceConfig": {"maxTokens": profile.max_tokens},
    }
    if profile.temperature is not None:
        request["inferenceConfig"]["temperature"] = profile.temperature
    if fields := _reasoning_fields(model.model_id, profile.reasoning_effort):
        request[_MORE] = fields
    own = body_overrides(model)
    request = _merged(request, own)
    if _excludes_temperature(request) and _at(own, *_TEMPERATURE) is None:
        return _merged(request, {"inferenceConfig": {"temperature": None}})
    return request


def _reasoning_fields(model_id: str, effort: str | None) -> Fields | None:
    if effort is None:
        return None
    return next((family.ask(effort) for family in _REASONING if family.ids.search(model_id)), None)


def _excludes_temperature(request: Mapping[str, Any]) -> bool:
    """Say whether a temperature would be refused: beside Claude's thinking, and by Nova 2 at its highest effort."""
    return _at(request, *_THINKING) not in (None, "disabled") or _at(request, *_NOVA_EFFORT) == "high"


def _effort(request: Mapping[str, Any]) -> str | None:
    """Return the effort that is asked for, whichever family's field has it."""
    efforts = (_at(request, *place) for place in _EFFORTS)
    return next((effort for effort in efforts if isinstance(effort, str)), None)


def _at(fields: object, *path: str) -> Any:
    """Return what stands at a path, None if there is no such thing."""
    for key in path:
        fields = fields.get(key) if isinstance(fields, Mapping) else None
    return fields


def _merged(request: Mapping[str, Any], changes: Mapping[str, Any]) -> Fields:
    merged = dict(request)
    for key, value in changes.items():
        present = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = _merged(present if isinstance(present, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged

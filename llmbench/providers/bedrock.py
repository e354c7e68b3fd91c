"""Amazon Bedrock's ConverseStream, through aioboto3: one API for the models of all makers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import httpx2
from botocore.exceptions import ClientError, InvalidRegionError, NoRegionError

from llmbench.config import ResolvedProvider
from llmbench.measure.exchange import Exchange, Limits
from llmbench.measure.transport import StampedTransport
from llmbench.messages import Model, Profile
from llmbench.providers.aws_credentials import (
    Bearer,
    CredentialChain,
    CredentialsUnavailable,
    Keys,
    bearer,
    region_of_profile,
)
from llmbench.providers.aws_session import CannedSession, endpoint_of, open_client
from llmbench.providers.base import WARM_UP_URL, Prepared, Unusable, body_overrides, merged
from llmbench.providers.bedrock_reasoning import (
    FIELDS,
    TEMPERATURE,
    Fields,
    at,
    effort_of,
    excludes_temperature,
    reasoning_fields,
)
from llmbench.providers.presets import AWS_REGION_VARIABLES, first_set
from llmbench.wire.bedrock_converse import ConverseDecoder

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


class _Client(NamedTuple):
    """A client of one region, with what its requests are made good with."""

    credentials: Keys | Bearer
    scope: AsyncExitStack
    api: Any


class Bedrock:
    """Bedrock in any number of regions. Satisfies `Provider`; the key is none of its affair."""

    def __init__(self, settings: ResolvedProvider, _key: str | None, *, kernel: bool = True) -> None:
        self.name = settings.name
        self._settings = settings
        self._transport = StampedTransport(ca_file=settings.ca_file, kernel=kernel)
        self._chain = CredentialChain()
        self._credentials: Keys | Bearer | None = None
        self._clients: dict[str, _Client] = {}
        self._region, self._region_source = self._named_region()
        self.endpoint = self._endpoint(self._region)

    def _named_region(self) -> tuple[str | None, str]:
        """Return the region that is set, None if that of the profile counts, and where to correct it."""
        if self._settings.region is not None:
            return self._settings.region, f"region under [providers.{self.name}]"
        found = first_set(AWS_REGION_VARIABLES, os.environ)
        return (found[1], found[0]) if found is not None else (None, "the profile's region in ~/.aws/config")

    def _endpoint(self, region: str | None) -> str:
        return self._settings.base_url or (endpoint_of(region) if region else "")

    async def warm_up(self) -> None:
        """Load the API's model, and have one good answer and one refusal parsed."""
        keys = Keys("warm-up", "warm-up", None)
        async with open_client("us-east-1", WARM_UP_URL, keys, {}, CannedSession) as client:
            for _ in range(2):
                await _warm_up(client)

    def exchange(self, limits: Limits) -> Exchange:
        return self._transport.exchange(limits)

    async def check(self) -> None:
        try:
            self._region = self._region or await region_of_profile()
            await self.renew()
        except CredentialsUnavailable as error:
            raise Unusable(str(error)) from error
        if self._region is None:
            raise Unusable(f"no region is set: set region under [providers.{self.name}], or {AWS_REGION_VARIABLES[0]}")
        self.endpoint = self._endpoint(self._region)
        await self._open(self._region, self._region_source)
        for region in set(self._settings.model_regions.values()):
            await self._open(region, f"model_regions under [providers.{self.name}]")

    async def renew(self) -> None:
        """Raises `CredentialsUnavailable`."""
        self._credentials = bearer() or await self._chain.keys(self._region)

    async def _open(self, region: str, source: str) -> None:
        try:
            await self._client(region)
        except InvalidRegionError as error:
            raise Unusable(f"{region!r} is no region: correct {source}") from error

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        await self._transport.connect(exchange, httpx2.URL(prepared.endpoint))

    async def close(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.scope.aclose()

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        region = self._settings.region_of(model) or self._region
        if region is None:
            raise NoRegionError
        request = _request(model, profile, prompt)
        return Prepared(
            mode="converse",
            endpoint=self._endpoint(region),
            region=region,
            temperature=at(request, *TEMPERATURE),
            reasoning_effort=effort_of(request),
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
        """Return the region's client; it is made anew when the credentials have changed. Makes no request."""
        credentials, present = self._credentials, self._clients.get(region)
        assert credentials is not None, "renew them first"
        if present is not None and present.credentials == credentials:
            return present.api
        scope = AsyncExitStack()
        opening = open_client(region, self._endpoint(region), credentials, self._settings.headers)
        api = await scope.enter_async_context(opening)
        self._clients[region] = _Client(credentials, scope, api)
        if present is not None:
            await present.scope.aclose()
        return api


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
    own = body_overrides(model)
    if fields := reasoning_fields(model.model_id, profile, own):
        request[FIELDS] = fields
    request = merged(request, own)
    if excludes_temperature(request) and at(own, *TEMPERATURE) is None:
        return merged(request, {"inferenceConfig": {"temperature": None}})
    return request

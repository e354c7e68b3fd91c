"""Anthropic's Messages API, through the anthropic SDK."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import anthropic
import httpx2

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
from llmbench.wire.anthropic_messages import MessagesDecoder

_LEAKING = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_WEBHOOK_SIGNING_KEY",
)
_IDENTITY = {"accept-encoding": "identity"}


class AnthropicMessages:
    """The Messages API. Satisfies `Provider`."""

    def __init__(self, settings: ResolvedProvider, key: str | None, *, kernel: bool = True) -> None:
        self.name = settings.name
        self.endpoint = settings.base_url
        self._settings = settings
        self._http = SdkEndpoint(ca_file=settings.ca_file, kernel=kernel)
        self._client = self._sdk(settings.base_url, key, self._http.client)

    def _sdk(self, base_url: str, key: str | None, http_client: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
        with without_environment(*_LEAKING):
            return anthropic.AsyncAnthropic(
                base_url=base_url,
                api_key=key or "none",
                max_retries=0,
                timeout=None,
                default_headers=dict(self._settings.headers),
                http_client=http_client,
                open_telemetry=False,
            )

    async def warm_up(self) -> None:
        sink = warm_up_client("text/event-stream", b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        async with (
            self._sdk(WARM_UP_URL, "warm-up", sink) as client,
            _send(client, {"model": "warm-up", "max_tokens": 1, "messages": []}),
        ):
            pass

    def exchange(self, limits: Limits) -> Exchange:
        return self._http.exchange(limits)

    async def check(self) -> None:
        """The key was looked up before the provider was opened."""

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        await self._http.connect(exchange, prepared.endpoint)

    async def close(self) -> None:
        await self._client.close()

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        request: dict[str, Any] = {
            "model": model.model_id,
            "max_tokens": profile.max_tokens,
            "messages": [{"role": "user", "content": prompt}],
        }
        overrides = dict(body_overrides(model))
        if profile.temperature is not None and "thinking" not in overrides:
            overrides.setdefault("temperature", profile.temperature)  # the API takes it, the SDK has no argument for it
        return Prepared(
            mode="messages",
            endpoint=self.endpoint,
            temperature=overrides.get("temperature"),
            decoder=MessagesDecoder,
            send=lambda: _send(self._client, request, overrides),
        )


def _send(
    client: anthropic.AsyncAnthropic, request: dict[str, Any], extra_body: dict[str, Any] | None = None
) -> AbstractAsyncContextManager[object]:
    manager = client.messages.with_streaming_response.create(
        stream=True, extra_headers=_IDENTITY, extra_body=extra_body or None, **request
    )
    return cast("AbstractAsyncContextManager[object]", manager)

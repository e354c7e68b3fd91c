"""Anthropic's Messages API, through the anthropic SDK."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, cast

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

LEAKING = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_WEBHOOK_SIGNING_KEY",
)
"""Variables from which the SDK takes addresses, headers and credentials that nobody configured."""

_IDENTITY = {"accept-encoding": "identity"}
_EFFORTS = {"minimal": "low"}
"""Efforts of other providers that Anthropic calls differently."""


class AnthropicMessages:
    """The Messages API. Satisfies `Provider`."""

    def __init__(self, settings: ResolvedProvider, key: str | None, *, kernel: bool = True) -> None:
        self.name = settings.name
        self.endpoint = settings.base_url
        self._settings = settings
        self._http = SdkEndpoint(ca_file=settings.ca_file, kernel=kernel)
        self._client = self._sdk(settings.base_url, key, self._http.client)

    def _sdk(self, base_url: str, key: str | None, http_client: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
        with without_environment(*LEAKING):
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
            send_messages(client, SMALLEST),
        ):
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

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        asked = ask_messages(model, profile, prompt)
        return Prepared(
            mode="messages",
            endpoint=self.endpoint,
            temperature=asked.temperature,
            reasoning_effort=asked.reasoning_effort,
            decoder=MessagesDecoder,
            send=lambda: send_messages(self._client, asked),
        )


class Messages(NamedTuple):
    """A request to the Messages API: the SDK's arguments, the fields laid over its body, and what the row tells."""

    arguments: Mapping[str, Any]
    overrides: Mapping[str, Any]
    temperature: float | None = None
    reasoning_effort: str | None = None


SMALLEST = Messages({"model": "warm-up", "max_tokens": 1, "messages": []}, {})


def ask_messages(model: Model, profile: Profile, prompt: str) -> Messages:
    """Lay a request out: the profile's, with the model's own fields in the place of its own."""
    overrides = dict(body_overrides(model))
    reasoning = {} if "thinking" in overrides else _thinking(profile.reasoning_effort)
    thinking = overrides.get("thinking", reasoning.get("thinking"))
    if profile.temperature is not None and not _is_on(thinking):
        overrides.setdefault("temperature", profile.temperature)  # the API takes it, the SDK has no argument for it
    arguments = {
        "model": model.model_id,
        "max_tokens": profile.max_tokens,
        "messages": [{"role": "user", "content": prompt}],
        **reasoning,
    }
    effort = _effort(overrides.get("output_config", reasoning.get("output_config")))
    if effort is None and reasoning:
        effort = profile.reasoning_effort
    return Messages(arguments, overrides, overrides.get("temperature"), effort)


def _thinking(effort: str | None) -> dict[str, Any]:
    """Return how an effort is asked for.

    Source: Anthropic's "Adaptive thinking" and "Effort". Claude 4.6 and later take it; older models need a budget of
    tokens instead, which their own ``request.thinking`` can give. ``summarized``: some models show no thinking unasked.
    """
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    config = {"effort": _EFFORTS.get(effort, effort)}
    return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": config}


def _is_on(thinking: object) -> bool:
    """Say whether the request asks for thinking, which excludes a temperature."""
    return thinking is not None and not (isinstance(thinking, Mapping) and thinking.get("type") == "disabled")


def _effort(output_config: object) -> str | None:
    effort = output_config.get("effort") if isinstance(output_config, Mapping) else None
    return effort if isinstance(effort, str) else None


def send_messages(
    client: anthropic.AsyncAnthropic | anthropic.AsyncAnthropicVertex,
    asked: Messages,
    headers: Mapping[str, str] | None = None,
) -> AbstractAsyncContextManager[object]:
    """Send a request; the SDK leaves the body of a good answer to be read from the exchange."""
    create: Any = client.messages.with_streaming_response.create
    manager = create(
        stream=True,
        extra_headers={**_IDENTITY, **(headers or {})},
        extra_body=dict(asked.overrides) or None,
        **asked.arguments,
    )
    return cast("AbstractAsyncContextManager[object]", manager)

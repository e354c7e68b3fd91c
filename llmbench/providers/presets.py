"""What llmbench knows of each provider before anyone configures it: pure data, no SDK.

The URLs are those of the providers' own API references. The rates are cautious: low enough for an account's first
tier, and far above what a model every few hours needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

ProviderKind = Literal["openai", "anthropic", "bedrock", "vertex", "openai-compatible"]

COMPATIBLE: ProviderKind = "openai-compatible"

CLOUD_KINDS: tuple[ProviderKind, ...] = ("bedrock", "vertex")
"""Kinds whose credentials come from the machine, by the cloud's own rules, and whose address follows from a region."""

AWS_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""Where the SDKs look for a region that is not configured; the first that is set counts."""


def first_set(names: Iterable[str], env: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the name and the value of the first variable that is set. White space is no part of a value."""
    return next(((name, value) for name in names if (value := env.get(name, "").strip())), None)


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults of one provider; every field can be overridden in ``[providers.NAME]`` but ``kind``.

    An empty ``base_url`` follows from the region; an empty ``api_key_env`` means that no key is taken from a variable.
    """

    kind: ProviderKind
    base_url: str = ""
    api_key_env: str = ""
    requests_per_minute: float = 30.0
    concurrency: int = 2


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        kind="openai",
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        requests_per_minute=60.0,
        concurrency=4,
    ),
    "anthropic": Preset(
        kind="anthropic",
        base_url="https://api.anthropic.com",
        api_key_env="ANTHROPIC_API_KEY",
        requests_per_minute=40.0,
    ),
    "bedrock": Preset(kind="bedrock", requests_per_minute=20.0),
    "vertex": Preset(kind="vertex", requests_per_minute=20.0),
    "groq": Preset(
        kind=COMPATIBLE,
        base_url="https://api.groq.com/openai/v1",
        api_key_env="GROQ_API_KEY",
        requests_per_minute=20.0,
    ),
    "together": Preset(
        kind=COMPATIBLE,
        base_url="https://api.together.ai/v1",
        api_key_env="TOGETHER_API_KEY",
    ),
    "fireworks": Preset(
        kind=COMPATIBLE,
        base_url="https://api.fireworks.ai/inference/v1",
        api_key_env="FIREWORKS_API_KEY",
    ),
    "deepinfra": Preset(
        kind=COMPATIBLE,
        base_url="https://api.deepinfra.com/v1/openai",
        api_key_env="DEEPINFRA_API_KEY",
    ),
    "cerebras": Preset(
        kind=COMPATIBLE,
        base_url="https://api.cerebras.ai/v1",
        api_key_env="CEREBRAS_API_KEY",
        requests_per_minute=20.0,
    ),
    "openrouter": Preset(
        kind=COMPATIBLE,
        base_url="https://openrouter.ai/api/v1",
        api_key_env="OPENROUTER_API_KEY",
        requests_per_minute=20.0,
    ),
}

OTHER_REQUESTS_PER_MINUTE = 60.0
"""The rate of a provider without a preset."""

OTHER_CONCURRENCY = 1
"""One stream at a time for a provider without a preset: streams of one local server slow each other down."""

RESPONSES_PREFIXES = ("o1", "o3", "o4", "o5", "gpt-5", "gpt-6", "gpt-7")
"""OpenAI's reasoning models, by the beginning of their ids; they are reached through the Responses API."""

COMPLETIONS_SUFFIXES = ("-instruct",)
"""OpenAI's models, by the end of their ids, that only the legacy Completions API serves."""

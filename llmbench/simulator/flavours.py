"""How the providers that share a wire format differ in it: chosen by the first part of the path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Headers = list[tuple[str, str]]


class Flavour(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's ways. ``reasoning`` is the delta's field for reasoning text, None where it is not shown.

    ``usage`` says where token counts are: in a chunk of their own if asked for, in the chunk with the finish reason,
    or in its ``x_groq``. ``errors`` names the wording in `problems`.
    """

    name: str
    errors: str
    reasoning: str | None = "reasoning_content"
    usage: Literal["asked", "finish", "x_groq"] = "asked"
    time_info: bool = False
    comment: str = "keep-alive"
    always_comments: bool = False
    needs_key: bool = True
    openai_rules: bool = False


_KNOWN = {
    "openai": Flavour(name="openai", errors="openai", reasoning=None, openai_rules=True),
    "groq": Flavour(name="groq", errors="groq", reasoning="reasoning", usage="x_groq"),
    "together": Flavour(name="together", errors="together", reasoning="reasoning", usage="finish"),
    "fireworks": Flavour(name="fireworks", errors="fireworks", usage="finish"),
    "deepinfra": Flavour(name="deepinfra", errors="deepinfra", usage="finish"),
    "cerebras": Flavour(name="cerebras", errors="cerebras", reasoning="reasoning", usage="finish", time_info=True),
    "openrouter": Flavour(
        name="openrouter",
        errors="openrouter",
        reasoning="reasoning",
        comment="OPENROUTER PROCESSING",
        always_comments=True,
    ),
    "anthropic": Flavour(name="anthropic", errors="anthropic"),
    "local": Flavour(name="local", errors="other", needs_key=False),
}

REQUEST_LIMIT = 10_000
TOKEN_LIMIT = 2_000_000


def flavour_of(provider: str) -> Flavour:
    """Return a provider's ways; one that is not known answers as a vLLM server does."""
    return _KNOWN.get(provider) or Flavour(name=provider, errors="other")


def request_id(flavour: Flavour, sequence: int) -> str:
    """Return the id that the response's header carries; the same request number gives the same id."""
    return f"req_sim{sequence:021d}" if flavour.name == "anthropic" else f"req_{sequence:032x}"


def provider_headers(flavour: Flavour, sequence: int, *, exhausted: bool, milliseconds: int) -> Headers:
    """Return the headers with which the provider describes the request; ``exhausted`` is the state behind a 429."""
    left = 0 if exhausted else REQUEST_LIMIT - 1
    if flavour.name == "anthropic":
        return _anthropic_headers(request_id(flavour, sequence), left)
    headers = [("x-request-id", request_id(flavour, sequence)), *_rate_limits(left)]
    match flavour.name:
        case "openai":
            headers += [
                ("openai-organization", "org-simulated"),
                ("openai-processing-ms", str(milliseconds)),
                ("openai-version", "2020-10-01"),
            ]
        case "groq":
            headers.append(("x-groq-region", "simulated"))
    return headers


def _rate_limits(left: int) -> Headers:
    return [
        ("x-ratelimit-limit-requests", str(REQUEST_LIMIT)),
        ("x-ratelimit-limit-tokens", str(TOKEN_LIMIT)),
        ("x-ratelimit-remaining-requests", str(left)),
        ("x-ratelimit-remaining-tokens", str(TOKEN_LIMIT - 100)),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "3ms"),
    ]


def _anthropic_headers(identity: str, left: int) -> Headers:
    reset = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        ("request-id", identity),
        ("anthropic-organization-id", "org-simulated"),
        ("anthropic-ratelimit-requests-limit", str(REQUEST_LIMIT)),
        ("anthropic-ratelimit-requests-remaining", str(left)),
        ("anthropic-ratelimit-requests-reset", reset),
        ("anthropic-ratelimit-output-tokens-limit", str(TOKEN_LIMIT)),
        ("anthropic-ratelimit-output-tokens-remaining", str(TOKEN_LIMIT - 100)),
        ("anthropic-ratelimit-output-tokens-reset", reset),
    ]

"""How the providers that share a wire format differ in it: chosen by the first part of the path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Headers = list[tuple[str, str]]


class Flavour(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's ways. ``reasoning`` is the delta's field for reasoning text, None where it is not shown.

    ``usage`` says where token counts are: in a chunk of their own if asked for, in the chunk with the finish reason,
    or in its ``x_groq``. ``errors`` names the wording in `problems`; ``error_list`` puts an error response into a list.
    ``id_header`` is the header of the request's id, if there is one.
    """

    name: str
    errors: str
    reasoning: str | None = "reasoning_content"
    usage: Literal["asked", "finish", "x_groq"] = "asked"
    time_info: bool = False
    comment: str = "keep-alive"
    always_comments: bool = False
    openai_rules: bool = False
    error_list: bool = False
    id_header: str | None = "x-request-id"


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
    "anthropic": Flavour(name="anthropic", errors="anthropic", id_header="request-id"),
    "bedrock": Flavour(name="bedrock", errors="bedrock", id_header="x-amzn-requestid"),
    "local": Flavour(name="local", errors="other"),
    "vertex": Flavour(name="vertex", errors="google", id_header=None),
}

VERTEX_MAAS = Flavour(name="vertex", errors="google", error_list=True, usage="finish", id_header=None)
VERTEX_CLAUDE = Flavour(name="vertex", errors="google", error_list=True, id_header="request-id")

_UUID = "00000000-0000-4000-8000-"
"""Bedrock's request ids are UUIDs; their last twelve digits count the requests."""

REQUEST_LIMIT = 10_000
TOKEN_LIMIT = 2_000_000


def flavour_of(provider: str) -> Flavour:
    """Return a provider's ways; one that is not known answers as a vLLM server does."""
    return _KNOWN.get(provider) or Flavour(name=provider, errors="other")


def request_id(flavour: Flavour, sequence: int) -> str:
    """Return the id that the response's header carries; the same request number gives the same id."""
    match flavour.name:
        case "anthropic":
            return f"req_sim{sequence:021d}"
        case "vertex":
            return f"req_vrtx_{sequence:020d}"
        case "bedrock":
            return f"{_UUID}{sequence:012d}"
        case _:
            return f"req_{sequence:032x}"


def sequence_of(identity: str) -> int:
    """Return the number of the request that was given this `request_id`. Raises ValueError if it is none of them."""
    for prefix in ("req_sim", "req_vrtx_", _UUID):
        if identity.startswith(prefix):
            return int(identity.removeprefix(prefix))
    return int(identity.removeprefix("req_"), 16)


def provider_headers(flavour: Flavour, sequence: int, *, exhausted: bool, milliseconds: int) -> Headers:
    """Return the headers with which the provider describes the request; ``exhausted`` is the state behind a 429."""
    left = 0 if exhausted else REQUEST_LIMIT - 1
    headers = [(flavour.id_header, request_id(flavour, sequence))] if flavour.id_header else []
    match flavour.name:
        case "anthropic":
            return headers + _anthropic_headers(left)
        case "vertex":
            return [*headers, *_GOOGLE_HEADERS]
        case "bedrock":
            return headers
    headers += _rate_limits(left)
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


_GOOGLE_HEADERS = [("server", "scaffolding on HTTPServer2"), ("vary", "Origin"), ("x-content-type-options", "nosniff")]


def _anthropic_headers(left: int) -> Headers:
    reset = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        ("anthropic-organization-id", "org-simulated"),
        ("anthropic-ratelimit-requests-limit", str(REQUEST_LIMIT)),
        ("anthropic-ratelimit-requests-remaining", str(left)),
        ("anthropic-ratelimit-requests-reset", reset),
        ("anthropic-ratelimit-output-tokens-limit", str(TOKEN_LIMIT)),
        ("anthropic-ratelimit-output-tokens-remaining", str(TOKEN_LIMIT - 100)),
        ("anthropic-ratelimit-output-tokens-reset", reset),
    ]

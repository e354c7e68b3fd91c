"""The lists of models, in the shapes of OpenAI's, Anthropic's and Bedrock's references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmbench.simulator.flavours import Flavour

_CREATED = 1_735_689_600
"""Unix time of 2025-01-01, for every model."""

_PAGE = 20
_MAX_PAGE = 1000

_CHAT = ["sim-ttft200-gap20", "sim-ttft80-gap5-jitter1", "sim-rtok16-ttft150-gap10", "sim-429-retry7"]
_MODELS = {
    "openai": [*_CHAT, "o3-sim-reason300-ttft100-gap10", "gpt-5-sim-rtok64-ttft120-gap8", "sim-ttft60-gap6-instruct"],
    "anthropic": ["claude-sim-ttft250-gap15", "claude-sim-rtok32-ttft150-gap12", "claude-sim-529"],
}


def models_of(flavour: Flavour) -> list[str]:
    """Return the ids of the models that a provider lists; any other name with ``sim`` in it works too."""
    return _MODELS.get(flavour.name, _CHAT)


def entry(flavour: Flavour, model: str) -> dict[str, Any]:
    """Return one model as the provider describes it."""
    if flavour.name == "anthropic":
        return {"type": "model", "id": model, "display_name": model.title(), "created_at": "2025-01-01T00:00:00Z"}
    return {"id": model, "object": "model", "created": _CREATED, "owned_by": flavour.name}


def listing(flavour: Flavour, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of the list; only Anthropic's has pages (``limit``, ``after_id``)."""
    models = models_of(flavour)
    if flavour.name != "anthropic":
        return {"object": "list", "data": [entry(flavour, model) for model in models]}
    after = query.get("after_id", "")
    start = models.index(after) + 1 if after in models else 0
    limit = query.get("limit", "")
    size = min(max(int(limit), 1), _MAX_PAGE) if limit.isascii() and limit.isdigit() else _PAGE
    page = models[start : start + size]
    return {
        "data": [entry(flavour, model) for model in page],
        "has_more": start + size < len(models),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


_ON_DEMAND = ["amazon.sim-ttft200-gap20-v1:0", "meta.sim-ttft80-gap5-jitter1-v1:0"]
_BY_PROFILE = ["anthropic.claude-sim-ttft250-gap15-v1:0", "anthropic.claude-sim-rtok32-ttft150-gap12-v1:0"]
_ARN = "arn:aws:bedrock:us-east-1:"
_ACCOUNT = "000000000000"


def foundation_models() -> dict[str, object]:
    """Return Bedrock's list of models; some of them answer through an inference profile only."""
    kinds = [(model, "ON_DEMAND") for model in _ON_DEMAND] + [(model, "INFERENCE_PROFILE") for model in _BY_PROFILE]
    return {"modelSummaries": [_foundation_model(model, kind) for model, kind in kinds]}


def _foundation_model(model: str, inference: str) -> dict[str, object]:
    return {
        "modelArn": f"{_ARN}:foundation-model/{model}",
        "modelId": model,
        "modelName": model.partition(".")[2],
        "providerName": model.partition(".")[0].title(),
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "customizationsSupported": [],
        "inferenceTypesSupported": [inference],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def inference_profiles() -> dict[str, object]:
    """Return Bedrock's list of inference profiles."""
    return {"inferenceProfileSummaries": [_profile(model) for model in _BY_PROFILE]}


def _profile(model: str) -> dict[str, object]:
    return {
        "inferenceProfileName": f"US {model}",
        "inferenceProfileArn": f"{_ARN}{_ACCOUNT}:inference-profile/us.{model}",
        "inferenceProfileId": f"us.{model}",
        "models": [{"modelArn": f"{_ARN}:foundation-model/{model}"}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
    }

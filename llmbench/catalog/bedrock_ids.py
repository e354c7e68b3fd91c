"""Which ids Bedrock takes: some models are called by their own id, others only through an inference profile.

An inference profile's id is the model's with a geography in front: ``us.anthropic.claude-sonnet-4-5-20250929-v1:0``.
Source: "Supported foundation models" and "Supported Regions and models for inference profiles" in Amazon's user guide.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from llmbench.catalog.findings import Finding, base_id

GEOGRAPHIES = ("us-gov", "us", "eu", "apac", "jp", "au", "ca", "global")
"""What may stand in front of a model's id, with a dot."""


class Family(NamedTuple):
    """Models that have to be called in one way: through a ``profile``, or by their ``plain`` id."""

    name: str
    pattern: re.Pattern[str]
    form: Literal["profile", "plain"]


FAMILIES = (
    Family("Claude", re.compile(r"anthropic\.claude-(?!v[0-9]|instant)"), "profile"),
    Family("Llama 3.2 and newer", re.compile(r"meta\.llama(?:3-[2-9]-|[4-9])"), "profile"),
    Family("DeepSeek-R1", re.compile(r"deepseek\.r1-"), "profile"),
    Family("Nova Premier", re.compile(r"amazon\.nova-premier-"), "profile"),
    Family("Pixtral Large", re.compile(r"mistral\.pixtral-large-"), "profile"),
    Family("Palmyra X4 and X5", re.compile(r"writer\.palmyra-x[45]-"), "profile"),
    # Llama 3.1 has both forms.
    Family("Llama 3 and older", re.compile(r"meta\.llama(?:2|3-[0-9]+b)"), "plain"),
    Family("Cohere's Command", re.compile(r"cohere\.command"), "plain"),
    Family("Mistral of 2024", re.compile(r"mistral\.(?:mistral|mixtral)-.*-v[0-9]+:[0-9]+$"), "plain"),
)
"""The families that have a rule. All others are taken as they are: new ones come every month, and many have both."""

_PROFILE_ONLY = "can only be called through a geography's inference profile"
_CALLABLE = (
    ("us-gov-", ("us-gov",)),
    ("us-", ("us", "global")),
    ("eu-", ("eu", "global")),
    ("ap-", ("apac", "jp", "au", "global")),
    ("ca-", ("us", "ca", "global")),
)
"""The geographies whose profiles a region can call, by the region's beginning; the first is the usual one there."""

# Where a geography has no profile of a model, the id that is named would not work: so what is known of that counts.
_UNITED_STATES_ONLY = re.compile(
    r"meta\.llama(?!3-2-[13]b-)|anthropic\.claude-(?:3-opus|3-5-haiku|opus-4-(?:1-)?2025)"
    r"|deepseek\.r1-|amazon\.nova-premier-|writer\.palmyra-"
)
_GLOBAL = re.compile(r"anthropic\.claude-(?:haiku|opus|fable)-|anthropic\.claude-sonnet-(?:4-[5-9]|[5-9])")
"""Claude since version 4.5. It has no profile for all of Asia and the Pacific, as those before it have."""
_SPLIT = re.compile(
    rf"(?:(?P<geography>{'|'.join(GEOGRAPHIES)})\.)?(?P<model>.+?)(?P<context>:[0-9]+k)?", re.IGNORECASE
)


def judge(model_id: str, region: str | None = None) -> Finding | None:
    """Return what is wrong with an id, with the right one for ``region`` (default: one in the United States).

    ARNs of inference profiles, provisioned throughput and imported models are right; that of a foundation model is
    judged like the model's id.
    """
    if not model_id.startswith("arn:") and model_id != model_id.lower():
        lower = judge(model_id.lower(), region)
        right = model_id.lower() if lower is None else lower.right
        return _wrong("is not in lower case, as Bedrock's ids are", right)
    split = _SPLIT.fullmatch(base_id(model_id))
    if split is None:
        return None
    geography, model = split["geography"], split["model"]
    family = next((family for family in FAMILIES if family.pattern.match(model.lower())), None)
    if family is not None and family.form == "profile" and geography is None:
        own, can_call = geography_of(model, region), callable_from(region)
        missing = f", of which {region} can call none" if can_call is not None and own not in can_call else ""
        return _wrong(
            f"can't be called by this id, since on Bedrock {family.name} {_PROFILE_ONLY}{missing}", f"{own}.{model}"
        )
    if family is not None and family.form == "plain" and geography is not None:
        return _wrong(f"names an inference profile, and on Bedrock {family.name} can only be called without one", model)
    if split["context"] is not None:
        return _wrong(
            "names a context size, which only the purchase of provisioned throughput takes",
            f"{geography}.{model}" if geography else model,
        )
    if geography is None or base_id(model_id) != model_id:
        return None
    return _judge_geography(geography.lower(), model, family, region)


def _judge_geography(geography: str, model: str, family: Family | None, region: str | None) -> Finding | None:
    """Return what is wrong with a geography in front of a model, which may be right elsewhere."""
    can_call = callable_from(region)
    own = geography_of(model, region)
    if can_call is not None and geography not in can_call:
        right = f"{own}.{model}" if family is not None and own in can_call else None
        return _wrong(
            f"names a profile of the geography {geography!r}, and {region} can only call those of "
            f"{' or '.join(can_call)} (model_regions may give the model another region)",
            right,
        )
    if geography == "apac" and _GLOBAL.match(model.lower()):
        return _wrong("names a profile of Asia and the Pacific, where this model has none", f"global.{model}")
    return None


def callable_from(region: str | None) -> tuple[str, ...] | None:
    """Return the geographies whose profiles can be called from a region, None if nothing is known of it."""
    return next((found for beginning, found in _CALLABLE if (region or "").startswith(beginning)), None)


def geography_of(model: str, region: str | None) -> str:
    """Return the geography whose profile serves a model in a region, ``us`` if the region is not known."""
    name = model.lower()
    found = (callable_from(region or "us-") or (None,))[0]
    if found in ("us", "us-gov"):
        return found
    if _UNITED_STATES_ONLY.match(name):
        return "us"
    if found == "eu":
        return found
    return "us" if name.startswith("meta.") else "global" if _GLOBAL.match(name) else found or "us"


def _wrong(reason: str, right: str | None) -> Finding:
    return Finding(problem="wrong_id", reason=reason, right=right)

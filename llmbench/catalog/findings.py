"""What a rule says against an id, and the part of an id that rules look at."""

from __future__ import annotations

import re
from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Why a row should not be in the catalogue as it is.

    ``wrong_id``: the provider does not take it, but ``right`` where a rule can tell. ``unfit``: the model is of a kind
    that this benchmark can't compare. ``profile``: nobody knows the row's. ``request``: it has fields that are not
    sent. ``reason`` is what the sentence says of the model: ``is an embedding model, …``.
    """

    problem: Literal["wrong_id", "unfit", "profile", "request"]
    reason: str
    right: str | None = None


_TUNED = re.compile(r"ft:(?P<base>[^:]+):")
_ARN = re.compile(r"arn:[\w-]+:bedrock:[^/]*:(?P<resource>[\w-]+)/(?P<name>.+)", re.IGNORECASE)
_NAMES_A_MODEL = ("foundation-model", "inference-profile")


def base_id(model_id: str) -> str:
    """Return the part of an id that says which model it is.

    That is the base of a fine-tuned model of OpenAI (``ft:gpt-4o-mini:acme::x``), and the end of an ARN of Bedrock;
    empty if the ARN names something that an account gave a name of its own.
    """
    if tuned := _TUNED.match(model_id):
        return tuned["base"]
    if arn := _ARN.fullmatch(model_id):
        return arn["name"] if arn["resource"] in _NAMES_A_MODEL else ""
    return model_id


def word(pattern: str) -> re.Pattern[str]:
    """Return the pattern with a boundary at both ends: what stands beside it is no letter and no digit."""
    return re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", re.IGNORECASE)

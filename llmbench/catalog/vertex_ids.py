"""Which ids Vertex takes, and which API reaches them: short names of Gemini and Claude, others with their publisher.

The path of a model in Google's listing (``publishers/google/models/gemini-2.5-flash``) is no id, but it holds one.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from llmbench.catalog.findings import Finding

Api = Literal["gemini", "messages", "chat"]
APIS: tuple[Api, ...] = get_args(Api)
ASKABLE = (
    "of Vertex's models, llmbench knows how to ask Gemini ('gemini-…'), Claude ('claude-…') and those of the "
    "OpenAI-compatible endpoint ('publisher/model', but not Mistral's and AI21's)"
)

_PATH = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?publishers/(?P<publisher>[^/]+)/models/(?P<model>[^/]+)")
_BARE = re.compile(r"models/(?P<model>gemini-[^/]+)")
_CLAUDE = re.compile(r"anthropic/(?P<model>claude-[^/]+)")
_PUBLISHERS = {"llama": "meta", "deepseek": "deepseek-ai", "qwen": "qwen", "gpt-oss": "openai"}
_WITHOUT_PUBLISHER = re.compile(rf"(?P<family>{'|'.join(_PUBLISHERS)})[^/]*-maas")
_NAMED_ALONE = ("google", "anthropic")
"""Publishers whose models are asked for by their short names, but for those that end in ``-maas``."""
_WITH_THEIR_OWN_API = ("mistralai/", "ai21/")
_MANAGED = "-maas"


def api_of(model_id: str) -> Api | None:
    """Return the API that reaches a model, None if that is none of those that llmbench speaks."""
    if model_id.endswith(_MANAGED):
        return "chat"
    if "/" in model_id:
        return None if model_id.startswith(_WITH_THEIR_OWN_API) else "chat"
    if model_id.startswith("gemini-"):
        return "gemini"
    return "messages" if model_id.startswith("claude-") else None


def judge(model_id: str, api: str | None = None) -> Finding | None:
    """Return what is wrong with an id, None if nothing is; a version such as ``@20250929`` may end it.

    ``api`` is the one that the model's own ``request`` chooses, if any.
    """
    if path := _PATH.fullmatch(model_id):
        return _wrong("is a path, and Vertex is asked by the short id", _short(**path.groupdict()))
    if found := _BARE.fullmatch(model_id) or _CLAUDE.fullmatch(model_id):
        return _wrong("has more than the model's name in it, and Vertex is asked by that alone", found["model"])
    if found := _WITHOUT_PUBLISHER.fullmatch(model_id):
        return _wrong("lacks its publisher", f"{_PUBLISHERS[found['family']]}/{model_id}")
    if api in APIS or api_of(model_id) is not None:
        return None
    return _wrong("has capital letters, and Vertex's ids have none", model_id.lower())


def _short(publisher: str, model: str) -> str:
    alone = publisher in _NAMED_ALONE and not model.endswith(_MANAGED)
    return model if alone else f"{publisher}/{model}"


def _wrong(reason: str, right: str) -> Finding:
    """Return the finding, without a right id if that could not be asked either."""
    if api_of(right) is None:
        return Finding(problem="wrong_id", reason=f"can't be asked, since {ASKABLE}")
    return Finding(problem="wrong_id", reason=reason, right=right)

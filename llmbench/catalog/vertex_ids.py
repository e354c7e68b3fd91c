"""Which ids Vertex takes: the short name of Gemini and Claude, and the publisher in front of the other models.

The path of a model in Google's listing (``publishers/google/models/gemini-2.5-flash``) is no id, but it holds one.
"""

from __future__ import annotations

import re

from llmbench.catalog.findings import Finding

_PATH = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?publishers/(?P<publisher>[^/]+)/models/(?P<model>[^/]+)")
_BARE = re.compile(r"models/(?P<model>gemini-[^/]+)")
_CLAUDE = re.compile(r"anthropic/(?P<model>claude-[^/]+)")
_PUBLISHERS = {"llama": "meta", "deepseek": "deepseek-ai", "qwen": "qwen", "gpt-oss": "openai"}
_WITHOUT_PUBLISHER = re.compile(rf"(?P<family>{'|'.join(_PUBLISHERS)})[^/]*-maas")
_NAMED_ALONE = ("google", "anthropic", "mistralai")
"""Publishers whose models are asked for by their short names."""


def judge(model_id: str) -> Finding | None:
    """Return what is wrong with an id, None if nothing is; a version such as ``@20250929`` may end it."""
    if path := _PATH.fullmatch(model_id):
        short = path["model"] if path["publisher"] in _NAMED_ALONE else f"{path['publisher']}/{path['model']}"
        return _wrong("is a path, and Vertex is asked by the short id", short)
    if found := _BARE.fullmatch(model_id) or _CLAUDE.fullmatch(model_id):
        return _wrong("has more than the model's name in it, and Vertex is asked by that alone", found["model"])
    if found := _WITHOUT_PUBLISHER.fullmatch(model_id):
        return _wrong("lacks its publisher", f"{_PUBLISHERS[found['family']]}/{model_id}")
    return None


def _wrong(reason: str, right: str) -> Finding:
    return Finding(problem="wrong_id", reason=reason, right=right)

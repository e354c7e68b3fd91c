"""Which models reason without being asked to, told by their ids.

Such a model spends most of a small budget before any visible text, so it gets the profile ``reasoning``. Models
that reason only if asked (Claude, Nova 2, Gemini 2.5 Flash-Lite) or that can be told not to (Qwen 3, GLM, Kimi
K2.5, DeepSeek V3.1 and newer) keep the profile ``default``: whether they do, and which effort they take, depends on
who serves them.
"""

from __future__ import annotations

import re
from functools import cache

from llmbench.catalog.findings import base_id, word

_REASONING = (
    "o[1-9]",
    r"gpt-(?:[5-9]|[1-9][0-9])(?:\.[0-9]+)?",
    "gpt-oss",
    "codex-mini",
    "r1(?:t[0-9]?)?",
    "reasoner",
    "(?:qwq|qvq)",
    "(?:magistral|openthinker)",
    "(?:think|thinking|reasoning)",
    "exaone-deep",
    "v3[.p]2-speciale",
    r"gemini-(?:2\.[5-9]|[3-9](?:\.[0-9]+)?)",
    "gemini-(?:pro|flash)-latest",
    "grok-(?:3-mini|[4-9]|code-fast)",
    "minimax-m[12](?:[.p][0-9])?",
    "glm-(?:[a-z0-9.]+-)*z1",
    "(?:ernie-x1|hunyuan-t1)",
)
_NOT_REASONING = (
    r"gpt-[0-9]+(?:\.[0-9]+)?-chat",
    r"gemini-2\.[0-9]-flash-lite",
    "(?:non|no)-?(?:reasoning|thinking|think)",
)
"""Names that hold one of the words above all the same."""


def reasons(kind: str | None, model_id: str) -> bool:
    """Say whether a model at a provider of this kind reasons without being asked to.

    ``kind`` is the provider's kind, as in the configuration, None if it is not known.
    """
    if kind == "anthropic":
        return False
    name = base_id(model_id)
    reasoning, not_reasoning = _patterns()
    return reasoning.search(name) is not None and not_reasoning.search(name) is None


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    return word("|".join(_REASONING)), word("|".join(_NOT_REASONING))

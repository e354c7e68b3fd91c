"""How Bedrock's models are asked to reason: each family has fields and efforts of its own, known by the model's id.

Sources: the Bedrock user guide, "Adaptive thinking"; Anthropic's "Thinking" and "Effort" and its migration guides; the
Nova 2 guide, "Extended thinking"; OpenAI's model card of gpt-oss.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llmbench.messages import Profile

Fields = dict[str, Any]

FIELDS = "additionalModelRequestFields"
"""Where the operation takes what only some models know."""

TEMPERATURE = ("inferenceConfig", "temperature")
_THINKING = (FIELDS, "thinking", "type")
_NOVA = (FIELDS, "reasoningConfig", "type")
_NOVA_EFFORT = (FIELDS, "reasoningConfig", "maxReasoningEffort")
_EFFORTS = ((FIELDS, "output_config", "effort"), _NOVA_EFFORT, (FIELDS, "reasoning_effort"))
_OFF = "none"


class _Family(NamedTuple):
    """How the models with such ids are asked: ``names`` has the efforts that they call differently.

    ``off`` keeps them from reasoning; a family without a way to do so has a name for the effort ``none`` as well.
    """

    ids: re.Pattern[str]
    names: Mapping[str, str]
    ask: Callable[[str], Fields]
    off: Fields


def _claude(ids: str, names: Mapping[str, str], off: Fields) -> _Family:
    """Some versions show no thinking unasked, hence ``summarized``."""
    return _Family(
        re.compile(rf"\banthropic\.claude-(?:{ids})"),
        {"minimal": "low", **names},
        lambda effort: {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": effort},
        },
        off,
    )


_DISABLED: Fields = {"thinking": {"type": "disabled"}}
_NO_CLAUDE_BEFORE_46 = r"(?!v\d|instant|3|(?:opus|sonnet|haiku)-4(?:-[015])?-20\d{6})"
_THREE_LEVELS = {"minimal": "low", "xhigh": "high", "max": "high"}

# The first that matches counts. Claude up to 4.5 does not think adaptively, and DeepSeek-R1 always reasons: what is not
# here is asked nothing.
_FAMILIES = (
    _claude(r"fable|mythos|(?:opus|sonnet|haiku)-(?:5-[5-9]|[6-9])\b", {"none": "low"}, {}),
    _claude(r"(?:opus|sonnet)-4-6\b", {"xhigh": "high"}, _DISABLED),
    # These don't think unless they are asked to, and Bedrock refuses the word "disabled" for them.
    _claude(r"(?:opus|sonnet|haiku)-4-[789]\b", {}, {}),
    _claude(_NO_CLAUDE_BEFORE_46, {}, _DISABLED),
    _Family(
        re.compile(r"\bamazon\.nova-2-"),
        _THREE_LEVELS,
        lambda effort: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}},
        {"reasoningConfig": {"type": "disabled"}},
    ),
    _Family(
        re.compile(r"\bopenai\.gpt-oss-"),
        {**_THREE_LEVELS, "none": "low"},
        lambda effort: {"reasoning_effort": effort},
        {},
    ),
)


def reasoning_fields(model_id: str, profile: Profile, own: Mapping[str, Any]) -> Fields:
    """Return the model's fields for the profile's effort: none if it has none, the family knows none, or ``own`` rules.

    ``own`` are the model's own parameters of the operation; where they say whether it thinks, nothing is added.
    """
    family = next((family for family in _FAMILIES if family.ids.search(model_id)), None)
    if profile.reasoning_effort is None or family is None or at(own, *_THINKING) or at(own, *_NOVA):
        return {}
    effort = family.names.get(profile.reasoning_effort, profile.reasoning_effort)
    return family.off if effort == _OFF else family.ask(effort)


def excludes_temperature(request: Mapping[str, Any]) -> bool:
    """Say whether a temperature would be refused: beside Claude's thinking, and by Nova 2 at its highest effort."""
    return at(request, *_THINKING) not in (None, "disabled") or at(request, *_NOVA_EFFORT) == "high"


def effort_of(request: Mapping[str, Any]) -> str | None:
    """Return the effort that is asked for, whichever family's field has it."""
    if "disabled" in (at(request, *_THINKING), at(request, *_NOVA)):
        return _OFF
    efforts = (at(request, *place) for place in _EFFORTS)
    return next((effort for effort in efforts if isinstance(effort, str)), None)


def at(fields: object, *path: str) -> Any:
    """Return what stands at a path, None if there is no such thing."""
    for key in path:
        fields = fields.get(key) if isinstance(fields, Mapping) else None
    return fields

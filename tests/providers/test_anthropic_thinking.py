"""How the Messages API is asked to think, at Anthropic itself and, by the same function, on Vertex."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmbench.providers.anthropic_messages import ask_messages
from llmbench.simulator import SpawnedSimulator
from tests.runs import MESSAGES, job, profile, run_family

ADAPTIVE = {"type": "adaptive", "display": "summarized"}
BY_BUDGET = {"type": "enabled", "budget_tokens": 1024}


def asked(effort: str | None, own: dict[str, Any] | None = None) -> tuple[dict[str, Any], str | None, float | None]:
    """Return the reasoning part of the body, and what the row tells of effort and temperature."""
    model = msgspec.structs.replace(job("anthropic", "claude-x", profile()).model, request=own)
    request = ask_messages(model, profile(reasoning_effort=effort, temperature=0.0), "x")
    body = {**request.arguments, **request.overrides}
    return (
        {name: body[name] for name in ("thinking", "output_config") if name in body},
        request.reasoning_effort,
        request.temperature,
    )


@pytest.mark.parametrize(
    ("effort", "reasoning", "told", "temperature"),
    [
        (None, {}, None, 0.0),
        ("low", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}, "low", None),
        ("xhigh", {"thinking": ADAPTIVE, "output_config": {"effort": "xhigh"}}, "xhigh", None),
        ("minimal", {"thinking": ADAPTIVE, "output_config": {"effort": "low"}}, "low", None),
        ("none", {"thinking": {"type": "disabled"}}, "none", 0.0),
    ],
)
def test_an_effort_asks_for_adaptive_thinking(
    effort: str | None, reasoning: dict[str, Any], told: str | None, temperature: float | None
) -> None:
    """Thinking excludes a temperature, and the row tells the effort as it was sent."""
    assert asked(effort) == (reasoning, told, temperature)


@pytest.mark.parametrize(
    ("own", "reasoning", "told", "temperature"),
    [
        ({"thinking": BY_BUDGET}, {"thinking": BY_BUDGET}, None, None),
        ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, None, 0.0),
        ({"output_config": {"effort": "max"}}, {"thinking": ADAPTIVE, "output_config": {"effort": "max"}}, "max", None),
    ],
)
def test_a_models_own_fields_come_before_the_profiles_effort(
    own: dict[str, Any], reasoning: dict[str, Any], told: str | None, temperature: float | None
) -> None:
    """An older model thinks by a budget, and takes no effort beside it."""
    assert asked("low", own) == (reasoning, told, temperature)


async def test_it_goes_over_the_wire(simulator: SpawnedSimulator) -> None:
    """As Anthropic's own SDK sends it; the row has the effort, and the thinking's time."""
    ran = await run_family(
        simulator, MESSAGES, "rtok5-ttft1-gap0", reasoning_effort="low", validation_policy="reasoning"
    )
    assert (ran.request.body["thinking"], ran.request.body["output_config"]) == (ADAPTIVE, {"effort": "low"})
    assert ran.sample.reasoning_effort == "low"
    assert ran.sample.time_to_first_reasoning_token is not None

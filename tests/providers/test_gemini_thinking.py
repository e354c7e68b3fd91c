"""How Gemini is asked to think: by a level, by a number of tokens, or not at all, as the model's version has it."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.providers.vertex_gemini import ask_gemini, thinking_config
from tests.runs import job, profile


@pytest.mark.parametrize(
    ("model_id", "effort", "max_tokens", "expected"),
    [
        ("gemini-2.5-flash", None, 1024, (None, {})),
        ("gemini-2.0-flash", "low", 1024, (None, {})),
        ("gemini-2.5-flash", "low", 4096, ("low", {"includeThoughts": True, "thinkingBudget": 1024})),
        ("gemini-2.5-flash", "high", 65536, ("high", {"includeThoughts": True, "thinkingBudget": 24576})),
        ("gemini-2.5-flash", "high", 20000, ("medium", {"includeThoughts": True, "thinkingBudget": 8192})),
        ("gemini-2.5-flash", "high", 4096, ("low", {"includeThoughts": True, "thinkingBudget": 1024})),
        ("gemini-2.5-flash", "high", 1024, ("minimal", {"includeThoughts": True, "thinkingBudget": 512})),
        ("gemini-2.5-flash", "low", 1024, ("minimal", {"includeThoughts": True, "thinkingBudget": 512})),
        ("gemini-2.5-flash", "low", 64, ("minimal", {"includeThoughts": True, "thinkingBudget": 32})),
        ("gemini-2.5-flash", "none", 1024, ("none", {"thinkingBudget": 0})),
        ("gemini-2.5-pro", "none", 1024, ("minimal", {"includeThoughts": True, "thinkingBudget": 512})),
        ("gemini-2.5-pro", "low", 64, ("minimal", {"includeThoughts": True, "thinkingBudget": 128})),
        ("gemini-2.5-flash-lite", "max", 64, ("minimal", {"includeThoughts": True, "thinkingBudget": 512})),
        ("gemini-3-pro-preview", "low", 64, ("low", {"includeThoughts": True, "thinkingLevel": "LOW"})),
        ("gemini-3.1-flash", "none", 64, ("minimal", {"includeThoughts": True, "thinkingLevel": "MINIMAL"})),
        ("gemini-flash-latest", "xhigh", 64, ("high", {"includeThoughts": True, "thinkingLevel": "HIGH"})),
    ],
)
def test_an_effort_becomes_what_the_model_takes(
    model_id: str, effort: str | None, max_tokens: int, expected: tuple[str | None, dict[str, Any]]
) -> None:
    """Tokens for 2.5, at most half the run's and within the model's range; a level later; nothing before."""
    assert thinking_config(model_id, profile(reasoning_effort=effort, max_tokens=max_tokens)) == expected


@pytest.mark.parametrize("model_id", ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite"])
@pytest.mark.parametrize("max_tokens", [1025, 2048, 4096, 16384, 50000])
def test_an_effort_in_the_row_means_one_number(model_id: str, max_tokens: int) -> None:
    """Two efforts that send the same budget are one effort, and text always has half the tokens left."""
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    sent = [thinking_config(model_id, profile(reasoning_effort=effort, max_tokens=max_tokens)) for effort in efforts]
    told = {(effort, fields["thinkingBudget"]) for effort, fields in sent}
    assert len(told) == len({effort for effort, _ in told}) == len({budget for _, budget in told})
    assert all(budget <= max_tokens // 2 for _, budget in told)


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [({}, "low"), ({"thinkingBudget": 5}, None), ({"thinkingLevel": "HIGH"}, "high"), (None, "low")],
)
def test_a_models_own_thinking_is_what_the_row_tells(thinking: dict[str, Any] | None, expected: str | None) -> None:
    """Its level, or nothing for a number of tokens, which is no effort's; else that of the profile."""
    own = {"generationConfig": {"thinkingConfig": thinking}}
    work = job("vertex", "gemini-2.5-flash", profile(reasoning_effort="low", max_tokens=4096), own)
    assert ask_gemini(work.model, work.profile, "x").reasoning_effort == expected

"""How Gemini is asked to think: by a level, by a number of tokens, or not at all, as the model's version has it."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.providers.vertex_gemini import thinking_config
from tests.runs import profile


@pytest.mark.parametrize(
    ("model_id", "effort", "max_tokens", "expected"),
    [
        ("gemini-2.5-flash", None, 1024, (None, {})),
        ("gemini-2.0-flash", "low", 1024, (None, {})),
        ("gemini-2.5-flash", "low", 4096, ("low", {"includeThoughts": True, "thinkingBudget": 1024})),
        ("gemini-2.5-flash", "high", 1024, ("high", {"includeThoughts": True, "thinkingBudget": 512})),
        ("gemini-2.5-flash", "none", 1024, ("none", {"thinkingBudget": 0})),
        ("gemini-2.5-pro", "none", 1024, ("minimal", {"includeThoughts": True, "thinkingBudget": 512})),
        ("gemini-2.5-pro", "low", 64, ("low", {"includeThoughts": True, "thinkingBudget": 128})),
        ("gemini-2.5-flash-lite", "max", 64, ("high", {"includeThoughts": True, "thinkingBudget": 512})),
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

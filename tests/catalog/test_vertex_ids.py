"""Vertex's ids: real ones pass, and a path or a name without its publisher comes with the right id."""

from __future__ import annotations

import pytest

from llmbench.catalog.vertex_ids import judge

RIGHT = """
gemini-2.5-flash gemini-2.0-flash-001 google/gemini-2.5-pro claude-sonnet-4-5@20250929 claude-opus-4-6@default
meta/llama-3.3-70b-instruct-maas meta/llama-4-scout-17b-16e-instruct-maas deepseek-ai/deepseek-r1-0528-maas
qwen/qwen3-coder-480b-a35b-instruct-maas openai/gpt-oss-120b-maas mistral-small-2503@001 mistral-medium-3
projects/p/locations/us-central1/endpoints/1234567890
"""


@pytest.mark.parametrize("model_id", RIGHT.split())
def test_right_ids_pass(model_id: str) -> None:
    """Short ids with and without a version, models with their publisher, endpoints of a project's own."""
    assert judge(model_id) is None


@pytest.mark.parametrize(
    ("model_id", "right"),
    [
        ("publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("projects/p/locations/global/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("publishers/anthropic/models/claude-sonnet-4-5@20250929", "claude-sonnet-4-5@20250929"),
        ("publishers/mistralai/models/mistral-small-2503", "mistral-small-2503"),
        ("publishers/meta/models/llama-3.3-70b-instruct-maas", "meta/llama-3.3-70b-instruct-maas"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("anthropic/claude-opus-4-6@default", "claude-opus-4-6@default"),
        ("llama-3.3-70b-instruct-maas", "meta/llama-3.3-70b-instruct-maas"),
        ("gpt-oss-120b-maas", "openai/gpt-oss-120b-maas"),
    ],
)
def test_a_wrong_id_comes_with_the_right_one(model_id: str, right: str) -> None:
    """The finding names an id that no rule is against."""
    found = judge(model_id)

    assert found is not None
    assert (found.problem, found.right) == ("wrong_id", right)
    assert judge(right) is None

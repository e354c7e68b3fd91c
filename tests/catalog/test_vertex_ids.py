"""Vertex's ids: real ones pass, and a path or a name without its publisher comes with the right id."""

from __future__ import annotations

import pytest

from llmbench.catalog.vertex_ids import api_of, judge

RIGHT = """
gemini-2.5-flash gemini-2.0-flash-001 google/gemini-2.5-pro claude-sonnet-4-5@20250929 claude-opus-4-6@default
meta/llama-3.3-70b-instruct-maas meta/llama-4-scout-17b-16e-instruct-maas deepseek-ai/deepseek-r1-0528-maas
qwen/qwen3-coder-480b-a35b-instruct-maas openai/gpt-oss-120b-maas
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
        ("publishers/google/models/gemma-9-9b-it-maas", "google/gemma-9-9b-it-maas"),
        ("publishers/meta/models/llama-3.3-70b-instruct-maas", "meta/llama-3.3-70b-instruct-maas"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("anthropic/claude-opus-4-6@default", "claude-opus-4-6@default"),
        ("llama-3.3-70b-instruct-maas", "meta/llama-3.3-70b-instruct-maas"),
        ("gpt-oss-120b-maas", "openai/gpt-oss-120b-maas"),
        ("Gemini-2.5-flash", "gemini-2.5-flash"),
        ("Claude-Sonnet-4-5@20250929", "claude-sonnet-4-5@20250929"),
    ],
)
def test_a_wrong_id_comes_with_the_right_one(model_id: str, right: str) -> None:
    """The finding names an id that no rule is against."""
    found = judge(model_id)

    assert found is not None
    assert (found.problem, found.right) == ("wrong_id", right)
    assert judge(right) is None
    assert api_of(right) is not None


UNASKABLE = """
mistral-medium-3 mistral-small-2503@001 codestral-2 gemma-3-27b-it jamba-1.5-large text-bison llama3
mistralai/mistral-medium-3 publishers/mistralai/models/mistral-medium-3 publishers/google/models/gemma-3-27b-it
projects/p/locations/global/publishers/ai21/models/jamba-1.5-large
"""


@pytest.mark.parametrize("model_id", UNASKABLE.split())
def test_what_no_api_reaches_has_no_right_id(model_id: str) -> None:
    """The finding says what can be asked, and never names an id that would be refused in its turn."""
    found = judge(model_id)

    assert found is not None
    assert (found.problem, found.right) == ("wrong_id", None)
    assert found.reason.startswith("can't be asked, since of Vertex's models, llmbench knows how to ask Gemini")


@pytest.mark.parametrize("model_id", [*RIGHT.split(), *UNASKABLE.split()])
def test_what_passes_can_be_asked(model_id: str) -> None:
    """An id without a finding has an API; one that has none has a finding."""
    assert judge(model_id) is not None or api_of(model_id) is not None


def test_a_model_that_names_its_api_can_be_asked() -> None:
    """A tuned model may have any name; what is no API is no help."""
    assert judge("tuned", "gemini") is None
    assert judge("tuned", "soap") is not None

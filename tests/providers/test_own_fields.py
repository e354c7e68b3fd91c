"""A model's own request fields over what the profile asks."""

from __future__ import annotations

from typing import Any

import pytest

from llmbench.providers.base import merged
from llmbench.providers.vertex_gemini import Gemini, ask_gemini
from tests.runs import job, profile


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"a": None}, {"b": {"c": 2, "d": 3}}),
        ({"b": {"c": None, "e": {"f": None, "g": 4}}}, {"a": 1, "b": {"d": 3, "e": {"g": 4}}}),
        ({"b": 5, "h": [None]}, {"a": 1, "b": 5, "h": [None]}),
        ({"a": {"x": 1, "y": None}, "z": None}, {"a": {"x": 1}, "b": {"c": 2, "d": 3}}),
    ],
)
def test_changes_are_merged_and_nulls_take_out(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """At any depth, without touching what was given; a null inside of a list is a value."""
    request = {"a": 1, "b": {"c": 2, "d": 3}}
    assert merged(request, changes) == expected
    assert request == {"a": 1, "b": {"c": 2, "d": 3}}


def gemini(own: dict[str, Any]) -> Gemini:
    return ask_gemini(job("vertex", "gemini-2.5-flash", profile(), own).model, profile(temperature=0.5), "hello")


def test_a_null_takes_out_what_the_profile_asks_of_gemini() -> None:
    """It is not sent as a null, and the row does not claim it."""
    asked = gemini({"generationConfig": {"temperature": None, "topK": 3}})
    assert (asked.config, asked.temperature) == ({"max_output_tokens": profile().max_tokens}, None)
    assert asked.body == {"generationConfig": {"topK": 3}}


def test_a_models_own_value_replaces_what_the_profile_asks_of_gemini() -> None:
    """The body that is laid over the SDK's has it, and so has the row."""
    asked = gemini({"generationConfig": {"temperature": 0.9}})
    assert (asked.body, asked.temperature) == ({"generationConfig": {"temperature": 0.9}}, 0.9)
    assert gemini({}).temperature == 0.5

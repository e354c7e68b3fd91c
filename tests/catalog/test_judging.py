"""Which rules hold where, and that nothing of the simulator's is against one."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from llmbench.catalog import judge
from llmbench.cli import demo
from llmbench.providers.presets import PRESETS, ProviderKind
from llmbench.simulator import MENU
from llmbench.simulator.flavours import flavour_of
from llmbench.simulator.listings import models_of

KINDS: tuple[str | None, ...] = (*get_args(ProviderKind), None)
CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
PATH = "publishers/google/models/gemini-2.5-flash"


@pytest.mark.parametrize("kind", KINDS)
def test_unfit_kinds_are_unfit_everywhere(kind: str | None) -> None:
    """An embedding model is one wherever it is served, also where the provider is not known any more."""
    found = judge(kind, "text-embedding-3-small")

    assert found is not None
    assert found.problem == "unfit"


@pytest.mark.parametrize("kind", KINDS)
def test_a_cloud_s_rules_hold_in_that_cloud_only(kind: str | None) -> None:
    """Elsewhere such ids are names like any other, or can't be asked at all."""
    found = judge(kind, CLAUDE)

    assert (found is not None and found.right is not None) == (kind == "bedrock")
    assert (judge(kind, PATH) is not None) == (kind == "vertex")


def test_unfit_comes_before_the_form_of_an_id() -> None:
    """Nobody is told how to spell the id of a model that does not fit."""
    found = judge("vertex", "publishers/google/models/imagen-4.0-generate-001")

    assert found is not None
    assert (found.problem, found.right) == ("unfit", None)


def test_a_region_changes_the_right_id() -> None:
    """It is passed on to the rules that ask for it."""
    found = judge("bedrock", CLAUDE, "eu-west-1")

    assert found is not None
    assert found.right == f"eu.{CLAUDE}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", [re.sub(r"[<[].*", "7", form) for form, _meaning in MENU])
def test_the_simulators_names_fit(kind: str | None, word: str) -> None:
    """Every word of its menu, behind names as real providers have them."""
    for prefix in ("", "o3-", "meta-llama/", "anthropic.claude-", "whisper-"):
        assert judge(kind, f"{prefix}sim-{word}") is None


def test_listed_and_demonstrated_models_fit() -> None:
    """What the simulator lists and the demo measures is not refused."""
    listed = {model for name in (*PRESETS, "local") for model in models_of(flavour_of(name))}
    shown = {model for models in demo.MODELS.values() for model in models}

    assert [model for model in listed | shown for kind in KINDS if judge(kind, model) is not None] == []

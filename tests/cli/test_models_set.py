"""`llmbench models set`: what the catalogue says of a model, changed by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Program
from tests.stores.documents import model


def shown(program: Program, name: str) -> dict[str, Any]:
    """Return the row of a model and the profile that it is measured with."""
    detail: dict[str, Any] = json.loads(program.ok("models", "show", name, "--json").out)
    return {**detail["model"], "effective_profile": detail["effective_profile"]}


def test_a_profile_is_set_and_taken_away(program: Program) -> None:
    """It decides what the model is asked; without one, its provider and id do, as before."""
    program.store(models=[model(notes="kept")])
    assert program.ok("models", "set", "openai/GPT-4o-mini", "--profile", "reasoning").out == (
        "openai/gpt-4o-mini changed\n"
    )
    row = shown(program, "openai/gpt-4o-mini")
    assert (row["profile"], row["effective_profile"], row["notes"]) == ("reasoning", "reasoning", "kept")
    program.ok("models", "set", "openai/gpt-4o-mini", "--profile", "none")
    row = shown(program, "openai/gpt-4o-mini")
    assert "profile" not in row
    assert row["effective_profile"] == "default"


def test_region_and_name_are_set_and_taken_away(program: Program) -> None:
    """Several at once; what is not named stays."""
    program.store(models=[model("us.amazon.nova-lite-v1:0", provider="bedrock", profile="reasoning")])
    name = "bedrock/us.amazon.nova-lite-v1:0"
    result = program.ok("models", "set", name, "--region", "us-west-2", "--display-name", "Nova Lite", "--json")
    row = json.loads(result.out)
    assert (row["region"], row["display_name"], row["profile"]) == ("us-west-2", "Nova Lite", "reasoning")
    program.ok("models", "set", name, "--region", "none", "--display-name", "none")
    assert {"region", "display_name"}.isdisjoint(shown(program, name))


def test_setting_what_is_so_already_is_no_error(program: Program) -> None:
    """It says that nothing is another now."""
    program.store(models=[model(profile="reasoning")])
    assert program.ok("models", "set", "openai/gpt-4o-mini", "--profile", "reasoning").out == (
        "openai/gpt-4o-mini is as it was\n"
    )


def test_a_disabled_model_stays_disabled(program: Program) -> None:
    """Its reason stays, too."""
    program.store(models=[model(enabled=False, disabled_reason="too dear")])
    program.ok("models", "set", "openai/gpt-4o-mini", "--display-name", "Mini")
    row = shown(program, "openai/gpt-4o-mini")
    assert (row["enabled"], row["disabled_reason"], row["display_name"]) == (False, "too dear", "Mini")


def test_a_model_that_only_config_toml_lists_can_be_changed(program: Program) -> None:
    """It is in the catalogue from then on, and the list in the file does not undo the change."""
    program.configure('[providers.openai]\nmodels = ["gpt-4o"]\n')
    program.ok("models", "set", "openai/gpt-4o", "--profile", "reasoning")
    assert shown(program, "openai/gpt-4o")["profile"] == "reasoning"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "nothing to change: give --profile, --region or --display-name"),
        (
            ["--profile", "reasonin"],
            "profile 'reasonin' is unknown: use 'reasoning', or add a table [profiles.reasonin] to config.toml",
        ),
        (
            ["--region", "us-east-1"],
            "--region is of use with Bedrock and Vertex only: 'openai' is of kind 'openai'",
        ),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(program: Program, options: list[str], sentence: str) -> None:
    """The row stays as it is."""
    program.store(models=[model()])
    before = shown(program, "openai/gpt-4o-mini")
    assert program.refused("models", "set", "openai/gpt-4o-mini", *options) == sentence
    assert shown(program, "openai/gpt-4o-mini") == before


def test_a_region_has_to_look_like_one(program: Program) -> None:
    """A wrong one is refused with an example of a right one."""
    program.store(models=[model("us.amazon.nova-lite-v1:0", provider="bedrock")])
    sentence = program.refused("models", "set", "bedrock/us.amazon.nova-lite-v1:0", "--region", "US East")
    assert sentence == "--region must be a region such as 'us-east-1', 'us-central1' or 'global', not 'US East'"


def test_a_region_that_cannot_call_the_id_is_refused(program: Program) -> None:
    """The id that the region can call is named, the row stays as it is, and what was forced in is left alone."""
    name = "us.anthropic.claude-sonnet-4-20250514-v1:0"
    program.store(models=[model(name, provider="bedrock")])
    before = shown(program, f"bedrock/{name}")
    assert program.refused("models", "set", f"bedrock/{name}", "--region", "eu-west-1") == (
        f"bedrock/{name} names a profile of the geography 'us', and eu-west-1 can only call those of eu or global "
        f"(model_regions may give the model another region): use bedrock/eu.{name.removeprefix('us.')}"
    )
    assert shown(program, f"bedrock/{name}") == before
    program.configure('[providers.bedrock]\nregion = "us-east-1"\n')
    program.ok("models", "set", f"bedrock/{name}", "--region", "us-west-2")
    forced = f"bedrock/eu.{name.removeprefix('us.')}"
    program.ok("models", "add", forced, "--force")
    program.ok("models", "set", forced, "--region", "us-east-2")


def test_taking_a_region_away_is_judged_as_well(program: Program) -> None:
    """The provider's own region counts then."""
    name = "bedrock/us.anthropic.claude-sonnet-4-20250514-v1:0"
    program.configure('[providers.bedrock]\nregion = "eu-west-1"\n')
    program.store(models=[model(name.removeprefix("bedrock/"), provider="bedrock", region="us-east-1")])
    assert "eu-west-1 can only call" in program.refused("models", "set", name, "--region", "none")

"""What the rules about ids do in the program: `models add`, `models check`, `config check`, and the profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Program, Result
from tests.stores.documents import model

CLAUDE = "anthropic.claude-3-7-sonnet-20250219-v1:0"
NEEDS = "can't be called by this id, since on Bedrock Claude can only be called through a geography's inference profile"
EMBEDS = "is an embedding model, which returns vectors and no text"
CLOUDS = '[providers.bedrock]\nregion = "eu-west-1"\n[providers.vertex]\nproject = "p"\n'


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.lines()]


def catalogue(program: Program) -> dict[str, dict[str, Any]]:
    return {row["model_id"]: row for row in documents(program.ok("models", "list", "--json"))}


# add


def test_a_wrong_id_is_refused_with_the_right_one(program: Program) -> None:
    """The right one is of the configured region, works, and nothing was added before."""
    program.configure(CLOUDS)
    assert program.refused("models", "add", f"bedrock/{CLAUDE}") == (
        f"bedrock/{CLAUDE} {NEEDS}: use bedrock/eu.{CLAUDE}, or add it all the same with --force"
    )
    assert catalogue(program) == {}
    assert program.ok("models", "add", f"bedrock/eu.{CLAUDE}").out == f"bedrock/eu.{CLAUDE} added\n"
    assert program.refused("models", "add", "vertex/publishers/google/models/gemini-2.5-pro").endswith(
        "use vertex/gemini-2.5-pro, or add it all the same with --force"
    )


@pytest.mark.parametrize(
    ("lines", "variables", "geography"),
    [
        ("", {}, "us"),
        ("", {"AWS_REGION": "eu-north-1"}, "eu"),
        ("", {"AWS_DEFAULT_REGION": "ap-south-1"}, "apac"),
        ("", {"AWS_REGION": " ", "AWS_DEFAULT_REGION": " eu-north-1\n"}, "eu"),
        ('region = "us-gov-west-1"\n', {"AWS_REGION": "eu-north-1"}, "us-gov"),
        (f'region = "us-east-1"\nmodel_regions = {{ "{CLAUDE}" = "ap-south-1" }}\n', {}, "apac"),
    ],
)
def test_the_region_decides_the_geography(
    program: Program, lines: str, variables: dict[str, str], geography: str
) -> None:
    """The model's own region counts before the provider's, that before the variables of AWS."""
    program.configure(f"[providers.bedrock]\n{lines}")
    sentence = program.refused("models", "add", f"bedrock/{CLAUDE}", env=variables)
    assert f": use bedrock/{geography}.{CLAUDE}, or " in sentence


def test_a_model_that_does_not_fit_is_refused_with_the_reason(program: Program) -> None:
    """There is no id to use in its place."""
    assert program.refused("models", "add", "openai/text-embedding-3-small") == (
        f"openai/text-embedding-3-small {EMBEDS}: choose one that chats, or add it all the same with --force"
    )
    assert catalogue(program) == {}


def test_a_model_that_vertex_could_not_be_asked_for_is_refused(program: Program) -> None:
    """Before it is added, and not by each of its runs."""
    program.configure(CLOUDS)
    sentence = program.refused("models", "add", "vertex/publishers/mistralai/models/mistral-medium-3")
    assert "can't be asked, since of Vertex's models" in sentence
    assert sentence.endswith(": choose another, or add it all the same with --force")
    assert catalogue(program) == {}


def test_force_adds_it_all_the_same_and_keeps_why(program: Program) -> None:
    """What was overridden is said, and stays in the row; an id without a finding gets no note."""
    program.configure(CLOUDS)
    result = program.ok("models", "add", f"bedrock/{CLAUDE}", "--force")
    assert result.out == f"bedrock/{CLAUDE} added\n"
    assert result.err == f"against the rules: bedrock/{CLAUDE} {NEEDS}: use bedrock/eu.{CLAUDE}\n"
    program.ok("models", "add", "openai/gpt-4o", "--force")
    rows = catalogue(program)
    assert rows[CLAUDE]["notes"] == f"added with --force: {NEEDS}"
    assert "notes" not in rows["gpt-4o"]


# check


def test_a_good_catalogue_is_checked_in_a_line(program: Program) -> None:
    """It is counted, and there is nothing else to say."""
    program.store(models=[model(), model("llama-3.3-70b-versatile", provider="groq"), model("o1", enabled=False)])
    assert program.ok("models", "check") == (0, "OK: 2 ids checked\n", "")
    assert program.ok("models", "check", "--all", "--provider", "OpenAI").out == "OK: 2 ids checked\n"
    assert program.ok("models", "check", "--json").out == ""
    assert "provider 'groc' is unknown: use 'groq'" in program.refused("models", "check", "--provider", "groc")


def test_wrong_ids_are_listed_and_fail_the_check(program: Program, narrow: Callable[[Result], None]) -> None:
    """Each with what is wrong and the right id; rows and those that config.toml lists alike."""
    program.configure(f'{CLOUDS}[providers.openai]\nmodels = ["whisper-1", "gpt-4o"]\n')
    program.store(models=[model(CLAUDE, provider="bedrock"), model("embed-x", provider="gone")])
    result = program.run("models", "check")
    assert result.code == 1
    narrow(result)
    cells = [line.split(None, 1 if line[0] != " " else 0) for line in result.lines()[2:]]
    assert ["enabled", "openai/whisper-1"] in cells
    assert ["enabled", "gone/embed-x"] in cells
    assert [EMBEDS] in cells
    assert [f"-> use bedrock/eu.{CLAUDE}"] in cells
    assert cells.count(["-> choose one that chats"]) == 2
    found = documents(program.run("models", "check", "--json"))
    assert [f"{row['provider']}/{row['model_id']}" for row in found] == [
        f"bedrock/{CLAUDE}",
        "gone/embed-x",
        "openai/whisper-1",
    ]
    assert found[0] == {
        "provider": "bedrock",
        "model_id": CLAUDE,
        "enabled": True,
        "forced": False,
        "problem": "wrong_id",
        "reason": NEEDS,
        "right": f"eu.{CLAUDE}",
    }
    assert (found[1]["problem"], found[1]["reason"], found[1]["right"]) == ("unfit", EMBEDS, None)


def test_the_check_can_be_narrowed_down(program: Program) -> None:
    """To a provider; disabled models are left out, or listed without failing it."""
    program.store(models=[model("whisper-1", enabled=False), model("llama-guard-4-12b", provider="groq")])
    assert program.ok("models", "check", "--provider", "openai").out == "OK: 0 ids checked\n"
    (row,) = documents(program.ok("models", "check", "--provider", "openai", "--all", "--json"))
    assert (row["model_id"], row["enabled"]) == ("whisper-1", False)
    assert program.run("models", "check", "--provider", "GROQ").code == 1


def test_a_forced_model_is_no_news(program: Program) -> None:
    """It is listed as what it is, and the check is not red for ever because of it."""
    program.ok("models", "add", "openai/whisper-1", "--force")
    result = program.ok("models", "check")
    assert "forced" in result.out
    assert documents(program.ok("models", "check", "--json"))[0]["forced"] is True


def test_checking_changes_nothing(program: Program) -> None:
    """What config.toml lists is not seeded, and no row is another afterwards."""
    program.store(models=[model("whisper-1")])
    before = catalogue(program)
    program.configure('[providers.openai]\nmodels = ["gpt-4o", "tts-1"]\n')
    assert program.run("models", "check").code == 1
    program.configure("")
    assert catalogue(program) == before


# config check


def test_config_check_warns_of_listed_ids_and_accepts_them(program: Program) -> None:
    """Hand-written ids are not refused, and are seeded as they are; a provider that is off says nothing."""
    path = program.configure(
        f'[providers.bedrock]\nregion = "ap-south-1"\nmodels = ["{CLAUDE}", "amazon.nova-lite-v1:0"]\n'
        '[providers.groq]\nenabled = false\nmodels = ["whisper-large-v3"]\n'
    )
    credentials = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}
    result = program.ok("config", "check", env=credentials)
    assert result.out.startswith(f"OK: {path}: 1 provider enabled (bedrock), 2 models listed, ")
    assert result.err == f"warning: bedrock/{CLAUDE} {NEEDS}: use bedrock/apac.{CLAUDE}\n"
    assert set(catalogue(program)) == {CLAUDE, "amazon.nova-lite-v1:0", "whisper-large-v3"}


def test_config_check_warns_of_the_worklist(program: Program) -> None:
    """BENCHMARK_MODELS stands in the place of what the file lists."""
    program.configure('[providers.openai]\nmodels = ["tts-1"]\n')
    variables = {"BENCHMARK_MODELS": "gpt-4o,text-embedding-3-small", "OPENAI_API_KEY": "sk-test-0123456789abcdefghij"}
    result = program.ok("config", "check", env=variables)
    assert result.err == f"warning: openai/text-embedding-3-small {EMBEDS}: choose one that chats\n"


# the profile that an id calls for


def test_reasoning_models_of_every_provider_get_their_profile(program: Program) -> None:
    """Not only OpenAI's; a provider's own profile counts before, and so does what the file says of the prefixes."""
    program.configure(
        '[providers.openai]\nmodels = ["o3-mini", "gpt-5-chat-latest", "gpt-5"]\n'
        '[providers.groq]\nmodels = ["deepseek-r1-distill-llama-70b", "llama-3.3-70b-versatile"]\n'
        '[providers.anthropic]\nmodels = ["claude-sonnet-4-5"]\n'
        '[providers.bedrock]\nmodels = ["us.deepseek.r1-v1:0"]\n'
        '[providers.together]\nprofile = "mine"\nmodels = ["openai/gpt-oss-20b"]\n[profiles.mine]\nmax_tokens = 7\n'
    )
    profiles = {model_id: row["effective_profile"] for model_id, row in catalogue(program).items()}
    assert profiles == {
        "o3-mini": "reasoning",
        "gpt-5-chat-latest": "default",
        "gpt-5": "reasoning",
        "deepseek-r1-distill-llama-70b": "reasoning",
        "llama-3.3-70b-versatile": "default",
        "claude-sonnet-4-5": "default",
        "us.deepseek.r1-v1:0": "reasoning",
        "openai/gpt-oss-20b": "mine",
    }
    program.configure('[providers.openai]\nresponses_prefixes = ["gpt-5-chat"]\n')
    profiles = {model_id: row["effective_profile"] for model_id, row in catalogue(program).items()}
    assert [profiles[name] for name in ("o3-mini", "gpt-5-chat-latest", "gpt-5")] == ["default", "reasoning", "default"]

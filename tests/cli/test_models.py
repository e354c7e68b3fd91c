"""`llmbench models`: what the catalogue has, how it is changed, what is refused."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.conftest import Program, Result
from tests.stores.documents import failure, model, sample

EMPTY = """\
the catalogue is empty
  add a model:  llmbench models add openai/gpt-4o-mini
  or list some in config.toml:  models = ["gpt-4o-mini"] under [providers.openai]
"""
IDLE = "openai is not enabled in the configuration, so its models are not measured\n"
LOCAL = '[providers.local]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\n'


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def rows(result: Result) -> list[list[str]]:
    """Return the cells of a table none of which holds two blanks in a row or is folded."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in result.lines()[2:]]


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.lines()]


# list


def test_an_empty_catalogue_says_how_to_fill_it(program: Program) -> None:
    """Nothing is wrong with it, and nothing is printed that a script would take for a model."""
    result = program.ok("models", "list")
    assert (result.out, result.err) == ("", EMPTY)
    assert program.ok("models", "list", "--json").out == ""
    assert program.ok("models", "list", "--provider", "groq").err == EMPTY
    assert program.refused("models", "list", "--provider", "groc").startswith("provider 'groc' is unknown")


def test_the_configuration_seeds_the_list(program: Program, narrow: Callable[[Result], None]) -> None:
    """What config.toml lists is in the catalogue, with the profile that its id and its provider call for."""
    program.configure('[providers.openai]\nmodels = ["gpt-4o-mini", "o3-mini"]\n')
    result = program.ok("models", "list")
    assert rows(result) == [
        ["openai", "gpt-4o-mini", "enabled", "default", "never"],
        ["openai", "o3-mini", "enabled", "reasoning", "never"],
    ]
    assert result.err == ""
    narrow(result)


def test_the_list_tells_state_reason_and_age(program: Program, narrow: Callable[[Result], None]) -> None:
    """Ages are in the largest unit that fits; the reason of a disabled model is there in full."""
    program.store(
        [sample(run_ts=ago(hours=3)), sample(model_name="gpt-5", run_ts=ago(days=40))],
        [
            model(),
            model("gpt-5", profile="mine"),
            model("old", enabled=False, disabled_reason="its provider retired it last spring"),
        ],
    )
    result = program.ok("models", "list")
    assert result.err == IDLE
    narrow(result)
    first, second, third, *folded = rows(result)
    assert first == ["openai", "gpt-4o-mini", "enabled", "default", "3 h ago"]
    assert second == ["openai", "gpt-5", "enabled", "mine", "40 d ago"]
    assert third[:2] == ["openai", "old"]
    told = " ".join([third[2], *(cell for line in folded for cell in line)])
    assert told == "disabled: its provider retired it last spring"


def test_the_list_can_be_narrowed_down(program: Program) -> None:
    """By provider, whatever its case, and by state."""
    program.store(models=[model(), model("old", enabled=False), model("llama", provider="groq")])
    ids = {
        options: [row[1] for row in rows(program.ok("models", "list", *options))]
        for options in [("--provider", "OpenAI"), ("--enabled",), ("--disabled",), ("--provider", "groq", "--enabled")]
    }
    assert ids == {
        ("--provider", "OpenAI"): ["gpt-4o-mini", "old"],
        ("--enabled",): ["llama", "gpt-4o-mini"],
        ("--disabled",): ["old"],
        ("--provider", "groq", "--enabled"): ["llama"],
    }


def test_a_narrowed_list_without_models_is_no_error(program: Program) -> None:
    """It says what was looked for; only a provider that nobody knows is an error."""
    program.store(models=[model(), model("llama", provider="gone")])
    result = program.ok("models", "list", "--provider", "groq", "--disabled")
    assert result.err == "the catalogue has no disabled model of 'groq'; llmbench models list shows what it has\n"
    assert "provider 'groc' is unknown: use 'groq'" in program.refused("models", "list", "--provider", "groc")
    assert program.ok("models", "list", "--provider", "gone", "--disabled").err.startswith("the catalogue has no")


def test_the_list_as_json_is_a_document_a_line(program: Program) -> None:
    """The row as it is stored, and what the table adds to it."""
    program.store([sample(run_ts=ago(hours=1))], [model(), model("gpt-5", profile="mine")])
    first, second = documents(program.ok("models", "list", "--json"))
    assert datetime.fromisoformat(first.pop("last_success")) < datetime.now(UTC)
    assert first == {
        "provider": "openai",
        "model_id": "gpt-4o-mini",
        "enabled": True,
        "deprecated": False,
        "created_at": "2026-03-13T12:00:00Z",
        "effective_profile": "default",
        "failures_in_a_row": 0,
    }
    assert (second["profile"], second["effective_profile"], second["last_success"]) == ("mine", "mine", None)


# add


def test_a_model_is_added(program: Program) -> None:
    """It is in the list from then on; a provider that is not enabled is pointed out."""
    result = program.ok("models", "add", "openai/gpt-4o-mini", "--display-name", "GPT-4o mini")
    assert (result.out, result.err) == ("openai/gpt-4o-mini added\n", IDLE)
    (document,) = documents(program.ok("models", "list", "--json"))
    assert (document["display_name"], document["source"], document["enabled"]) == ("GPT-4o mini", "cli", True)


def test_an_id_may_contain_slashes_and_colons(program: Program) -> None:
    """Only the first slash ends the provider's name."""
    program.configure(LOCAL)
    result = program.ok("models", "add", "local/meta-llama/Llama-3.1-8B:free", "--json")
    assert (result.err, documents(result)[0]["model_id"]) == ("", "meta-llama/Llama-3.1-8B:free")


def test_a_model_that_is_there_is_not_added_again(program: Program) -> None:
    """Its id is compared without regard to case, and named as it was first spelled."""
    program.ok("models", "add", "openai/gpt-4o-mini")
    assert program.refused("models", "add", "openai/GPT-4o-mini") == (
        "openai/gpt-4o-mini is in the catalogue already, enabled; llmbench models show openai/gpt-4o-mini shows it"
    )
    assert program.refused("models", "add", "openai/gpt-4o-mini", "--profile", "reasoning") == (
        "openai/gpt-4o-mini is in the catalogue already, enabled; "
        "llmbench models set openai/gpt-4o-mini --profile reasoning changes its profile"
    )


def test_adding_a_disabled_model_enables_it_again(program: Program) -> None:
    """It says that there was one, since that one was disabled for a reason."""
    program.store(models=[model(enabled=False, disabled_reason="too dear")])
    result = program.ok("models", "add", "openai/gpt-4o-mini", "--profile", "reasoning")
    assert result.out == "openai/gpt-4o-mini was disabled and is enabled again\n"
    (document,) = documents(program.ok("models", "list", "--json"))
    assert (document["enabled"], document["profile"]) == (True, "reasoning")
    assert "disabled_reason" not in document


def test_what_can_not_be_added_is_refused(program: Program) -> None:
    """An unknown provider, an unknown profile, an id that no API has; the catalogue stays empty."""
    sentence = program.refused("models", "add", "opnai/gpt-4o")
    assert sentence.startswith("provider 'opnai' is unknown: use 'openai' (known are 'openai', 'anthropic', ")
    assert program.refused("models", "add", "openai/gpt-4o", "--profile", "reasonin") == (
        "profile 'reasonin' is unknown: use 'reasoning', or add a table [profiles.reasonin] to config.toml"
    )
    assert program.refused("models", "add", "openai/gpt 4o") == (
        "the id of openai/'gpt 4o' must be a model id of 1 to 200 printable ASCII characters without spaces, "
        "not 'gpt 4o'"
    )
    assert program.ok("models", "list").err == EMPTY


# disable, enable


def test_a_disabled_model_keeps_its_row_and_says_who_why_and_when(program: Program) -> None:
    """A model that only config.toml lists can be disabled too, and stays so however often it is listed there."""
    program.configure('[providers.openai]\nmodels = ["gpt-4o-mini"]\n')
    before = datetime.now(UTC)
    result = program.ok("models", "disable", "openai/GPT-4o-mini", "--reason", "too dear", env={"USER": "ada"})
    assert result.out == "openai/gpt-4o-mini disabled\n"
    (document,) = documents(program.ok("models", "list", "--json"))
    assert (document["enabled"], document["disabled_reason"], document["disabled_by"]) == (False, "too dear", "cli:ada")
    assert before <= datetime.fromisoformat(document["disabled_at"]) <= datetime.now(UTC)


def test_the_user_is_named_without_any_variable(program: Program) -> None:
    """Where the environment does not say who it is, the system does."""
    program.store(models=[model()])
    (document,) = documents(program.ok("models", "disable", "openai/gpt-4o-mini", "--reason", "x", "--json"))
    assert document["disabled_by"] == f"cli:{getpass.getuser()}"


def test_disabling_needs_a_reason(program: Program) -> None:
    """An empty one is none."""
    program.store(models=[model()])
    assert "--reason" in program.refused("models", "disable", "openai/gpt-4o-mini")
    assert program.refused("models", "disable", "openai/gpt-4o-mini", "--reason", " ") == (
        "--reason is empty: say why the model is disabled, for whoever wonders later"
    )
    assert documents(program.ok("models", "list", "--json"))[0]["enabled"] is True


def test_a_reason_is_stored_as_it_is_shown(program: Program) -> None:
    """On one line, with controls made visible."""
    program.store(models=[model()])
    program.ok("models", "disable", "openai/gpt-4o-mini", "--reason", " too\x1b[31m\ndear ")
    assert documents(program.ok("models", "list", "--json"))[0]["disabled_reason"] == r"too\x1b[31m\ndear"


def test_disabling_again_gives_a_new_reason(program: Program) -> None:
    """The one that holds from now on."""
    program.store(models=[model(enabled=False, disabled_reason="old")])
    result = program.ok("models", "disable", "openai/gpt-4o-mini", "--reason", "new")
    assert result.out == "openai/gpt-4o-mini was disabled already; the reason is new\n"
    assert documents(program.ok("models", "list", "--json"))[0]["disabled_reason"] == "new"


def test_a_model_is_enabled_again(program: Program) -> None:
    """Why it was disabled is gone with that; once more is no error."""
    program.store(models=[model(enabled=False, disabled_reason="old", disabled_by="cli:ada")])
    assert program.ok("models", "enable", "openai/gpt-4o-mini").out == "openai/gpt-4o-mini enabled\n"
    result = program.ok("models", "enable", "openai/gpt-4o-mini", "--json")
    assert {"disabled_reason", "disabled_by"}.isdisjoint(documents(result)[0])
    assert program.ok("models", "enable", "openai/gpt-4o-mini").out == "openai/gpt-4o-mini was enabled already\n"


@pytest.mark.parametrize("command", [["show"], ["enable"], ["disable", "--reason", "x"], ["set", "--profile", "none"]])
def test_an_unknown_model_names_the_nearest(program: Program, command: list[str]) -> None:
    """Or its provider's nearest, if there is no such provider at all."""
    program.store(models=[model()])
    action, *options = command
    sentence = program.refused("models", action, "openai/gpt-4o-mni", *options)
    assert sentence.startswith("openai/gpt-4o-mni is not in the catalogue: did you mean openai/gpt-4o-mini?")
    assert "llmbench models list --provider openai" in sentence
    sentence = program.refused("models", action, "opnai/gpt-4o-mini", *options)
    assert sentence.startswith("provider 'opnai' is unknown: use 'openai'")


# show

RESET = "the connection was reset [bold]by[/x] \x1b[31mpeer"


def _with_a_past(program: Program) -> None:
    failures = [failure(provider="openai", model_name="gpt-4o-mini", run_ts=ago(minutes=m)) for m in (50, 40)]
    other = failure(
        provider="openai",
        model_name="gpt-4o-mini",
        run_ts=ago(minutes=30),
        error_kind="network",
        normalized_message="reset",
        message=RESET,
        advice="check the way from this machine to the host",
    )
    samples = [sample(run_ts=ago(hours=hours)) for hours in (1, 2, 3, 4)]
    program.store([*samples, *failures, other, failure()], [model(notes="[red]handle with care")])


def test_a_model_is_shown_with_its_past(program: Program, narrow: Callable[[Result], None]) -> None:
    """Row, history, last five outcomes, errors with advice; foreign text stays text, and fits 80 columns."""
    _with_a_past(program)
    result = program.ok("models", "show", "openai/GPT-4o-mini")
    narrow(result)
    head, last, errors = (part.splitlines() for part in result.out.split("\n\n")[::1] if "─" in part)
    facts = dict(line.split("  ", 1) for line in head[2:])
    assert {name: value.strip() for name, value in facts.items()} == {
        "model": "openai/gpt-4o-mini",
        "state": "enabled",
        "profile": "default (by its provider and id)",
        "notes": "[red]handle with care",
        "added": datetime(2026, 3, 13, 12, tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
        "last scheduled success": "1 h ago",
        "failures since": "3 in a row, the last 30 min ago: network",
    }
    assert sum(" ok " in line for line in last) == 2
    assert sum(" rate_limit " in line or " network " in line for line in last) == 3
    told = " ".join(" ".join(errors).split())
    assert "2 rate_limit 39 min ago Error code: 429 - Rate limit reached" in told
    assert r"1 network 29 min ago the connection was reset [bold]by[/x] \x1b[31mpeer" in told
    assert "-> check the way from this machine to the host" in told


def test_a_model_is_shown_as_one_json_object(program: Program) -> None:
    """The row, its history, its outcomes as they are stored, and its errors, each with its advice."""
    _with_a_past(program)
    (shown,) = documents(program.ok("models", "show", "openai/gpt-4o-mini", "--json"))
    assert shown["model"]["model_id"] == "gpt-4o-mini"
    assert (shown["effective_profile"], shown["history"]["failures_in_a_row"]) == ("default", 3)
    assert [outcome["outcome"] for outcome in shown["outcomes"]] == ["failed", "failed", "failed", "ok", "ok"]
    assert {(known["error"]["error_kind"], known["error"]["count"]) for known in shown["errors"]} == {
        ("rate_limit", 2),
        ("network", 1),
    }
    advice = {known["error"]["error_kind"]: known["advice"] for known in shown["errors"]}
    assert advice["network"] == "check the way from this machine to the host"


def test_a_model_without_a_past_is_shown(program: Program) -> None:
    """There is nothing to list, and nothing is made up; a provider that is gone leaves the profile open."""
    program.store(models=[model("llama", provider="gone", enabled=False, disabled_reason="closed", disabled_by="ada")])
    lines = [line.split("  ", 1) for line in program.ok("models", "show", "gone/llama").lines()[2:]]
    facts = {name: value.strip() for name, value in lines}
    assert facts["state"] == "disabled"
    assert (facts["disabled reason"], facts["disabled by"]) == ("closed", "ada")
    assert (facts["profile"], facts["last scheduled success"], facts["failures since"]) == ("-", "never", "none")

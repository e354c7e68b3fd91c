"""`llmbench results`: which outcomes are listed, how, and what is said when there are none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from llmbench.messages import Outcome
from tests.cli.conftest import Program, Result
from tests.stores.documents import failure, model, sample


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def ids(result: Result) -> list[str]:
    """Return the ids of the outcomes that were printed as JSON."""
    return [msgspec.json.decode(line)["_id"] for line in result.lines()]


def put(program: Program, *outcomes: Outcome) -> list[str]:
    """Store outcomes; return their ids."""
    program.store(outcomes)
    return [outcome.id for outcome in outcomes]


def test_outcomes_are_listed_newest_first(program: Program, narrow: Callable[[Result], None]) -> None:
    """Times of day are local; what was not measured is a dash; what makes a row less sharp is flagged."""
    newest = ago(minutes=1)
    put(
        program,
        sample(
            run_ts=ago(minutes=3), time_to_first_token=None, outcome="budget_exhausted", model_name="o3", clock="user"
        ),
        failure(run_ts=newest, error_kind="auth", provider="groq", model_name="m"),
        sample(run_ts=ago(minutes=2), resolution="coarse", model_name="x"),
    )
    result = program.ok("results", env={"TZ": "XXX-05:30"})  # POSIX: five and a half hours ahead of UTC
    narrow(result)
    header, _rule, first, second, third = result.lines()
    assert header.split() == ["time", "XXX", "model", "outcome", "TTFT", "ms", "tok/s", "tokens", "flags"]
    local = newest.astimezone(UTC) + timedelta(hours=5, minutes=30)
    assert first.split() == [f"{local:%m-%d}", f"{local:%H:%M}", "groq/m", "auth", "-", "-", "-"]
    assert second.split()[2:] == ["openai/x", "ok", "412", "51.2", "64", "coarse"]
    assert third.split()[2:] == ["openai/o3", "budget_exhausted", "-", "51.2", "64", "user", "clock"]


def test_what_is_not_known_is_a_dash(program: Program) -> None:
    """Speed and tokens that an earlier row did not tell are no zeros, neither in the tables nor as JSON."""
    put(program, sample(run_ts=ago(minutes=1), model_name="o3", tokens_per_second=None, output_tokens=None))

    row = program.ok("results").lines()[-1]
    summed_up = program.ok("results", "--summary").lines()[-1]
    document = msgspec.json.decode(program.ok("results", "--json").out)

    assert row.split()[2:] == ["openai/o3", "ok", "412", "-", "-"]
    assert summed_up.split() == ["openai/o3", "1", "100.0%", "412", "412", "-"]
    assert (document["tokens_per_second"], document["output_tokens"]) == (None, None)


def test_a_long_name_is_folded_and_never_cut_off(program: Program, narrow: Callable[[Result], None]) -> None:
    """Every character of model, kind and flags is on the screen, at 80 columns; the kind stays in one piece."""
    name = "accounts/fireworks/models/llama-v3p1-405b-instruct"
    put(
        program,
        sample(run_ts=ago(minutes=1), provider="fireworks", model_name=name, resolution="coarse", clock="user"),
        failure(run_ts=ago(minutes=2), provider="fireworks", model_name=name, error_kind="transient_provider"),
    )
    result = program.ok("results")
    narrow(result)
    assert "…" not in result.out
    begin = result.lines()[0].index("model")
    end = result.lines()[0].index("outcome")
    assert "".join(line[begin:end].strip() for line in result.lines()[2:]) == f"fireworks/{name}" * 2
    assert " transient_provider " in result.out
    assert [line for line in result.lines() if line != line.rstrip()] == []


def test_tokens_that_were_counted_by_chunks_are_flagged(program: Program) -> None:
    """Where the provider reported no usage, the number of tokens is an estimate."""
    put(program, sample(run_ts=ago(minutes=1), warnings=["usage_missing"]), sample(run_ts=ago(minutes=2)))
    counted, reported = (line for line in program.ok("results").lines() if " ok " in line)
    assert counted.endswith("  no usage")
    assert reported.endswith(" 64")


def test_help_explains_the_flags(program: Program) -> None:
    """What may stand in the last column, and whose time of day stands in the first."""
    told = program.ok("results", "--help").out
    assert all(f"\n  {flag} " in told for flag in ("coarse", "user clock", "no usage"))
    assert "local time" in told


def test_json_is_the_stored_document(program: Program) -> None:
    """Byte for byte, one outcome a line, newest first."""
    put(program, sample(run_ts=ago(minutes=2)), failure(run_ts=ago(minutes=1)))
    printed = program.ok("results", "--json").lines()
    with closing(sqlite3.connect(program.database)) as connection:
        stored = [
            connection.execute(f"SELECT document FROM {table}").fetchone()[0] for table in ("failures", "samples")
        ]
    assert printed == stored


def test_the_last_day_is_listed_unless_told_otherwise(program: Program) -> None:
    """``--since`` says how far back, however far that is; ``--limit`` keeps the newest."""
    new, old, oldest = put(program, *(sample(run_ts=ago(hours=hours)) for hours in (23, 25, 24 * 365)))
    assert ids(program.ok("results", "--json")) == [new]
    assert ids(program.ok("results", "--json", "--since", "26h")) == [new, old]
    assert ids(program.ok("results", "--json", "--since", "999999999d")) == [new, old, oldest]
    assert ids(program.ok("results", "--json", "--since", "999999999d", "--limit", "2")) == [new, old]


@pytest.mark.parametrize("options", [["--limit", "0"], ["--since", "soon"], ["--since", "0h"]])
def test_numbers_that_make_no_sense_are_refused(program: Program, options: list[str]) -> None:
    """The sentence quotes the value."""
    assert repr(options[1]) in program.refused("results", *options)


def test_results_of_one_provider_or_model(program: Program) -> None:
    """A model is named by its id or with its provider in front, whatever the case; an id may contain slashes."""
    llama = "meta-llama/llama-3.3-70b"
    mini, groq, router, gpt = put(
        program,
        sample(run_ts=ago(minutes=1)),
        sample(run_ts=ago(minutes=2), provider="groq", model_name=llama),
        sample(run_ts=ago(minutes=3), provider="openrouter", model_name=llama),
        sample(run_ts=ago(minutes=4), provider="openrouter", model_name="openai/gpt-4o"),
    )
    asked = {
        ("--provider", "openrouter"): [router, gpt],
        ("--model", "gpt-4o-mini"): [mini],
        ("--model", "openai/GPT-4o-mini"): [mini],
        ("--model", llama): [groq, router],
        ("--model", f"groq/{llama}"): [groq],
        ("--provider", "groq", "--model", f"groq/{llama}"): [groq],
        ("--provider", "groq", "--model", llama): [groq],
        ("--model", "openai/gpt-4o"): [gpt],
        ("--provider", "openrouter", "--model", "openai/gpt-4o"): [gpt],
        ("--provider", "groq", "--model", f"openrouter/{llama}"): None,
    }
    for options, expected in asked.items():
        result = program.run("results", "--json", *options)
        assert (ids(result) if result.code == 0 else None) == expected, options


def test_nothing_found_says_what_was_asked(program: Program) -> None:
    """It is no error: nothing is on standard output."""
    assert program.ok("results") == (
        0,
        "",
        "no outcome is stored from the last 24h; a longer --since looks further back\n",
    )
    put(program, sample(run_ts=ago(hours=5)))
    assert program.ok("results", "--provider", "openai", "--since", "90m").err == (
        "no outcome of provider 'openai' is stored from the last 90m; a longer --since looks further back\n"
    )
    assert program.ok("results", "--provider", "groq", "--since", "7d").err == (
        "no outcome of provider 'groq' is stored from the last 7d; a longer --since looks further back\n"
    )
    assert program.ok("results", "--model", "openai/gpt-4o-mini", "--since", "2h", "--json").err == (
        "no outcome of model 'openai/gpt-4o-mini' is stored from the last 2h; a longer --since looks further back\n"
    )


def test_an_unknown_provider_names_the_nearest(program: Program) -> None:
    """Known are those of the configuration and those of the store, which may be older."""
    assert program.refused("results", "--provider", "opnai") == (
        "provider 'opnai' is neither in the configuration nor in the store: did you mean 'openai'?"
    )
    put(program, sample(run_ts=ago(days=3), provider="departed", sample_role="bench"))
    assert program.ok("results", "--provider", "departed").err.startswith("no outcome of provider 'departed'")
    assert program.ok("results", "--provider", "departed", "--model", "gpt-4o-mini").code == 0
    for far in ("zzz", "nope"):
        sentence = f"provider {far!r} is neither in the configuration nor in the store"
        assert program.refused("results", "--provider", far) == sentence
    assert "use 'openai' (known are" not in program.refused("models", "list", "--provider", "nope")


def test_an_unknown_model_names_the_nearest(program: Program) -> None:
    """Known are those of the catalogue, of config.toml and of the store."""
    program.configure('[providers.openai]\nmodels = ["gpt-5-nano"]\n')
    program.store(
        [sample(run_ts=ago(days=9), model_name="gpt-3.5-turbo")], [model(), model("mixtral", provider="groq")]
    )
    nearest = {"gpt-4o-min": "gpt-4o-mini", "gpt5-nano": "gpt-5-nano", "gpt-35-turbo": "gpt-3.5-turbo"}
    for asked, meant in nearest.items():
        assert program.refused("results", "--model", asked) == (
            f"model {asked!r} is neither in the catalogue (llmbench models list) nor in the store: "
            f"did you mean {meant!r}?"
        )
    assert program.refused("results", "--model", "groq/mixtrl").endswith("did you mean 'groq/mixtral'?")
    assert program.refused("results", "--provider", "openai", "--model", "mixtral").startswith("model 'mixtral' is")
    for known in ("gpt-4o-mini", "openai/gpt-5-nano", "gpt-3.5-turbo", "GROQ/mixtral"):
        assert program.ok("results", "--model", known).out == ""

"""`llmbench errors`, `llmbench health` and `llmbench results --summary`: what is told of many outcomes, and how."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec
import pytest

from tests.cli.conftest import Program, Result
from tests.cli.test_results import ago
from tests.stores.documents import failure, model, sample


def documents(result: Result) -> list[dict[str, Any]]:
    """Return what was printed as JSON."""
    return [msgspec.json.decode(line) for line in result.lines()]


def some_failures(program: Program) -> None:
    """Store four failures of the last hours and an old one."""
    program.store(
        [
            failure(run_ts=ago(hours=3), message="the first"),
            failure(run_ts=ago(hours=2), message="the second", advice="wait"),
            failure(run_ts=ago(hours=1), model_name="o3", provider="openai", message="the third", advice="wait more"),
            failure(run_ts=ago(hours=4), error_kind="auth", advice="", message="no key"),
            failure(run_ts=ago(days=3), error_kind="billing"),
            sample(run_ts=ago(hours=1)),
        ]
    )


class TestErrors:
    """Failures are counted, with what to do about them."""

    def test_table(self, program: Program, narrow: Callable[[Result], None]) -> None:
        """By kind, the most frequent first: count, share, the newest message with its model, its advice."""
        some_failures(program)
        result = program.ok("errors")
        narrow(result)
        text = " ".join(result.out.split())
        assert "3 75.0% rate_limit 1 h ago openai/o3: the third -> wait more 1 25.0% auth 4 h ago groq/" in text
        assert "billing" not in text

    @pytest.mark.parametrize(
        ("by", "common"),
        [
            ("kind", {"error_kind"}),
            ("provider", {"provider"}),
            ("model", {"provider", "model_name"}),
            ("fingerprint", {"provider", "model_name", "stage", "error_kind", "fingerprint"}),
        ],
    )
    def test_json_has_what_is_common(self, program: Program, by: str, common: set[str]) -> None:
        """A line for each count, with just the fields that hold for all of its failures."""
        some_failures(program)
        found = documents(program.ok("errors", "--by", by, "--json"))
        shared = {"count", "share", "last_seen", "sample_id", "sample_model", "sample_message", "advice"}
        assert all(set(one) == shared | common for one in found)
        assert sum(one["count"] for one in found) == 4
        assert sum(one["share"] for one in found) == pytest.approx(1.0)

    def test_a_failure_without_advice_gets_that_of_its_kind(self, program: Program) -> None:
        """Something is always said of what to do."""
        some_failures(program)
        [_, auth] = documents(program.ok("errors", "--json"))
        assert (auth["sample_message"], auth["error_kind"]) == ("no key", "auth")
        assert "groq" in auth["advice"] or "key" in auth["advice"]

    def test_options(self, program: Program) -> None:
        """``--since`` and ``--provider`` narrow it down, ``--limit`` keeps the largest and says what it left out."""
        some_failures(program)
        assert [one["count"] for one in documents(program.ok("errors", "--json", "--since", "9d"))] == [3, 1, 1]
        assert [one["count"] for one in documents(program.ok("errors", "--json", "--provider", "OpenAI"))] == [1]
        assert len(documents(program.ok("errors", "--json", "--limit", "1"))) == 1
        shown = program.ok("errors", "--limit", "1")
        assert "auth" not in shown.out
        assert shown.err == "1 smaller counts, 1 failures in all, are left out: --limit shows more\n"

    def test_nothing_failed(self, program: Program) -> None:
        """It is no error, and says what was asked."""
        some_failures(program)
        assert program.ok("errors", "--since", "5m") == (
            0,
            "",
            "no failure is stored from the last 5m; a longer --since looks further back\n",
        )
        assert program.ok("errors", "--provider", "together").err.startswith("no failure of provider 'together'")

    def test_refused(self, program: Program) -> None:
        """An unknown provider names the nearest; what nothing can be counted by is quoted."""
        assert program.refused("errors", "--provider", "opnai").endswith("did you mean 'openai'?")
        assert "'colour' must be provider, model, kind or fingerprint" in program.refused("errors", "--by", "colour")


class TestSummary:
    """What the runs of each model came to."""

    def test_table(self, program: Program, narrow: Callable[[Result], None]) -> None:
        """A row for each model; a long name goes on in the next line, and all of it is there."""
        name = "accounts/fireworks/models/llama-v3p1-405b-instruct"
        program.store(
            [
                *(
                    sample(run_ts=ago(hours=n), time_to_first_token=0.1 * n, tokens_per_second=10.0 * n, model_name="m")
                    for n in (1, 2, 3)
                ),
                failure(run_ts=ago(hours=1), provider="openai", model_name="m"),
                failure(run_ts=ago(hours=1), provider="fireworks", model_name=name),
                sample(run_ts=ago(days=2), model_name="m"),
            ]
        )
        result = program.ok("results", "--summary")
        narrow(result)
        _header, _rule, first, more, second = result.lines()
        assert second.split() == ["openai/m", "4", "75.0%", "200", "290", "20.0"]
        assert first.split()[1:] == ["1", "0.0%", "-", "-", "-"]
        assert first.split()[0] + more.strip() == f"fireworks/{name}"

    def test_json_and_options(self, program: Program) -> None:
        """The same options as for single outcomes, but for ``--limit``; a line for each model."""
        program.store(
            [
                sample(run_ts=ago(hours=1)),
                sample(run_ts=ago(hours=1), model_name="o3"),
                failure(run_ts=ago(hours=1), provider="openai", model_name="o3"),
            ]
        )
        [found] = documents(program.ok("results", "--summary", "--json", "--model", "openai/O3"))
        assert (found["model_name"], found["n"], found["success_rate"]) == ("o3", 2, 0.5)
        assert found["time_to_first_token_p95"] == 0.41238751
        assert len(documents(program.ok("results", "--summary", "--json", "--provider", "openai"))) == 2
        assert program.ok("results", "--summary", "--since", "5m").err.startswith("no outcome is stored")
        assert "not allowed with" in program.refused("results", "--summary", "--limit", "3")


class TestHealth:
    """Does every provider deliver?"""

    CONFIG = "[providers.openai]\nenabled = true\n[providers.groq]\nenabled = true\n"

    def test_all_well(self, program: Program, narrow: Callable[[Result], None]) -> None:
        """Exit code 0 if each provider had a success, whatever else failed; models with errors only are listed."""
        program.configure(self.CONFIG)
        program.store(
            [
                sample(run_ts=ago(hours=1)),
                failure(run_ts=ago(hours=1), provider="openai", model_name="o3"),
                sample(run_ts=ago(days=5), model_name="o3"),
            ],
            [model(), model("llama", provider="groq", enabled=False)],
        )
        result = program.ok("health")
        narrow(result)
        words = result.out.split()
        assert result.err == ""
        assert words[words.index("openai") :][:6] == ["openai", "ok", "1", "1", "50.0%", "2"]
        assert "groq" not in words
        assert result.lines()[-1].split() == ["openai/o3", "1", "5", "d", "ago"]

    def test_failing_and_silent(self, program: Program, narrow: Callable[[Result], None]) -> None:
        """A provider with errors only, or without any run though it has models, makes the exit code 1."""
        program.configure(self.CONFIG)
        program.store(
            [
                failure(run_ts=ago(hours=1), provider="openai", model_name="o3"),
                sample(run_ts=ago(days=5), provider="groq", model_name="llama"),
                sample(run_ts=ago(days=5), provider="departed"),
            ],
            [model("o3"), model("llama", provider="groq")],
        )
        result = program.run("health")
        narrow(result)
        assert result.code == 1
        assert result.err.startswith("no success in the last 24h: groq (silent), openai (failing); llmbench errors")
        [told] = documents(program.run("health", "--json"))
        assert (told["healthy"], told["successes"], told["errors"], told["error_rate"]) == (False, 0, 1, 1.0)
        groq, openai = told["providers"]
        assert (groq["state"], groq["error_rate"], groq["models"]) == ("silent", None, 0)
        assert groq["last_success"] is not None
        assert openai["only_errors"] == [{"model_name": "o3", "errors": 1, "last_success": None}]
        assert program.run("health", "--since", "9d").code == 1

    def test_models_of_the_configuration(self, program: Program) -> None:
        """A model that config.toml lists is to be measured, unless the catalogue has it disabled; nothing is stored."""
        program.configure('[providers.openai]\nmodels = ["o3"]\n')
        assert program.run("health").code == 1
        with closing(sqlite3.connect(program.database)) as connection:
            assert connection.execute("SELECT count(*) FROM models").fetchone() == (0,)
        program.ok("models", "disable", "openai/o3", "--reason", "too dear")
        assert program.run("health").code == 0

    def test_nothing_to_measure(self, program: Program) -> None:
        """Without models and runs there is nothing to be ill."""
        result = program.ok("health")
        assert result.out == ""
        assert result.err.startswith("no provider has a model to be measured")

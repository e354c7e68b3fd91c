"""`llmbench config`: everything that is wrong at once, or what the configuration amounts to."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from llmbench.cli.configuration import counted
from tests.cli.conftest import Program
from tests.stores.documents import model

LOCAL = """\
[providers.local]
kind = "openai-compatible"
base_url = "http://127.0.0.1:9/v1"
models = ["a", "b"]
"""
KEY = "sk-test-0123456789abcdefghij"


def test_a_good_configuration_is_summed_up(program: Program) -> None:
    """Where it comes from, who is enabled, how much is listed, where the rows go; nothing is created for that."""
    path = program.configure(LOCAL + "\n[providers.openai]\n")
    assert program.ok("config", "check", env={"OPENAI_API_KEY": KEY}) == (
        0,
        f"OK: {path}: 2 providers enabled (openai, local), 2 models listed, sqlite store in {program.database}\n",
        "",
    )
    assert not program.database.exists()


def test_a_named_file_is_checked(program: Program) -> None:
    """And not the one in the current folder."""
    program.configure("nonsense")
    path = program.home / "other.toml"
    path.write_text(LOCAL)
    result = program.ok("config", "check", "--config", "other.toml")
    assert result.out.startswith("OK: other.toml: 1 provider enabled (local), 2 models listed, ")


def test_the_environment_counts(program: Program) -> None:
    """No file is needed if the variables say enough."""
    variables = {"BENCHMARK_PROVIDERS": "groq", "BENCHMARK_MODELS": "llama", "GROQ_API_KEY": KEY}
    result = program.ok("config", "check", env=variables)
    assert result.out.startswith(
        "OK: the built-in defaults: 1 provider enabled (groq), 1 model listed in BENCHMARK_MODELS, "
    )


def test_every_problem_is_told(program: Program) -> None:
    """One line for each, on standard error, with the key and what to do."""
    path = program.configure('[schedule]\nfresh_minutes = "soon"\n[providers.groq]\nconcurency = 2\n')
    assert program.refused("config", "check").splitlines() == [
        f"{path}: schedule.fresh_minutes must be a number from 0.1 to 525600, not 'soon'",
        f"{path}: providers.groq.concurency is not a known key: rename it to 'concurrency', or remove it",
    ]


def test_a_missing_key_is_a_problem(program: Program) -> None:
    """So are two stores that are asked for: the engine would refuse to start, so the check does."""
    path = program.configure("[providers.openai]\n[providers.groq]\n")
    env = {"GROQ_API_KEY": KEY, "INGEST_API_URL": "https://h", "MONGODB_URI": "mongodb://h"}
    sentences = program.refused("config", "check", env=env).splitlines()
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "environment variables 'MONGODB_URI' and 'INGEST_API_URL' ask for two stores",
        str(path),
    ]
    assert sentences[1] == (
        f"{path}: providers.openai.api_key_env: environment variable 'OPENAI_API_KEY' is not set: set it to the key, "
        "or take the provider out with enabled = false"
    )


def test_a_mongodb_store_is_named_without_its_password(program: Program) -> None:
    """The check says where the rows go, and asks no server."""
    program.configure(LOCAL)
    result = program.ok("config", "check", env={"MONGODB_URI": "mongodb://me:hunter2@db.example:27017/?tls=true"})
    assert result.out.endswith("mongo store in MongoDB database 'llm-bench' at db.example:27017\n")


@pytest.mark.parametrize("uri", ["db.example", "mongodb://me:hun/ter2@db", "mongodb://me:hunter2@db:p0rt"])
def test_a_uri_that_is_none_is_a_problem(program: Program, uri: str) -> None:
    """The sentence names the variable and shows nothing of its value, which may hold a password."""
    program.configure(LOCAL)
    sentence = program.refused("config", "check", env={"MONGODB_URI": uri})
    assert sentence.startswith("environment variable 'MONGODB_URI' holds no valid MongoDB URI")
    assert "hun" not in sentence
    assert "p0rt" not in sentence


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (".", "is not a regular file"),
        ("config.toml", "is no SQLite database, or its beginning is damaged"),
        ("config.toml/x.db", "Not a directory"),
        ("loop.db", "No such file or directory"),
        ("/dev/full", "is not a regular file"),
        ("/proc/nope/x.db", "(No such file or directory: '/proc/nope')"),
    ],
)
def test_a_database_that_can_not_be_is_a_problem(program: Program, place: str, reason: str) -> None:
    """The check refuses it in a sentence, beside what else is wrong, as the commands do that open it."""
    (program.home / "loop.db").symlink_to("nowhere.db")
    program.configure(f'[store.sqlite]\npath = "{place}"\n[providers.openai]\n')
    place_sentence, key_sentence = program.refused("config", "check").splitlines()
    assert reason in place_sentence
    assert "'OPENAI_API_KEY' is not set" in key_sentence
    assert program.refused("models", "list").partition(" (")[0] == place_sentence.partition(" (")[0]


@pytest.mark.parametrize("place", ["new/deeper/x.db", "data/llmbench/llmbench.db"])
def test_checking_a_good_database_leaves_no_trace(program: Program, place: str) -> None:
    """One that is still to be made, and one that is there, are accepted; the check makes no file and no folder."""
    program.store(models=[model()])
    program.configure(LOCAL + f'[store.sqlite]\npath = "{place}"\n')
    before = sorted(program.home.rglob("*"))
    program.ok("config", "check")
    assert sorted(program.home.rglob("*")) == before


def test_the_database_of_a_running_engine_is_accepted(program: Program) -> None:
    """What is still in the log counts, and the log stays."""
    program.configure(LOCAL)
    program.store(models=[model()])
    log = program.database.with_name("llmbench.db-wal")
    with closing(sqlite3.connect(program.database, isolation_level=None)) as connection:
        connection.execute("UPDATE models SET enabled = 0")
        size = log.stat().st_size
        program.ok("config", "check")
        assert log.stat().st_size == size > 0


def test_nothing_enabled_is_a_problem(program: Program) -> None:
    """An engine without a provider has nothing to do; the sentence says how to enable one."""
    assert program.refused("config", "check").startswith("no provider is enabled: set a provider's key variable")


def test_what_is_shown_can_be_loaded_again(program: Program) -> None:
    """The effective configuration is a config.toml itself, and has no secret in it."""
    program.configure(LOCAL + "\n[providers.openai]\n")
    shown = program.ok("config", "show", env={"OPENAI_API_KEY": KEY, "FRESH_MINUTES": "7"})
    assert KEY not in shown.out
    assert 'api_key_env = "OPENAI_API_KEY"  # set\n' in shown.out
    assert "fresh_minutes = 7  # from the environment variable FRESH_MINUTES\n" in shown.out
    path = program.home / "shown.toml"
    path.write_text(shown.out, encoding="utf-8")
    again = program.ok("config", "show", "--config", path, env={"OPENAI_API_KEY": KEY})
    assert "fresh_minutes = 7\n" in again.out
    assert again.out.partition("[providers")[2] == shown.out.partition("[providers")[2]


def test_a_problem_never_repeats_a_key(program: Program) -> None:
    """A key that was pasted into the file by mistake is not shown to whoever reads the error."""
    program.configure(f'[providers.openai]\napi_key_env = "{KEY}"\n')
    for action in ("check", "show"):
        assert KEY not in program.refused("config", action)


@pytest.mark.parametrize(("number", "told"), [(0, "0 models"), (1, "1 model"), (8, "8 models")])
def test_things_are_counted(number: int, told: str) -> None:
    """In the plural, unless it is one."""
    assert counted(number, "model") == told

"""What is said about the configuration is true: `config show`, and the reference, config.toml."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbench.config import load, show
from llmbench.config.tables import (
    HttpTable,
    MongoTable,
    ProfileTable,
    ProviderTable,
    RunnerTable,
    ScheduleTable,
    ServerTable,
    SpoolTable,
    SqliteTable,
    StoreTable,
    Table,
    Tables,
    TuiTable,
)
from llmbench.providers.presets import PRESETS
from tests.configs import GOOD, HERE, REFERENCE, problems, settled, write


@pytest.mark.parametrize("path", sorted(GOOD.glob("*.toml")), ids=lambda path: path.stem)
def test_the_effective_configuration_reads_back_to_itself(path: Path, tmp_path: Path) -> None:
    """What `config show` prints is valid TOML, and loading it gives the same configuration."""
    config = load(path, {})

    again = load(write(tmp_path, show(config, {})), {})

    assert settled(config) == settled(again)


def test_show_says_what_the_environment_overrides() -> None:
    """Overridden keys, the worklist, and what keeps the store from being opened are marked with their variables."""
    env = {
        "FRESH_MINUTES": "5",
        "BENCHMARK_PROVIDERS": "groq",
        "BENCHMARK_MODELS": "llama-3.1",
        "MONGODB_URI": "mongodb://me:hunter2@db",
        "INGEST_API_URL": "https://bridge.example",
        "GROQ_API_KEY": "gsk-1234567",
    }

    lines = show(load(None, env), env).splitlines()

    assert "fresh_minutes = 5  # from the environment variable FRESH_MINUTES" in lines
    assert "enabled = true  # from the environment variable BENCHMARK_PROVIDERS" in lines
    assert "# BENCHMARK_MODELS replaces the catalogue: groq/llama-3.1" in lines
    assert 'api_key_env = "GROQ_API_KEY"  # set' in lines
    assert "# region is not set" in lines
    idle = "openai, anthropic, bedrock, vertex, together, fireworks, deepinfra, cerebras, openrouter"
    assert f"# Known, not configured: {idle}" in lines
    assert [
        line for line in lines if line.startswith("# The store can't be opened: environment variables 'MONGODB_URI'")
    ]
    assert 'url = "https://bridge.example"  # from the environment variable INGEST_API_URL' in lines
    assert 'kind = "mongo"  # from the environment variable MONGODB_URI' in lines
    assert 'uri_env = "MONGODB_URI"  # set' in lines


def test_show_says_which_keys_are_missing() -> None:
    """A key variable that isn't set is marked as such; a provider that needs none says so."""
    text = show(load(GOOD / "every_key.toml", {}), {})

    assert 'api_key_env = "GATEWAY_KEY"  # not set' in text
    assert 'api_key_env = ""  # no key is sent' in text


def test_show_says_which_keys_of_the_bridge_are_set() -> None:
    """Each of the two, by its variable."""
    env = {"INGEST_API_URL": "https://bridge.example", "INGEST_API_KEY": "CANARY1CANARY"}

    lines = show(load(None, env), env).splitlines()

    assert 'key_env = "INGEST_API_KEY"  # set' in lines
    assert 'worklist_key_env = "RUNNER_CONFIG_TOKEN"  # not set' in lines
    assert "# worklist_url is not set" in lines


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """A secret's value is in neither the shown configuration nor the errors, even if it was pasted into the file."""
    variables = load(None, {}).secret_variables()
    env = {name: f"CANARY{number}CANARY" for number, name in enumerate(variables)}
    pasted = "\n".join(f"# {value}" for value in env.values())
    path = write(tmp_path, f'{pasted}\n[profiles.default]\nprompt = "say {env["OPENAI_API_KEY"]}"\n')

    text = show(load(path, env), env)
    assert "CANARY" not in text
    assert 'prompt = "say ***"' in text

    broken = write(tmp_path, f'[runner]\nid = "! {env["GROQ_API_KEY"]}"\nregion = "{env["GROQ_API_KEY"]} !"\n')
    assert "CANARY" not in "\n".join(problems(broken, env))


names = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,39}\Z")
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(names, texts, st.lists(ids, unique_by=str.lower, max_size=4), st.floats(0.1, 525_600), st.floats(0, 2))
def test_any_valid_configuration_reads_back_to_itself(
    tmp_path: Path, name: str, prompt: str, models: list[str], minutes: float, temperature: float
) -> None:
    """Whatever characters a prompt and ids are made of, loading what is shown gives the same configuration."""
    lines = [
        f"[schedule]\nfresh_minutes = {minutes!r}",
        f"[profiles.{name}]\nprompt = {quoted(prompt)}\ntemperature = {temperature!r}",
        f'[providers.x-{name[:30]}]\nkind = "openai-compatible"\nbase_url = "http://[::1]:1"\nprofile = "{name}"',
        f"models = [{', '.join(map(quoted, models))}]",
    ]
    config = load(write(tmp_path, "\n".join(lines)), {})

    again = load(write(tmp_path, show(config, {})), {})

    assert (prompt, temperature) == (again.profile(name).prompt, again.profile(name).temperature)
    assert settled(config) == settled(again)


def test_the_shipped_file_says_what_to_do_first() -> None:
    """With the shipped file and no key, starting is refused with the two ways to enable a provider."""
    [problem] = load(REFERENCE, {}).start_problems({})

    assert problem.startswith("no provider is enabled: set a provider's key variable, such as OPENAI_API_KEY")
    assert "BENCHMARK_PROVIDERS=openai" in problem


def uncommented() -> str:
    """Return config.toml with every commented key set."""
    return re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", REFERENCE.read_text(encoding="utf-8"))


def test_the_reference_lists_every_key(tmp_path: Path) -> None:
    """config.toml loads with every key in it set, knows no key too many, and leaves out none of any table."""
    text = uncommented()
    authorities = json.dumps(str(GOOD / "ca.pem"))
    load(write(tmp_path, text.replace('"/etc/ssl/certs/ca-certificates.crt"', authorities)), {})

    document = tomllib.loads(text)
    assert set(Tables.__struct_fields__) == set(document)
    assert set(RunnerTable.__struct_fields__) == set(document["runner"])
    assert set(ScheduleTable.__struct_fields__) == set(document["schedule"])
    assert set(StoreTable.__struct_fields__) == set(document["store"])
    assert set(SqliteTable.__struct_fields__) == set(document["store"]["sqlite"])
    assert set(MongoTable.__struct_fields__) == set(document["store"]["mongo"])
    assert set(HttpTable.__struct_fields__) == set(document["store"]["http"])
    assert set(SpoolTable.__struct_fields__) == set(document["spool"])
    assert set(ServerTable.__struct_fields__) == set(document["server"])
    assert set(TuiTable.__struct_fields__) == set(document["tui"])
    assert set(ProfileTable.__struct_fields__) == set(document["profiles"]["default"])
    assert set(ProviderTable.__struct_fields__) == {key for table in document["providers"].values() for key in table}
    assert {*PRESETS, "my-vllm"} == set(document["providers"])


def test_the_defaults_in_the_reference_are_the_defaults(tmp_path: Path) -> None:
    """Setting every key to the value that config.toml shows changes nothing, the examples left out."""
    examples = (
        r"(?m)^(id|region|path|url|worklist_url|folder|listen|keys_file|models|ca_file|headers|project|model_regions|keys)"
        r" = .*$"
        r"|^\[providers\.my-vllm\]\n(?:.+\n)*"
    )
    text = re.sub(examples, "", uncommented())

    assert settled(load(REFERENCE, {})) == settled(load(write(tmp_path, text), {}))


def test_the_reference_enables_nothing() -> None:
    """The shipped file has a table for every known provider, and enables none."""
    config = load(REFERENCE, {})

    assert {name for name, provider in config.providers.items() if provider.configured} == set(PRESETS)
    assert config.enabled_providers() == []


def test_every_table_refuses_what_it_does_not_know() -> None:
    """No table accepts an unknown key, and none can be changed once made."""
    tables: list[type[Table]] = [
        Tables,
        RunnerTable,
        ScheduleTable,
        StoreTable,
        SqliteTable,
        MongoTable,
        HttpTable,
        SpoolTable,
        ServerTable,
        ProfileTable,
        ProviderTable,
    ]

    for table in tables:
        assert table.__struct_config__.forbid_unknown_fields
        assert table.__struct_config__.frozen


def test_configuring_imports_nothing_heavy() -> None:
    """Reading the configuration imports no SDK, HTTP client, database driver or event loop."""
    code = "import llmbench.config, sys; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)

    heavy = {
        "openai",
        "anthropic",
        "httpx",
        "httpx2",
        "anyio",
        "asyncio",
        "sqlite3",
        "motor",
        "pymongo",
        "textual",
        "ssl",
    }
    assert not heavy & set(output.stdout.split())

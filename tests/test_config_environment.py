"""Environment variables override config.toml, and say where files are; a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbench.config import ConfigError, ModelRef, find, load
from tests.configs import problems, write


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """FRESH_MINUTES, BENCHMARK_PROVIDERS and LLMBENCH_STORE win over the file; blanks don't matter."""
    path = write(tmp_path, "[schedule]\nfresh_minutes = 60\n[providers.openai]\n[providers.groq]\nenabled = false\n")
    env = {"FRESH_MINUTES": " 0.5 ", "BENCHMARK_PROVIDERS": "groq, cerebras,,groq,", "LLMBENCH_STORE": "sqlite"}

    config = load(path, env)

    assert config.schedule.fresh_minutes == 0.5
    assert [provider.name for provider in config.enabled_providers()] == ["groq", "cerebras"]
    assert config.overrides == {
        "schedule.fresh_minutes": "FRESH_MINUTES",
        "store.kind": "LLMBENCH_STORE",
        "providers.*.enabled": "BENCHMARK_PROVIDERS",
    }


def test_an_empty_variable_is_not_set() -> None:
    """Variables that compose files leave empty change nothing."""
    names = (
        "FRESH_MINUTES",
        "BENCHMARK_PROVIDERS",
        "BENCHMARK_MODELS",
        "LLMBENCH_STORE",
        "MONGODB_URI",
        "INGEST_API_URL",
        "RUNNER_CONFIG_URL",
    )

    assert load(None, dict.fromkeys(names, " ")) == load(None, {})


FRESH_WANTS = "environment variable 'FRESH_MINUTES' must be a number from 0.1 to 525600, not"
WRONG = {
    "not a database": (
        {"MONGODB_DB": "a/b"},
        (
            "environment variable 'MONGODB_DB' must be a database name of 1 to 63 letters, digits, '_' and '-', "
            "beginning with a letter or digit, not 'a/b' (it overrides store.mongo.database)"
        ),
    ),
    "not a number": (
        {"FRESH_MINUTES": "soon"},
        f"{FRESH_WANTS} 'soon' (it overrides schedule.fresh_minutes)",
    ),
    "out of range": (
        {"FRESH_MINUTES": "nan"},
        f"{FRESH_WANTS} 'nan' (it overrides schedule.fresh_minutes)",
    ),
    "unknown store": (
        {"LLMBENCH_STORE": "postgres"},
        (
            "environment variable 'LLMBENCH_STORE' must be 'http', 'mongo' or 'sqlite', not 'postgres' "
            "(it overrides store.kind)"
        ),
    ),
    "not a URL": (
        {"INGEST_API_URL": "hunter2"},
        (
            "environment variable 'INGEST_API_URL' must be an absolute http:// or https:// URL, such as "
            "'https://bench.example' (the value is not shown, in case it is a secret) (it overrides store.http.url)"
        ),
    ),
    "not a worklist's URL": (
        {"RUNNER_CONFIG_URL": "hunter2"},
        (
            "environment variable 'RUNNER_CONFIG_URL' must be an absolute http:// or https:// URL, such as "
            "'https://bench.example' (the value is not shown, in case it is a secret) "
            "(it overrides store.http.worklist_url)"
        ),
    ),
    "unknown provider": (
        {"BENCHMARK_PROVIDERS": "groqq"},
        (
            "environment variable 'BENCHMARK_PROVIDERS': provider 'groqq' is unknown: use 'groq' (known are 'openai', "
            "'anthropic', 'bedrock', 'vertex', 'groq', 'together', 'fireworks', 'deepinfra', 'cerebras' and "
            "'openrouter'), "
            "or give it a table in config.toml with kind and base_url"
        ),
    ),
    "no provider": (
        {"BENCHMARK_PROVIDERS": ","},
        "environment variable 'BENCHMARK_PROVIDERS' names no provider: list some, separated by commas, or unset it",
    ),
    "no model": (
        {"BENCHMARK_PROVIDERS": "groq", "BENCHMARK_MODELS": ",,"},
        "environment variable 'BENCHMARK_MODELS' names no model: list some, separated by commas, or unset it",
    ),
    "whose model": (
        {"BENCHMARK_PROVIDERS": "groq,openai", "BENCHMARK_MODELS": "llama"},
        (
            "environment variable 'BENCHMARK_MODELS' holds 'llama': several providers are enabled, "
            "so write provider/model_id, with one of groq, openai"
        ),
    ),
    "model of no enabled provider": (
        {"BENCHMARK_MODELS": "groq/llama"},
        (
            "environment variable 'BENCHMARK_MODELS' holds 'groq/llama': no provider is enabled: "
            "enable one, in config.toml or with BENCHMARK_PROVIDERS"
        ),
    ),
    "not a model id": (
        {"BENCHMARK_PROVIDERS": "groq", "BENCHMARK_MODELS": "two words"},
        (
            "environment variable 'BENCHMARK_MODELS' holds 'two words', which can't be: "
            "write a model id of 1 to 200 printable ASCII characters without spaces"
        ),
    ),
}


@pytest.mark.parametrize(("env", "expected"), WRONG.values(), ids=WRONG)
def test_a_wrong_variable_is_named(env: dict[str, str], expected: str) -> None:
    """A variable with a wrong value is refused by name, with what to do."""
    assert problems(None, env) == [expected]


def test_problems_of_file_and_environment_are_reported_together(tmp_path: Path) -> None:
    """One run shows everything that is wrong, wherever it is; what only follows from another problem is left out."""
    path = write(tmp_path, "[schedule]\nfresh_minutes = 0\n[providers.bedrock]\nmodel = 3\n")
    env = {"FRESH_MINUTES": "0", "BENCHMARK_PROVIDERS": "groqq", "BENCHMARK_MODELS": "llama"}

    found = problems(path, env)

    assert [text.partition(" must ")[0].partition(" is ")[0] for text in found] == [
        f"{path}: schedule.fresh_minutes",
        f"{path}: providers.bedrock.model",
        "environment variable 'FRESH_MINUTES'",
        "environment variable 'BENCHMARK_PROVIDERS': provider 'groqq'",
    ]


def test_plain_model_ids_belong_to_the_only_provider() -> None:
    """With one enabled provider every id is its own, slashes included; its name in front of an id is not doubled."""
    env = {
        "BENCHMARK_PROVIDERS": "groq",
        "BENCHMARK_MODELS": "llama-3.1, groq/qwen-3 ,openai/gpt-oss-20b,a:b,llama-3.1,groq/",
    }

    worklist = load(None, env).worklist

    assert [str(model) for model in worklist] == [
        "groq/llama-3.1",
        "groq/qwen-3",
        "groq/openai/gpt-oss-20b",
        "groq/a:b",
        "groq/groq/",
    ]


def test_with_several_providers_each_model_names_its_own() -> None:
    """provider/model_id is split at the first slash; the rest is the id."""
    env = {
        "BENCHMARK_PROVIDERS": "openrouter,groq",
        "BENCHMARK_MODELS": "openrouter/meta-llama/llama-3.1-8b:free,groq/llama-3.1",
    }

    assert load(None, env).worklist == (
        ModelRef("openrouter", "meta-llama/llama-3.1-8b:free"),
        ModelRef("groq", "llama-3.1"),
    )


def test_a_bridges_url_chooses_the_http_store(tmp_path: Path) -> None:
    """Unless a store is named, in the file or by LLMBENCH_STORE; RUNNER_CONFIG_URL says where the worklist is."""
    env = {"INGEST_API_URL": "https://bench.example/ingest", "RUNNER_CONFIG_URL": "https://bench.example"}

    config = load(None, env)

    assert (config.store.kind, config.store_problems) == ("http", ())
    assert (config.store.http.url, config.store.http.worklist_url) == tuple(env.values())
    assert config.overrides == {
        "store.kind": "INGEST_API_URL",
        "store.http.url": "INGEST_API_URL",
        "store.http.worklist_url": "RUNNER_CONFIG_URL",
    }
    assert load(None, env | {"LLMBENCH_STORE": "sqlite"}).store.kind == "sqlite"
    assert load(None, env | {"LLMBENCH_STORE": "sqlite"}).store_problems == ()
    assert load(write(tmp_path, '[store]\nkind = "sqlite"\n'), env).store.kind == "sqlite"


def test_a_url_in_the_file_alone_chooses_no_store(tmp_path: Path) -> None:
    """What the environment says of the bridge comes before the file, which has to name the kind."""
    path = write(tmp_path, '[store.http]\nurl = "https://file.example"\nworklist_url = "https://file.example"\n')

    assert (load(path, {}).store.kind, load(path, {}).store_problems) == ("sqlite", ())
    assert load(path, {"LLMBENCH_STORE": "http"}).store.http.url == "https://file.example"
    http = load(path, {"INGEST_API_URL": "https://env.example"}).store.http
    assert (http.url, http.worklist_url) == ("https://env.example", "https://file.example")


def test_between_two_stores_nothing_is_chosen_silently(tmp_path: Path) -> None:
    """A MongoDB URI and a bridge's URL are a problem of opening the store, unless one of them is named."""
    env = {"MONGODB_URI": "mongodb://me:hunter2@db", "INGEST_API_URL": "https://bench.example"}

    [problem] = load(None, env).store_problems

    assert problem == (
        "environment variables 'MONGODB_URI' and 'INGEST_API_URL' ask for two stores: "
        "set LLMBENCH_STORE=mongo or LLMBENCH_STORE=http, or unset one of them"
    )
    for kind in ("mongo", "http", "sqlite"):
        config = load(None, env | {"LLMBENCH_STORE": kind})
        assert (config.store.kind, config.store_problems) == (kind, ())
    assert load(write(tmp_path, '[store]\nkind = "http"\n'), env).store_problems == ()
    other = write(tmp_path, '[store.mongo]\nuri_env = "MAIN_DB_URI"\n')
    [problem] = load(other, {"MAIN_DB_URI": "mongodb://db", "INGEST_API_URL": "https://h"}).store_problems
    assert problem.startswith("environment variables 'MAIN_DB_URI' and 'INGEST_API_URL' ask for two stores")


def test_an_http_store_needs_a_url() -> None:
    """Where nobody gives one, it is a problem of opening the store, which says where to give it."""
    [problem] = load(None, {"LLMBENCH_STORE": "http"}).store_problems

    assert problem == (
        "the HTTP store has no URL: set environment variable 'INGEST_API_URL', or url under [store.http], "
        "to the bridge's URL, such as https://bench.example:8787"
    )


@pytest.mark.parametrize("store", [{}, {"MONGODB_URI": "mongodb://db"}], ids=["sqlite", "mongo"])
def test_a_worklist_is_never_ignored_silently(store: dict[str, str]) -> None:
    """RUNNER_CONFIG_URL without an HTTP store is a problem of opening the store, unless that is named."""
    env = store | {"RUNNER_CONFIG_URL": "https://bench.example"}

    [problem] = load(None, env).store_problems

    assert problem == (
        "environment variable 'RUNNER_CONFIG_URL' names a worklist, which only the HTTP store has: "
        "set INGEST_API_URL, too, or unset it, or name the store with LLMBENCH_STORE"
    )
    assert load(None, env | {"LLMBENCH_STORE": "mongo" if store else "sqlite"}).store_problems == ()


def test_keys_of_the_bridge_are_secrets(tmp_path: Path) -> None:
    """So are those of whatever variables the file names."""
    path = write(tmp_path, '[store.http]\nkey_env = "MY_KEY"\nworklist_key_env = "MY_TOKEN"\n')

    assert {"INGEST_API_KEY", "RUNNER_CONFIG_TOKEN"} <= set(load(None, {}).secret_variables())
    assert {"MY_KEY", "MY_TOKEN"} <= set(load(path, {}).secret_variables())


def test_spool_and_keys_lie_in_the_data_folder(tmp_path: Path) -> None:
    """Without a place of their own; a relative one starts from the folder of the file."""
    config = load(None, {"XDG_DATA_HOME": str(tmp_path)})

    assert config.spool_folder == tmp_path / "llmbench" / "spool"
    assert config.server.keys_file == str(tmp_path / "llmbench" / "keys.json")
    assert (config.server.listen, config.spool.cap_mb, config.spool.keep_hours) == (None, 2048, 24.0)
    path = write(tmp_path, '[spool]\nfolder = "here"\n[server]\nkeys_file = "k.json"\n')
    assert load(path, {}).spool_folder == tmp_path / "here"
    assert load(path, {}).server.keys_file == str(tmp_path / "k.json")


def test_a_mongodb_uri_chooses_that_store(tmp_path: Path) -> None:
    """Unless a store is named, in the file or by LLMBENCH_STORE; MONGODB_DB names the database."""
    env = {"MONGODB_URI": "mongodb://db", "MONGODB_DB": "mine"}

    config = load(None, env)

    assert (config.store.kind, config.store.mongo.database, config.store_problems) == ("mongo", "mine", ())
    assert config.overrides == {"store.kind": "MONGODB_URI", "store.mongo.database": "MONGODB_DB"}
    assert load(None, env | {"LLMBENCH_STORE": "sqlite"}).store.kind == "sqlite"
    assert load(write(tmp_path, '[store]\nkind = "sqlite"\n'), env).store.kind == "sqlite"
    assert load(None, {}).store.kind == "sqlite"


@pytest.mark.parametrize("variable", ["MONGODB_URI", "MAIN_DB_URI"])
def test_a_mongodb_store_needs_its_uri(tmp_path: Path, variable: str) -> None:
    """Where the variable that the file names is not set, it is a problem of opening the store, which names it."""
    path = write(tmp_path, f'[store]\nkind = "mongo"\n[store.mongo]\nuri_env = "{variable}"\n')

    [problem] = load(path, {}).store_problems

    assert problem.startswith(f"environment variable '{variable}' is not set, and the MongoDB store is found by it: ")
    assert load(path, {variable: "mongodb://db"}).store_problems == ()
    assert variable in load(path, {}).secret_variables()


def test_a_uri_is_never_ignored(tmp_path: Path) -> None:
    """MONGODB_URI asks for MongoDB even where the file says that another variable has the URI; so does that one."""
    path = write(tmp_path, '[store.mongo]\nuri_env = "MAIN_DB_URI"\n')

    assert load(path, {"MAIN_DB_URI": "mongodb://db"}).store.kind == "mongo"
    [problem] = load(path, {"MONGODB_URI": "mongodb://db"}).store_problems
    assert "'MAIN_DB_URI' is not set" in problem


def test_settings_of_another_store_ask_for_nothing_by_themselves() -> None:
    """MONGODB_DB, INGEST_API_KEY and RUNNER_CONFIG_TOKEN alone choose no store."""
    env = {"MONGODB_DB": "llm-bench", "INGEST_API_KEY": "abc", "RUNNER_CONFIG_TOKEN": "abc"}

    assert load(None, env).store_problems == ()
    assert load(None, env).store.kind == "sqlite"


def test_the_database_lies_in_the_data_folder(tmp_path: Path) -> None:
    """Without a path the database is llmbench.db in the platform's data folder for llmbench."""
    assert load(None, {"XDG_DATA_HOME": str(tmp_path)}).database == tmp_path / "llmbench" / "llmbench.db"
    assert load(None, {"XDG_DATA_HOME": "relative"}).database == load(None, {}).database
    assert load(None, {}).database.name == "llmbench.db"


def test_the_file_in_the_working_folder_is_found_before_the_users(tmp_path: Path) -> None:
    """./config.toml comes first, then llmbench/config.toml in the configuration folder, then none."""
    here, home = tmp_path / "here", tmp_path / "home" / "llmbench"
    here.mkdir()
    home.mkdir(parents=True)
    env = {"XDG_CONFIG_HOME": str(home.parent)}
    assert find(env, here) is None

    users = write(home, "")
    assert find(env, here) == users

    local = write(here, "")
    assert find(env, here) == local


def test_a_place_that_cannot_be_looked_into_is_reported(tmp_path: Path) -> None:
    """An error while looking for the file is an error, not the absence of a file."""
    with pytest.raises(ConfigError, match=r"can't be looked for \(File name too long\): name a file$"):
        find({"XDG_CONFIG_HOME": f"/{'x' * 300}"}, tmp_path)

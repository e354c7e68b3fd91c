"""The commands where the store is behind a bridge: what they tell of it, what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Program
from tests.stores.bridge import KEY, TOKEN, Answer, FakeBridge, fake_bridge

LOCAL = '[providers.local]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["a"]\n'


@pytest.fixture
def bridge() -> Iterator[FakeBridge]:
    with fake_bridge() as bridge:
        yield bridge


@pytest.fixture
def env(bridge: FakeBridge) -> dict[str, str]:
    return {"INGEST_API_URL": f"{bridge.url}/ingest", "INGEST_API_KEY": KEY}


def findings(program: Program, env: dict[str, str], code: int = 0) -> dict[str, tuple[str, str]]:
    result = program.run("doctor", "--json", env=env)
    assert result.code == code, result.err
    assert KEY not in result.out + result.err
    lines = [json.loads(line) for line in result.lines()]
    return {line["check"]: (line["state"], line["told"]) for line in lines}


def test_the_check_names_the_bridge(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """Where the rows go, and no key; nobody is asked."""
    program.configure(LOCAL)
    result = program.ok("config", "check", env=env)
    assert result.out.endswith(f"http store, HTTP bridge {bridge.url}\n")
    assert bridge.requests == []


def test_a_missing_key_is_named(program: Program, bridge: FakeBridge) -> None:
    """By the check and by every command that opens the store, with where the key comes from."""
    program.configure(LOCAL)
    sentence = (
        "environment variable 'INGEST_API_KEY' is not set: "
        f"set it to the key that the bridge at {bridge.url} gave this runner"
    )
    for command in (["config", "check"], ["models", "list"], ["--headless", "--once"]):
        assert program.refused(*command, env={"INGEST_API_URL": bridge.url}) == sentence


def test_a_key_in_the_clear_is_refused(program: Program) -> None:
    """Before anything is sent anywhere."""
    program.configure(LOCAL)
    env = {"INGEST_API_URL": "http://bench.example/ingest", "INGEST_API_KEY": KEY}
    for command in (["config", "check"], ["models", "list"]):
        sentence = program.refused(*command, env=env)
        assert sentence.startswith(
            "HTTP bridge http://bench.example would be sent the key in INGEST_API_KEY in the clear"
        )


def test_what_is_listed_is_to_be_measured(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """Without a worklist, the models are those of config.toml, and nobody is asked."""
    program.configure(LOCAL)
    assert "local" in program.ok("models", "list", env=env).out
    assert bridge.requests == []


def test_the_worklist_is_to_be_measured(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """With one, the models are those that the bridge names, and no others."""
    program.configure(LOCAL)
    bridge.answers(Answer(body={"provider": "local", "models": ["from-the-bridge"]}))
    env |= {"RUNNER_CONFIG_URL": bridge.url, "RUNNER_CONFIG_TOKEN": TOKEN}
    result = program.ok("models", "list", "--json", env=env)
    assert [json.loads(line)["model_id"] for line in result.lines()] == ["from-the-bridge"]


def test_an_empty_worklist_is_filled_where_the_database_is(
    program: Program, env: dict[str, str], bridge: FakeBridge
) -> None:
    """A runner that is told of no model says that the bridge has none, not that its own file has."""
    program.configure(LOCAL)
    bridge.answers(Answer(body={"provider": "local", "models": []}))
    env |= {"RUNNER_CONFIG_URL": bridge.url, "RUNNER_CONFIG_TOKEN": TOKEN}
    sentence = program.refused("--headless", "--once", env=env)
    assert "the bridge that RUNNER_CONFIG_URL names has no enabled model of local" in sentence
    assert "config.toml" not in sentence


@pytest.mark.parametrize("command", [["results"], ["results", "--summary"], ["errors"], ["health"]])
def test_questions_are_asked_elsewhere(program: Program, env: dict[str, str], command: list[str]) -> None:
    """The sentence says where."""
    program.configure(LOCAL)
    sentence = program.refused(*command, env=env)
    assert "takes outcomes and can't be asked about" in sentence
    assert "ask where the store behind it can be reached" in sentence


def test_models_are_changed_elsewhere(program: Program, env: dict[str, str]) -> None:
    """In config.toml, if there is no worklist."""
    program.configure(LOCAL)
    assert "list those that are to be measured in config.toml" in program.refused("models", "add", "local/b", env=env)


def test_copying_needs_a_store_that_tells(program: Program, env: dict[str, str], tmp_path: Path) -> None:
    """A bridge is neither source nor target of a copy, under whatever variable."""
    program.configure(LOCAL)
    other = env | {"MY_BRIDGE": "https://bench.example"}
    database = tmp_path / "x.db"
    database.write_bytes(b"x")
    for variable in ("INGEST_API_URL", "MY_BRIDGE"):
        for place, words in (("FROM", (f"env:{variable}", database)), ("TO", (database, f"env:{variable}"))):
            sentence = program.refused("store", "copy", *words, env=other)
            assert sentence.startswith(f"{place} is '{variable}', the variable of an HTTP bridge")


def test_the_doctor_tries_address_and_key(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """An empty batch is taken, so both are right; nothing is stored."""
    program.configure(LOCAL)
    found = findings(program, env)
    assert found["store"] == ("ok", f"HTTP bridge {bridge.url} takes outcomes with the key in INGEST_API_KEY")
    assert found["worklist"] == ("ok", "no bridge is asked what to measure: what config.toml lists is measured")
    assert [(received.path, received.body) for received in bridge.requests] == [("/ingest/batch", b"[]")]
    assert bridge.documents == {}


def test_the_doctor_asks_for_the_worklist(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """It tells how many models there are, and which entries can't be read."""
    program.configure(LOCAL)
    answer = Answer(body={"provider": "local", "models": ["b", "two words"]})
    bridge.answering = lambda received: answer if received.method == "GET" else bridge.taking(received)
    result = program.ok("doctor", "--json", env=env | {"RUNNER_CONFIG_URL": bridge.url})
    told = [json.loads(line)["told"] for line in result.lines() if '"worklist"' in line]
    assert told[0] == "models to be measured: 1; asked for: local"
    assert told[1].startswith("local/two words: a model id has 1 to 200")


def test_the_doctor_of_a_refused_key(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """It fails, and names the variable."""
    program.configure(LOCAL)
    bridge.answers(Answer(401, {"status": "error", "reason": "unknown key"}))
    state, told = findings(program, env, code=1)["store"]
    assert state == "fail"
    assert told.endswith("refuses us (HTTP 401: unknown key); check the key in INGEST_API_KEY")


def test_the_doctor_of_another_runners_key(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """It fails, and names both, before anything goes into quarantine; the right one is well."""
    bridge.answers(Answer(body={"results": [], "runner": "eu-1"}))
    program.configure(f'{LOCAL}\n[runner]\nid = "eu-2"\n')
    state, told = findings(program, env, code=1)["store"]
    assert state == "fail"
    assert told.startswith("the key in INGEST_API_KEY is that of runner 'eu-1', and this runner is 'eu-2': ")
    program.configure(f'{LOCAL}\n[runner]\nid = "eu-1"\n')
    assert findings(program, env)["store"][0] == "ok"


def test_the_doctor_of_a_bridge_that_is_away(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """Nobody can tell, which has an exit code of its own."""
    program.configure(LOCAL)
    bridge.answers(Answer(503))
    assert findings(program, env, code=3)["store"][0] == "unreachable"


def test_the_doctor_of_an_earlier_bridge(program: Program, env: dict[str, str], bridge: FakeBridge) -> None:
    """One that takes no empty batch is not said to take others, nor to refuse them."""
    program.configure(LOCAL)
    bridge.answers(Answer(422, {"detail": "empty"}))
    state, told = findings(program, env)["store"]
    assert state == "warn"
    assert "refuses an empty batch" in told

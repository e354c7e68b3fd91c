"""Rows of the catalogue that can't be measured as they are, or ask for what llmbench alone sets."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Any

import pytest

from llmbench.cli.context import load_config, opened, seed_catalogue
from llmbench.cli.selection import Runs, Selection
from llmbench.config import Config
from llmbench.messages import Model
from llmbench.naming import key_of
from llmbench.providers.base import body_overrides
from llmbench.stores.base import Store
from llmbench.stores.sqlite import SQLiteStore
from tests.cli.conftest import Program
from tests.stores.documents import model

LOCAL = '[providers.local]\nkind = "openai-compatible"\nbase_url = "http://127.0.0.1:9/v1"\n'
BAD = model("bad", provider="local", profile="nope")
OWN = model("own", provider="local", request={"model": "other", "stream": False, "max_tokens": 5})
GOOD = model("good", provider="local")

UNKNOWN = "has the profile 'nope', which is not known"
WAY_OUT = "llmbench models set local/bad --profile none takes it away, or add a table [profiles.nope] to config.toml"
TAKEN = "has a request with model, stream, which llmbench alone sets"


async def read(config: Config, store: Store) -> tuple[Selection, Runs]:
    selection = Selection(config, partial(seed_catalogue, config, store), config.enabled_providers())
    return selection, await selection.read()


async def test_a_row_with_an_unknown_profile_is_left_out(program: Program, caplog: pytest.LogCaptureFixture) -> None:
    """The others are measured; it is told once, and again if it comes back after it was mended."""
    config = load_config(program.configure(LOCAL), {})
    async with opened(SQLiteStore(program.database)) as store:
        for row in (BAD, GOOD):
            await store.add_model(row)
        selection, runs = await read(config, store)
        again = await selection.read()
        assert [found.model_id for found, _ in runs] == [found.model_id for found, _ in again] == ["good"]
        told = f"local/bad {UNKNOWN}: {WAY_OUT}; until then the model is not measured"
        assert caplog.messages == [told]

        await store.change_model("local", "bad", profile=None)
        assert len(await selection.read()) == 2
        assert selection.left_out == []
        await store.change_model("local", "bad", profile="nope")
        await selection.read()
        assert caplog.messages == [told, told]
        assert selection.left_out == [told]


async def test_what_llmbench_alone_sets_is_told_and_the_model_measured(
    program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning names the fields."""
    caplog.set_level(logging.WARNING)
    config = load_config(program.configure(LOCAL), {})
    async with opened(SQLiteStore(program.database)) as store:
        await store.add_model(OWN)
        _, runs = await read(config, store)

    assert [key_of(found) for found, _ in runs] == [("local", "own")]
    assert caplog.messages == [f"local/own {TAKEN}: take it out of the row's request; it is not sent"]


@pytest.mark.parametrize("name", ["contents", "input", "messages", "model", "modelId", "prompt", "stream"])
def test_what_llmbench_alone_sets_is_never_sent(name: str) -> None:
    """Whatever the catalogue says; the other fields are."""
    row = model(request={name: "x", "max_tokens": 5, "api": "chat"})
    assert body_overrides(row) == {"max_tokens": 5}


def found(program: Program, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.run(*arguments, "--json").lines()]


def test_models_check_names_them(program: Program) -> None:
    """With what to do; a note of --force is of the id alone."""
    program.configure(LOCAL)
    forced = model("forced", provider="local", profile="nope", notes="added with --force: is a router")
    program.store(models=[BAD, OWN, GOOD, forced])
    rows = found(program, "models", "check")
    assert [(row["model_id"], row["problem"], row["forced"]) for row in rows] == [
        ("bad", "profile", False),
        ("forced", "profile", False),
        ("own", "request", False),
    ]
    assert rows[0]["reason"] == UNKNOWN
    result = program.run("models", "check")
    assert result.code == 1
    assert "--profile none takes it away" in " ".join(result.out.split())


def test_doctor_names_them(program: Program) -> None:
    """As warnings; of many of them the first ten."""
    program.configure(LOCAL)
    program.store(models=[BAD, OWN, GOOD, *(model(f"x{n}", provider="local", profile="nope") for n in range(10))])
    rows = [one for one in found(program, "doctor") if one["check"] == "models"]
    assert rows[0] == {"check": "models", "state": "warn", "told": f"local/bad {UNKNOWN}", "advice": WAY_OUT}
    assert rows[1]["told"] == f"local/own {TAKEN}"
    assert len(rows) == 11
    assert rows[-1]["told"] == "and 2 more"


def test_an_import_refuses_what_llmbench_alone_sets(program: Program) -> None:
    """Of a disabled row as well: it may be enabled later."""
    program.configure(LOCAL)
    path = program.home / "models.jsonl"
    row: Model = model("own", provider="local", request={"stream": False}, enabled=False)
    path.write_text(json.dumps({"provider": row.provider, "model_id": row.model_id, "request": row.request}))
    result = program.run("models", "import", path)
    assert result.code == 1
    assert result.out == (
        "line 1: local/own refused: has a request with stream, which llmbench alone sets: take it out\n"
    )


def test_bench_says_where_the_profile_comes_from(program: Program) -> None:
    """And that another can be chosen."""
    program.configure(LOCAL)
    program.store(models=[BAD])
    sentence = program.refused("bench", "local/bad")
    assert sentence == f"local/bad {UNKNOWN}: {WAY_OUT}, or choose one with --profile"


def test_the_engine_has_nothing_to_measure_but_such_rows(program: Program) -> None:
    """It ends with their sentences, not with how to add a model."""
    program.configure(LOCAL)
    program.store(models=[BAD])
    result = program.run("--headless", "--once")
    assert result.code == 2
    assert f"local/bad {UNKNOWN}" in result.err

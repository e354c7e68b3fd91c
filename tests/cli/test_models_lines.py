"""`llmbench models export`, `import` and `list --count`: the catalogue as lines, and lines as the catalogue."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from llmbench.messages import Model
from llmbench.stores.sqlite import SQLiteStore
from tests.cli.conftest import SECONDS, Program, Result
from tests.stores.contract_models import full
from tests.stores.documents import model


def lines_of(*models: Model) -> str:
    return "".join(msgspec.json.encode(one, order="deterministic").decode() + "\n" for one in models)


def written(program: Program, *lines: str | dict[str, Any]) -> Path:
    path = program.home / "models.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def stored(program: Program) -> list[Model]:
    return [msgspec.json.decode(line, type=Model) for line in program.ok("models", "export").lines()]


def verdicts(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.lines()]


# list --count


def test_models_are_counted(program: Program) -> None:
    """A bare number, of what the other options ask for; none is 0, and the sentence for it stays off stdout."""
    program.store(models=[model(), model("old", enabled=False), model("llama", provider="groq")])

    assert program.ok("models", "list", "--count").out == "3\n"
    assert program.ok("models", "list", "--count", "--disabled").out == "1\n"
    assert program.ok("models", "list", "--count", "--provider", "groq", "--json").out == '{"count":1}\n'
    assert program.ok("models", "list", "--count", "--provider", "groq", "--disabled").out == "0\n"


def test_nobody_counts_the_models_of_an_unknown_provider(program: Program) -> None:
    """A misspelt provider is an error, not 0."""
    assert program.refused("models", "list", "--count", "--provider", "groc").startswith("provider 'groc' is unknown")


# export


def test_every_field_is_exported(program: Program) -> None:
    """A line is the row as it is stored, dates as RFC 3339; what is not set is left out."""
    program.store(models=[model(), full("gpt-4o")])

    assert program.ok("models", "export").out == lines_of(full("gpt-4o"), model())
    assert '"disabled_at":"2026-03-14T11:57:00Z"' in program.ok("models", "export", "--json").out


def test_the_models_of_one_provider_are_exported(program: Program) -> None:
    """In any case; a provider that nobody knows is an error."""
    program.store(models=[model(), model("llama", provider="groq")])

    assert program.ok("models", "export", "--provider", "GROQ").out == lines_of(model("llama", provider="groq"))
    assert program.ok("models", "export", "--provider", "together").out == ""
    assert program.refused("models", "export", "--provider", "groc").startswith("provider 'groc' is unknown")


async def _put(program: Program, *models: Model) -> None:
    store = SQLiteStore(program.database)
    await store.open()
    for one in models:
        assert await store.put_model(one) is None
    await store.close()


def test_an_enabled_spelling_is_exported_first(program: Program) -> None:
    """Earlier systems left a model in several spellings: what is measured is what an import of all of them enables."""
    anyio.run(_put, program, full("GPT-4o"), model("gpt-4o"))
    path = written(program, program.ok("models", "export").out)
    program.database.unlink()

    assert verdicts(program.ok("models", "import", "--json", path))[1]["status"] == "exists"
    assert stored(program) == [model("gpt-4o")]


# import


def test_what_was_exported_can_be_imported(program: Program, tmp_path: Path) -> None:
    """Into an empty catalogue it comes back whole, disabled rows disabled; a second time nothing happens."""
    rows = [full("gpt-4o"), model(notes="asked for")]
    path = written(program, lines_of(*rows))

    result = program.ok("models", "import", path)
    assert result.lines() == ["line 1: openai/gpt-4o added", "line 2: openai/gpt-4o-mini added"]
    assert result.err == f"2 added ('{path}')\n"
    assert stored(program) == rows

    assert [one["status"] for one in verdicts(program.ok("models", "import", path, "--json"))] == ["exists"] * 2
    assert stored(program) == rows


def test_standard_input_is_imported(program: Program) -> None:
    """A dash stands for it; a line may say as little as which model it is about."""
    with program.started("models", "import", "-", stdin=subprocess.PIPE) as process:
        out, err = process.communicate('{"provider":"openai","model_id":"gpt-4o"}\n\n', timeout=SECONDS)

    assert (process.returncode, out, err) == (0, "line 1: openai/gpt-4o added\n", "1 added (standard input)\n")
    [row] = stored(program)
    assert (row.model_id, row.enabled, row.deprecated) == ("gpt-4o", True, False)


def test_each_line_is_on_its_own(program: Program) -> None:
    """Bad lines are named with number and reason, the good ones between them are taken, and the exit code is 1."""
    good = {"provider": "openai", "model_id": "gpt-4o"}
    path = written(
        program,
        "{",
        good,
        "[1]",
        {**good, "model_id": "o3", "colour": "red"},
        {**good, "model_id": 3},
        {"provider": "openai"},
        {**good, "model_id": "o3", "created_at": "2026-01-01T00:00:00"},
        {**good, "model_id": "o\u0007"},
        {**good, "provider": "opnai"},
        {**good, "model_id": "o3", "profile": "mine"},
        {**good, "model_id": "text-embedding-3-small"},
        "",
        {**good, "model_id": "o4-mini"},
        '{"provider": "openai", "model_id": ' + "[" * 5000 + "}",
    )
    result = program.run("models", "import", path, "--json")
    found = {one["line"]: one for one in verdicts(result)}

    assert result.code == 1
    assert result.err == f"11 refused, 2 added ('{path}')\n"
    assert [number for number, one in found.items() if one["status"] == "added"] == [2, 13]
    reasons = {number: one["reason"] for number, one in found.items() if "reason" in one}
    assert set(reasons) == {1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14}
    for number, part in {
        1: "is no JSON object",
        3: "is no JSON object",
        4: "'colour'",
        5: "model_id",
        6: "model_id",
        7: "no time zone in 'created_at'",
        8: "has an id that",
        9: "provider 'opnai' is unknown",
        10: "profile 'mine' is unknown",
        11: "--force",
    }.items():
        assert part in reasons[number], reasons[number]
    assert (found[10]["provider"], found[10]["model_id"]) == ("openai", "o3")
    assert [row.model_id for row in stored(program)] == ["gpt-4o", "o4-mini"]


def test_rows_that_would_not_be_measured_are_taken_as_they_are(program: Program) -> None:
    """A disabled row is the past: its provider, profile and id may be what nobody knows any more."""
    row = model("text-embedding-3-small", provider="gone", enabled=False, profile="lost", disabled_reason="gone")

    program.ok("models", "import", written(program, lines_of(row)))

    assert stored(program) == [row]


def test_an_id_against_the_rules_can_be_forced(program: Program) -> None:
    """With --force, or where the row itself says that it was."""
    first, second = model("text-embedding-3-small"), model("tts-1", notes="added with --force: speaks")
    program.ok("models", "import", "--force", written(program, lines_of(first)))
    program.ok("models", "import", written(program, lines_of(second)))

    assert stored(program) == [first, second]


def test_rows_that_are_there_stay(program: Program) -> None:
    """Whatever the line says, in whatever spelling: a disabled model is not enabled by an import."""
    program.store(models=[full("gpt-4o")])

    result = program.ok("models", "import", written(program, lines_of(model("GPT-4o", notes="new"))))

    assert result.lines() == ["line 1: openai/GPT-4o is there already and stays as it is"]
    assert stored(program) == [full("gpt-4o")]


def test_rows_that_are_there_are_replaced(program: Program) -> None:
    """With --replace: what a person sets and the line names; null takes away, all else stays, the state too."""
    program.store(models=[full("gpt-4o")])
    path = written(
        program,
        {
            "provider": "openai",
            "model_id": "gpt-4o",
            "profile": "reasoning",
            "notes": None,
            "enabled": True,
            "source": "x",
        },
    )

    assert verdicts(program.ok("models", "import", "--replace", "--json", path))[0]["status"] == "replaced"
    assert stored(program) == [msgspec.structs.replace(full("gpt-4o"), profile="reasoning", notes=None)]
    assert program.ok("models", "import", "--replace", path).lines() == ["line 1: openai/gpt-4o is as the line says"]


def test_a_terminal_is_safe_from_lines(program: Program) -> None:
    """Controls in a line, be it refused or taken, are shown as what they are."""
    path = written(
        program,
        {"provider": "openai", "model_id": "o\x1b[2J\n3"},
        {"provider": "gone\x1b[2J", "model_id": "o3", "enabled": False},
    )

    first, second = program.run("models", "import", path).lines()
    assert first.startswith(r"line 1: openai/o\x1b[2J\n3 refused: ")
    assert second == r"line 2: gone\x1b[2J/o3 added"
    assert program.ok("models", "enable", "gone\x1b[2J/o3").lines() == [r"gone\x1b[2J/o3 enabled"]


@pytest.mark.parametrize("name", ["absent.jsonl", "."])
def test_a_file_that_can_not_be_read(program: Program, name: str) -> None:
    """It is named, and nothing is imported."""
    assert program.refused("models", "import", name).startswith(f"'{name}' can't be read: ")

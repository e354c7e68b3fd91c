"""`llmbench models import` of many lines, and of lines that nobody can mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmbench.cli.context import opened
from llmbench.cli.models_import import Import, Line, LineVerdict
from llmbench.messages import Model
from llmbench.stores.sqlite import SQLiteStore
from tests.cli.conftest import Program
from tests.stores.documents import model


class Counting(SQLiteStore):
    """A store that counts what it is asked about single models."""

    asked = 0

    async def model(self, provider: str, model_id: str) -> Model:
        self.asked += 1
        return await super().model(provider, model_id)

    async def put_model(self, model: Model) -> Model | None:
        self.asked += 1
        return await super().put_model(model)


def lines(*models: Model, said: frozenset[str] = frozenset()) -> list[Line]:
    return [Line(number=number, model=one, said=said) for number, one in enumerate(models, 1)]


def statuses(verdicts: list[LineVerdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


async def test_many_lines_are_one_question(tmp_path: Path) -> None:
    """Nothing is asked about a single model, new or there, unless it is changed: the time does not grow faster."""
    models = [model(f"m{number}") for number in range(200)]
    said = frozenset({"notes"})
    async with opened(store := Counting(tmp_path / "llmbench.db")):
        first = await Import(store, [], replace=False).take(lines(*models))
        again = await Import(store, await store.models(), replace=True).take(lines(*models, said=said))
        assert statuses(first) == ["added"] * 200
        assert statuses(again) == ["unchanged"] * 200
        assert store.asked == 0
        assert len(await store.models()) == 200


async def test_a_model_in_two_lines_is_added_once(tmp_path: Path) -> None:
    """The second line finds the row of the first, in whatever spelling, and changes it if it may."""
    once, again = model("gpt-4o"), model("GPT-4o", notes="dear")
    said = frozenset({"notes"})
    async with opened(store := SQLiteStore(tmp_path / "llmbench.db")):
        assert statuses(await Import(store, [], replace=False).take(lines(once, again))) == ["added", "exists"]
        taking = Import(store, await store.models(), replace=True)
        assert statuses(await taking.take(lines(once, again, again, said=said))) == [
            "unchanged",
            "replaced",
            "unchanged",
        ]
        assert [row.notes for row in await store.models()] == ["dear"]


async def test_what_cant_be_stored_keeps_no_other_line_out(tmp_path: Path) -> None:
    """Though they are added together; it is named with the reason."""
    bad = model("bad", request={"seed": float("nan")})
    async with opened(store := SQLiteStore(tmp_path / "llmbench.db")):
        verdicts = await Import(store, [], replace=False).take(lines(model("a"), bad, model("b")))
        assert statuses(verdicts) == ["added", "refused", "added"]
        assert (verdicts[1].reason or "").startswith("can't be stored: ")
        assert {row.model_id for row in await store.models()} == {"a", "b"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"provider":"groq","model_id":"a","model_id":"b"}', "says 'model_id' twice: take one out"),
        ('{"provider":"groq","model_id":"a","request":{"x":{"y":1,"y":2}}}', "says 'y' twice: take one out"),
        (
            '{"provider":"groq","model_id":"a","effective_profile":"default"}',
            "has a field 'effective_profile', which models list adds: take the lines of llmbench models export",
        ),
    ],
)
def test_lines_that_nobody_can_mean(program: Program, line: str, reason: str) -> None:
    """A name that is there twice, and a line of another command."""
    path = program.home / "models.jsonl"
    path.write_text(line)
    result = program.run("models", "import", path, "--json")
    assert (result.code, json.loads(result.out)["reason"]) == (1, reason)


def test_a_new_row_says_where_it_came_from(program: Program) -> None:
    """One of an export keeps what it says of its origin, which may be nothing."""
    path = program.home / "models.jsonl"
    path.write_text(
        '{"provider":"groq","model_id":"by-hand"}\n'
        '{"provider":"groq","model_id":"exported","created_at":"2026-01-02T03:04:05Z"}\n'
    )
    program.ok("models", "import", path)
    rows: list[dict[str, Any]] = [json.loads(line) for line in program.ok("models", "export").lines()]
    assert {row["model_id"]: row.get("source") for row in rows} == {"by-hand": "import", "exported": None}

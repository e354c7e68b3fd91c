"""`llmbench models show`: what others have stored about a model beside its runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from llmbench.lifecycle import Listing, Record
from llmbench.stores.sqlite import SQLiteStore
from tests.cli.conftest import Program, Result
from tests.stores.contract_lifecycle import entry, listing, snapshot, status
from tests.stores.documents import model, moment


def ago(**duration: float) -> datetime:
    return datetime.now(UTC) - timedelta(**duration)


def listed(hours: float, *ids: str, **changes: Any) -> Listing:
    """Return a complete listing of so many hours ago."""
    return listing(*ids, started_at=ago(hours=hours), finished_at=ago(hours=hours), **changes)


@pytest.fixture
def stored(program: Program) -> Callable[..., None]:
    """Stores a model, and these records about it."""

    async def put(listings: Sequence[Listing], records: Sequence[Record]) -> None:
        store = SQLiteStore(program.database)
        await store.open()
        for one in listings:
            await store.put_listing(one)
        assert {verdict.status for verdict in await store.put_records(records)} <= {"stored"}
        await store.close()

    def stored(*listings: Listing, records: Sequence[Record] = ()) -> None:
        program.store(models=[model()])
        anyio.run(put, listings, records)

    return stored


def facts(result: Result) -> list[tuple[str, str]]:
    lines = [line.split("  ", 1) for line in result.lines()[2:]]
    return [(name, value.strip()) for name, value in lines if name not in ("model", "state", "profile", "added")]


def test_what_is_stored_about_a_model_is_shown(program: Program, stored: Callable[..., None]) -> None:
    """Its status with reasons and what to do, whether its provider still lists it, and its speed before its end."""
    about = [
        status("GPT-4o-mini", computed_at=ago(hours=3), last_updated=None, reasons=["no success", "HTTP \x1b[31m404"]),
        *(snapshot(), entry(last_seen_at=ago(hours=30), first_seen_at=ago(hours=40)), status("o3"), snapshot("o3")),
    ]
    stored(listed(5, "o3"), listed(2, status="failed", error="HTTP 500"), records=about)

    told = facts(program.ok("models", "show", "openai/gpt-4o-mini"))

    assert told[2:8] == [
        ("judged", "failing (confidence high), 3 h ago"),
        ("because", "no success"),
        ("because", r"HTTP \x1b[31m404"),
        ("to do", "disable it"),
        ("in its provider's list", "no more, last seen 1 d ago"),
        ("unfit", "it makes images"),
    ]
    assert told[8][0] == "before it ends"
    assert " ".join(text for _, text in told[8:]) == (
        "2026-03-15: mean 51.2, p10 40.0, p50 52.5, p90 60.2 tokens/s of 4321 samples; successor: gpt-5-mini"
    )


def test_what_is_stored_about_a_model_as_json(program: Program, stored: Callable[..., None]) -> None:
    """The documents as they are stored; of the catalogue's entry without what the provider said."""
    stored(listed(2, "gpt-4o-mini"), records=[status(), snapshot()])

    shown = json.loads(program.ok("models", "show", "openai/gpt-4o-mini", "--json").out)

    assert (shown["status"]["status"], shown["status"]["metrics"]["errors_7d"]) == ("failing", 31)
    assert shown["catalog"]["listed"] is True
    assert shown["catalog"].keys() == {"listed", "first_seen_at", "last_seen_at"}
    assert [one["sample_size"] for one in shown["snapshots"]] == [4321]
    assert shown["snapshots"][0]["deprecation_date"] == moment(1440).isoformat().replace("+00:00", "Z")


def test_whether_a_model_is_listed_takes_a_complete_listing(program: Program, stored: Callable[..., None]) -> None:
    """Without one, nobody knows."""
    stored(listed(2, "gpt-4o-mini", status="failed", error="HTTP 500"))

    assert dict(facts(program.ok("models", "show", "openai/gpt-4o-mini")))["in its provider's list"] == (
        "unknown, last seen 2 h ago"
    )
    shown = json.loads(program.ok("models", "show", "openai/gpt-4o-mini", "--json").out)
    assert shown["catalog"]["listed"] is None


def test_nothing_is_shown_of_what_is_not_there(program: Program, stored: Callable[..., None]) -> None:
    """No row and no key."""
    stored(records=[status("o3")])

    assert [name for name, _ in facts(program.ok("models", "show", "openai/gpt-4o-mini"))] == [
        "last scheduled success",
        "failures since",
    ]
    shown = json.loads(program.ok("models", "show", "openai/gpt-4o-mini", "--json").out)
    assert shown.keys() == {"model", "effective_profile", "history", "outcomes", "errors"}

"""The store, the spool and the quarantine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmbench.messages import SpoolFigures, StoreState
from llmbench.tui.answers import Asked, SpoolAnswer
from llmbench.tui.items import LinkChange
from llmbench.tui.reduce import reduce
from llmbench.tui.state import State
from llmbench.tui.views.storage import detail, facts, quarantine, row_of
from tests.tui import states
from tests.tui.answers import quarantined, spool
from tests.tui.states import HOSTILE, NOW, at, empty, engine_figures


def with_spool(**changes: Any) -> State:
    usual: dict[str, Any] = {
        "level": "ok", "waiting": 0, "quarantined": 0, "damages": 0, "bytes": 2**28, "cap_bytes": 2**30,
    }  # fmt: skip
    return msgspec.structs.replace(empty(), engine=engine_figures(spool=SpoolFigures(**usual | changes)))


def told(state: State, asked: Asked[SpoolAnswer] | None = None) -> dict[str, str]:
    return {name: cell.text for name, cell in facts(state, asked or Asked(), NOW)}


def test_before_anything_is_known() -> None:
    """What the engine has not told yet is a dash, and no figure."""
    assert told(empty()) == {
        "Store": "— the engine has not told yet",
        "Spool": "— the engine has not told yet",
    }


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("ok", "● takes outcomes since 11:07"),
        ("failing", "▲ does not take outcomes now since 11:07: no route"),
        ("blocked", "✖ takes nothing until a person mends it since 11:07: no route"),
    ],
)
def test_the_store(status: Any, words: str) -> None:
    store = StoreState(status=status, at=NOW, waiting=0, reason=None if status == "ok" else "no route")
    state = msgspec.structs.replace(empty(), store=store, store_since=at(-60))
    assert told(state)["Store"] == words


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("ok", "● room enough"),
        ("warning", "▲ nearly full: at 80 %"),
        ("paused", "✖ full: nothing new is started"),
        ("new", "new"),
    ],
)
def test_the_level(level: str, words: str) -> None:
    assert told(with_spool(level=level))["Spool"] == words


def test_an_engine_that_is_away() -> None:
    """Its store and its spool are told as they were when it was last heard, and nothing in bright colours."""
    lines = dict(facts(states.disconnected(), Asked(), NOW))

    assert lines["Store"].text == "○ last heard 40 s ago: takes outcomes since 11:27"
    assert lines["Spool"].text == "○ last heard 40 s ago: room enough"
    assert lines["Waiting"].text == "0"
    assert {cell.tone for cell in lines.values()} == {"muted"}


def test_an_engine_that_was_never_heard() -> None:
    """There is nothing to tell the age of."""
    gone = LinkChange(status="lost", at=at(-1), reason="no engine runs")
    lines = dict(facts(reduce(empty(), [gone], NOW), Asked(), NOW))
    assert {cell.text for cell in lines.values()} == {"— the engine has not told yet"}


def test_depth_and_room() -> None:
    """How many wait, since when, and how much of the cap they take."""
    state = with_spool(waiting=12, oldest=at(-30), quarantined=2, damages=1)

    assert told(state) | {"Store": "", "It is": ""} == {
        "Store": "",
        "It is": "",
        "Spool": "● room enough",
        "Taken": "[#####···············] 256 MiB of 1.00 GiB, 25 %",
        "Waiting": "12, the oldest recorded 30 min ago",
        "Quarantine": "2 that the store would not take",
        "Damage": "✖ 1 found: llmbench spool status tells more",
    }


def test_an_engine_over_http_and_a_spool_at_hand() -> None:
    """Without the engine's figures those of the spool itself are shown; damages are told in its words."""
    asked = spool(quarantined(), waiting=3, oldest=at(-2), told=("a page was torn",))
    found = told(empty(), asked)

    assert found["Waiting"] == "3, the oldest recorded 2 min ago"
    assert found["Quarantine"] == "1 that the store would not take"
    assert found["Delivered"] == "120, kept for a while"
    assert found["Damage"] == "✖ a page was torn; once you know, llmbench spool acknowledge"


def test_rows_of_the_quarantine() -> None:
    """Each says why, in the store's words; its id is what is copied with its model."""
    [one] = quarantine(empty(), spool(quarantined()), NOW).rows

    assert [cell.text for cell in one.cells] == [
        "20 min", "openai/gpt-4o-mini", "✖ rejected", "1", "the field 'misc' is too large",
    ]  # fmt: skip
    assert (one.key, one.cells[1].full) == ("outcome-0", "outcome-0")


def test_the_filter() -> None:
    asked = spool(quarantined(0), quarantined(1, model=None, error="a conflict"))
    table = quarantine(empty(), asked, NOW, "CONFLICT")

    assert [one.key for one in table.rows] == ["outcome-1"]
    assert table.hidden == "1 outcome hidden by the filter"
    assert row_of(asked, "outcome-1") is not None
    assert row_of(asked, "gone") is row_of(Asked(), "outcome-1") is None


def test_more_than_are_shown() -> None:
    asked = spool(quarantined(), quarantined=dict.fromkeys(["rejected"], 250))
    assert quarantine(empty(), asked, NOW).hidden == "the first 1 of 250 are shown"


@pytest.mark.parametrize(
    ("asked", "text_filter", "words"),
    [
        (Asked[SpoolAnswer](), "", "asking the spool for quarantine …"),
        (Asked[SpoolAnswer](trouble="no engine has it"), "", "no quarantine: no engine has it;"),
        (spool(), "", "the quarantine is empty: there is no outcome"),
        (spool(quarantined()), "zzz", "no outcome matches 'zzz'; esc clears the filter"),
    ],
)
def test_words_in_place_of_rows(asked: Asked[SpoolAnswer], text_filter: str, words: str) -> None:
    table = quarantine(empty(), asked, NOW, text_filter)
    assert table.rows == ()
    assert table.empty.startswith(words)


def test_foreign_text_is_made_safe() -> None:
    """Neither the store's words nor a damaged body acts on the terminal."""
    odd = quarantined(model=HOSTILE, reason=HOSTILE, error=HOSTILE)
    store = StoreState(status="failing", at=NOW, waiting=0, reason=HOSTILE)
    state = msgspec.structs.replace(empty(), store=store, engine=engine_figures(store=HOSTILE))
    asked = spool(odd, told=(HOSTILE,))

    cells = [cell for one in quarantine(state, asked, NOW).rows for cell in one.cells]
    cells += [cell for _name, cell in facts(state, asked, NOW)]
    assert all(cell.text.isprintable() for cell in cells)


@pytest.mark.parametrize(
    ("changes", "todo"),
    [
        ({}, "Mend what the store refused"),
        ({"reason": "undecodable"}, "retry after an upgrade"),
        ({"conflicting": True, "reason": "conflict"}, "never sent"),
        ({"reason": None, "model": None, "error": None}, "Mend what the store refused"),
    ],
)
def test_all_of_one_outcome(changes: dict[str, Any], todo: str) -> None:
    """What to do about it goes by its reason; what is not known is a dash."""
    lines = [cell.text for cell in detail(quarantined(**changes), NOW)]

    assert [line for line in lines if todo in line]
    assert "recorded 11:47 (20 min ago), 1 try" in lines
    assert lines[-1] == changes.get("error", "the field 'misc' is too large") or lines[-1] == "—"

"""The catalogue as a table, and the runs of one model."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from llmbench.tui.answers import Asked, Catalogue, CatalogueRow
from llmbench.tui.state import Run, State
from llmbench.tui.table import Table
from llmbench.tui.views.models import SHOWS, Show, condition, key_of_row, models, row_of, runs, told
from tests.tui import answers
from tests.tui.answers import FRESH, catalogue, disabled, failed_run, failing, row, run
from tests.tui.states import HOSTILE, NOW, at, empty


def shown(asked: Asked[Catalogue], state: State | None = None, show: Show = "all", text_filter: str = "") -> Table:
    return models(asked, state or empty(), NOW, FRESH, show, text_filter)


def column(table: Table, name: str) -> list[str]:
    [index] = [n for n, one in enumerate(table.columns) if one.name == name]
    return [one.cells[index].text for one in table.rows]


def with_finished(*found: Any) -> State:
    return msgspec.structs.replace(empty(), finished=found)


@pytest.mark.parametrize(
    ("one", "how"),
    [
        (row(), "fresh"),
        (row(last_success=NOW - FRESH), "fresh"),
        (row(last_success=NOW - FRESH - timedelta(seconds=1)), "due"),
        (row(last_success=NOW - 2 * FRESH - timedelta(seconds=1)), "stale"),
        (row(last_success=None), "never ran"),
        (failing(failures=1), "failed once"),
        (failing(failures=2), "failing"),
        (failing(failures=1, last_success=None), "failing"),
        (disabled(), "disabled"),
    ],
)
def test_how_a_model_is(one: CatalogueRow, how: str) -> None:
    assert condition(one, NOW, FRESH) == how


MIXED = catalogue(
    disabled(), row(), row("late", last_success=at(-300)), failing(), row("new", last_success=None), failing("worse", 9)
)


def test_worst_first() -> None:
    """What fails most comes first, what is disabled last; the state is said by glyph and word."""
    assert column(shown(MIXED), "Model") == [
        f"openai/{name}" for name in ("worse", "broken", "late", "new", "gpt-4o-mini", "old")
    ]
    assert column(shown(MIXED), "State") == [
        "✖ failing", "✖ failing", "▲ stale", "▲ never ran", "● fresh", "○ disabled",
    ]  # fmt: skip


def test_what_is_told_of_a_model() -> None:
    """Figures have three digits, what is not known is a dash, and why a model is disabled is told with who and when."""
    fresh, old = shown(catalogue(row(), disabled())).rows
    never = shown(catalogue(CatalogueRow(provider="groq", model_id="new", enabled=True))).rows[0]

    assert [cell.text for cell in fresh.cells] == [
        "openai/gpt-4o-mini", "● fresh", "30 min", "412", "51.2", "99 %", "168", "",
    ]  # fmt: skip
    assert old.cells[-1].text == "it is gone (ana, 1 h 30 min ago)"
    assert [cell.text for cell in never.cells[2:7]] == ["never", "—", "—", "—", "0"]


@pytest.mark.parametrize(
    ("show", "names"),
    [
        ("all", {"old", "gpt-4o-mini", "late", "broken", "new", "worse"}),
        ("enabled", {"gpt-4o-mini", "late", "broken", "new", "worse"}),
        ("disabled", {"old"}),
        ("stale", {"late", "new"}),
        ("failing", {"broken", "worse"}),
    ],
)
def test_what_is_shown(show: Show, names: set[str]) -> None:
    assert {name.split("/")[1] for name in column(shown(MIXED, show=show), "Model")} == names


def test_a_filter_hides_no_failing_model_in_silence() -> None:
    """How many it hides is told; the text that is searched is model, reason and kind of error."""
    assert shown(MIXED, text_filter="GPT").hidden == "2 failing models hidden by the filter"
    assert shown(MIXED, text_filter="worse").hidden == "1 failing model hidden by the filter"
    assert shown(MIXED).hidden is None
    assert column(shown(MIXED, text_filter="gone"), "Model") == ["openai/old"]
    assert len(shown(MIXED, text_filter="rate_limit").rows) == 2


@pytest.mark.parametrize(
    ("asked", "show", "text_filter", "words"),
    [
        (Asked[Catalogue](), "all", "", "asking the store for catalogue …"),
        (Asked[Catalogue](trouble="it is locked"), "all", "", "no catalogue: it is locked; it is asked again"),
        (catalogue(), "all", "", "the catalogue is empty: llmbench models add"),
        (catalogue(row()), "failing", "", "no model is failing; f shows others"),
        (catalogue(row()), "all", "zzz", "no model matches 'zzz'; esc clears the filter"),
    ],
)
def test_words_in_place_of_rows(asked: Asked[Catalogue], show: Show, text_filter: str, words: str) -> None:
    table = shown(asked, show=show, text_filter=text_filter)
    assert table.rows == ()
    assert table.empty.startswith(words)


def test_live_events_go_on_where_the_answer_ends() -> None:
    """A run after the answer counts, one before it is in it already; names match in any spelling."""
    asked = catalogue(failing("a", last_success=at(-300)), row("b"), minutes=-5)
    state = with_finished(
        run(6, model_id="b", ok=False),
        run(1, model_id="A"),
        failed_run(3, model_id="b", error_kind="timeout"),
        failed_run(2, model_id="b", error_kind="timeout"),
    )

    first, second = shown(asked, state).rows

    assert [cell.text for cell in first.cells][:3] == ["openai/b", "✖ failing", "30 min"]
    assert first.cells[-1].text == "2× timeout, last 2 min ago"
    assert [cell.text for cell in second.cells][:3] == ["openai/a", "● fresh", "1 min"]


def test_a_model_that_streams() -> None:
    stream = Run(outcome_id="x", provider="OpenAI", model_id="gpt-4o-mini", started_at=at(-0.1))
    state = msgspec.structs.replace(empty(), runs={"x": stream})
    assert column(shown(catalogue(row(), row("other")), state), "Why") == ["streaming now", ""]


def test_foreign_text_is_made_safe() -> None:
    """Whatever a name, a reason or a message holds, nothing of it acts on the terminal."""
    odd = row(HOSTILE, enabled=False, disabled_reason=HOSTILE, disabled_by=HOSTILE)
    tables = [shown(catalogue(odd)), runs(answers.runs(failed_run(message=HOSTILE, error_kind=HOSTILE)), NOW)]
    lines = told(answers.runs(run()), odd, NOW)

    texts = [cell.text for table in tables for one in table.rows for cell in one.cells] + [line.text for line in lines]
    assert any("\\x1b" in text for text in texts)
    assert all(text.isprintable() for text in texts)


def test_a_row_is_found_by_its_key() -> None:
    asked = catalogue(row(), disabled())
    assert row_of(asked, key_of_row(disabled())) == disabled()
    assert row_of(asked, "openai/gone") is row_of(asked, None) is row_of(Asked(), "a/b") is None


def test_the_runs_of_one_model() -> None:
    """A run that failed has its kind and the provider's words, and no figures."""
    good, bad = runs(answers.runs(run(1), failed_run(2)), NOW).rows

    assert [cell.text for cell in good.cells] == ["03-14 12:06:30", "● ok", "410", "51.0", "64", "14.0", "25.0", ""]
    assert [cell.text for cell in bad.cells] == [
        "03-14 12:05:30", "✖ rate_limit", "—", "—", "—", "—", "—", "slow down",
    ]  # fmt: skip


def test_runs_are_filtered_and_bounded() -> None:
    asked = answers.runs(run(1), failed_run(2), more=True)
    assert [one.key for one in runs(asked, NOW, "SLOW").rows] == ["run-2"]
    assert runs(asked, NOW).hidden == "only the last 2 runs are shown"
    assert runs(asked, NOW, "zzz").empty == "no run matches 'zzz'; esc clears the filter"
    assert runs(answers.runs(), NOW).empty == "no run of this model is stored yet"


def test_figures_of_one_model() -> None:
    """They have their median, their range and n; sparklines go from the oldest run to the newest."""
    found = answers.runs(run(0, time_to_first_token=0.1), failed_run(1), run(2, time_to_first_token=0.2), run(4))
    lines = [line.text for line in told(found, row(), NOW)]

    assert lines == [
        "● enabled, the last scheduled run succeeded",
        "4 runs since 12:03: 3 ok",
        "TTFT   median 200 ms, 100 to 440, n = 3  █▄ ▂",
        "speed  median 52.0 tok/s, 50.0 to 54.0, n = 3  ██ █",
    ]


def test_a_model_without_figures() -> None:
    """What no run has is a dash; why it is so is told first."""
    lines = [line.text for line in told(answers.runs(failed_run(1)), failing(last_success=None), NOW)]

    assert lines[0] == "✖ 3 failures ever, now rate_limit"
    assert lines[2:] == ["TTFT   — ms, no run has it", "speed  — tok/s, no run has it"]
    assert told(answers.runs(), disabled(), NOW)[0].text == "○ disabled 10:37 by ana: it is gone"


def test_every_filter_has_a_name() -> None:
    assert SHOWS == ("all", "enabled", "disabled", "stale", "failing")

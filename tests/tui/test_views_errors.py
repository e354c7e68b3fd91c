"""Errors by fingerprint, from the store and from live events."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.tui.answers import Asked, Errors
from llmbench.tui.state import ErrorGroup, State
from llmbench.tui.views.errors import counted, detail, errors, merged, summed_up
from tests.tui import answers
from tests.tui.answers import group
from tests.tui.states import HOSTILE, LONG, NOW, at, empty


def with_errors(*groups: ErrorGroup) -> State:
    return msgspec.structs.replace(empty(), errors={one.fingerprint: one for one in groups})


class TestMerging:
    """What the store has and what live events tell are counted once."""

    def test_what_the_answer_has_is_not_counted_again(self) -> None:
        """Of the live failures only those after the answer are added."""
        asked = answers.errors(group(count=10), live={"f": 4})
        live = {"f": group(count=6, first_seen=at(-20), last_seen=at(-1), message="the newest")}

        one = merged(asked, live)["f"]

        assert (one.count, one.message) == (12, "the newest")
        assert (one.first_seen, one.last_seen) == (at(-60), at(-1))

    def test_what_only_one_knows(self) -> None:
        """A group that is only stored, or only live, is as it is told."""
        both = merged(answers.errors(group("stored")), {"live": group("live", count=2)})
        assert [one.count for one in both.values()] == [10, 2]
        assert merged(Asked(), {"live": group("live")}) == {"live": group("live")}

    def test_what_is_not_stored_yet_is_counted(self) -> None:
        """Live events of a window that the answer covers can't be more than there are."""
        asked = answers.errors(group(count=3), live={"f": 5})
        assert merged(asked, {"f": group(count=5)})["f"].count == 5

    def test_live_failures_before_the_window(self) -> None:
        """A viewer that has been on for days does not add what is before the window."""
        asked = answers.errors(group(count=3), live={"f": 90})
        assert merged(asked, {"f": group(count=91, first_seen=at(-3 * 1440))})["f"].count == 4

    @given(before=st.integers(0, 20), at_answer=st.integers(0, 20), after=st.integers(0, 20))
    def test_any_order(self, before: int, at_answer: int, after: int) -> None:
        """Stored before the viewer began, seen by it and stored, seen after the answer: each once."""
        asked = answers.errors(group(count=before + at_answer), live={"f": at_answer})
        live = {"f": group(count=at_answer + after)}
        assert merged(asked, live)["f"].count == before + at_answer + after


def test_what_goes_on_comes_first() -> None:
    """The most frequent of what was seen lately is on top; then comes the rest, the latest first."""
    asked = answers.errors(
        group("often, long ago", count=900, last_seen=at(-300)),
        group("long ago", count=1, last_seen=at(-200)),
        group("now", count=2),
        group("often, now", count=5),
    )
    table = errors(asked, empty(), NOW)

    assert [one.key for one in table.rows] == ["often, now", "now", "long ago", "often, long ago"]
    assert [one.cells[0].text[0] for one in table.rows] == ["✖", "✖", "·", "·"]


def test_what_is_told_of_a_group() -> None:
    [one] = errors(answers.errors(group()), empty(), NOW).rows

    assert [cell.text for cell in one.cells] == [
        "✖ rate_limit", "groq/llama", "10", "11:07", "2 min", "Rate limit reached for llama, try again in 7 s",
    ]  # fmt: skip


@pytest.mark.parametrize("text_filter", ["RATE_LIMIT", "groq/ll", "try again"])
def test_the_filter(text_filter: str) -> None:
    """It looks at kind, model and message; what goes on and is hidden is told."""
    other = group("other", provider="x", error_kind="auth", message="no")
    table = errors(answers.errors(group(), other), empty(), NOW, text_filter)

    assert [one.key for one in table.rows] == ["f"]
    assert table.hidden == "1 error going on now hidden by the filter"


@pytest.mark.parametrize(
    ("asked", "text_filter", "words"),
    [
        (Asked[Errors](), "", "asking the store for errors …"),
        (Asked[Errors](trouble="it is locked"), "", "no errors: it is locked; it is asked again"),
        (answers.errors(), "", "nothing has failed since 03-13 12:07"),
        (answers.errors(group()), "zzz", "no error matches 'zzz'; esc clears the filter"),
    ],
)
def test_words_in_place_of_rows(asked: Asked[Errors], text_filter: str, words: str) -> None:
    table = errors(asked, empty(), NOW, text_filter)
    assert table.rows == ()
    assert table.empty.startswith(words)


def test_without_a_store_live_errors_are_shown() -> None:
    table = errors(Asked(trouble="there is no store"), with_errors(group()), NOW)
    assert [one.key for one in table.rows] == ["f"]


def test_groups_that_are_left_out() -> None:
    asked = answers.errors(group(), left_out=7)
    assert errors(asked, empty(), NOW).hidden == "7 rarer groups left out"
    assert summed_up(answers.errors(), NOW) == ""
    assert summed_up(asked, NOW) == "10 failures of 8 sorts stored since 03-13 12:07"


class TestDetail:
    """All of one group."""

    def test_advice_and_raw_text(self) -> None:
        lines = [line.text for line in detail(group(), {"f": group()}, NOW)]

        assert lines[:3] == [
            "✖ rate_limit · rate_limited · HTTP 429",
            "groq/llama",
            "10 times, first 11:07 (1 h 00 min ago), last 12:05 (2 min ago)",
        ]
        assert "Ask for a higher limit" in lines
        assert "Rate limit reached for llama, try again in 7 s" in lines

    def test_a_failure_of_an_earlier_writer(self) -> None:
        """Without advice of its own it has that of its kind."""
        texts = [line.text for line in detail(group(advice="", error_kind="auth"), {}, NOW)]
        [advice] = [after for title, after in pairwise(texts) if title == "What to do"]
        assert len(advice) > 20

    def test_models_with_the_same_error(self) -> None:
        """Numbers and the model's own name make no other error of it; kind and provider do."""
        same = group("g", model_id="mixtral", message="Rate limit reached for mixtral, try again in 59 s", count=99)
        others = [
            group("h", model_id="other kind", error_kind="timeout"),
            group("i", model_id="other words", message="no"),
            group("j", model_id="other provider", provider="x"),
        ]
        groups = {one.fingerprint: one for one in [group(), same, *others]}

        lines = [line.text for line in detail(group(), groups, NOW)]

        assert lines[-3:] == [
            "The same at 2 models of groq",
            "    99  mixtral, last 2 min ago",
            "    10  llama, last 2 min ago",
        ]

    def test_many_models(self) -> None:
        groups = {str(n): group(str(n), model_id=f"m{n}", message="no") for n in range(30)}
        lines = detail(msgspec.structs.replace(groups["0"], count=1), groups, NOW)
        assert lines[2].text.startswith("1 time, first")
        assert lines[-1].text.strip() == "and 10 more"


def test_foreign_text_is_made_safe() -> None:
    """Whatever a provider said, nothing of it acts; a row has room for a part, a copy has all of it."""
    odd: dict[str, Any] = dict.fromkeys(("provider", "model_id", "error_kind", "error_cause", "advice"), HOSTILE)
    one = group(message=HOSTILE + LONG[:3000], **odd)
    [shown] = errors(answers.errors(one), empty(), NOW).rows
    cells = [*shown.cells, *detail(one, {"f": one}, NOW)]

    assert all(cell.text.isprintable() for cell in cells)
    message = shown.cells[-1]
    assert len(message.text) <= 301
    assert message.full is not None
    assert len(message.full) > 3000


def test_live_failures_are_counted_at_the_answer() -> None:
    assert counted({"f": group(count=4)}) == {"f": 4}

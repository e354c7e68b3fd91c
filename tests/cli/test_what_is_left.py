"""What is told while an engine that was stopped finishes."""

from __future__ import annotations

from llmbench.cli.watching import what_is_left
from llmbench.tui.items import LinkChange
from tests.tui import states
from tests.tui.states import NOW, after


def test_as_many_as_stream() -> None:
    assert what_is_left(states.healthy()) == "finishing what streams now, 6 left; Ctrl-C: stop at once"


def test_the_last_one_has_ended() -> None:
    """It is not told that none is left to finish, as if that went on."""
    ended = after(states.empty(), [LinkChange(status="live", at=NOW), states.engine_figures()])
    assert what_is_left(ended) == "nothing streams any more, and the engine ends; Ctrl-C: stop at once"


def test_nothing_was_told_yet() -> None:
    """It is not known whether anything streams."""
    assert what_is_left(states.empty()) == "the engine ends; Ctrl-C: stop at once"

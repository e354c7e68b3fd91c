"""How a question to the store stands."""

from __future__ import annotations

from datetime import timedelta

from llmbench.tui.answers import Asked, Catalogue
from llmbench.tui.views.answered import standing
from tests.tui.answers import catalogue, row
from tests.tui.states import HOSTILE, NOW, at


def test_an_answer_has_its_age() -> None:
    [young] = standing(catalogue(row(), minutes=-1), NOW)
    [asked_again] = standing(catalogue(row(), asking=True), NOW)
    [old] = standing(catalogue(row(), minutes=-9), NOW)

    assert (young.text, young.tone) == ("the store told this 1 min ago", "muted")
    assert asked_again.text == "the store told this 1 min ago · asking again …"
    assert old.tone == "warn"


def test_trouble_leaves_the_old_answer_with_its_age() -> None:
    """What is shown is told to be old; foreign text in the reason is safe."""
    [old] = standing(catalogue(row(), minutes=-9, trouble=f"it is locked {HOSTILE}"), NOW)

    assert old.text.startswith("▲ shown is what it told 9 min ago: it is locked")
    assert old.tone == "warn"
    assert old.text.isprintable()


def test_without_an_answer() -> None:
    """Words in place of rows say so; beside rows from elsewhere a line does."""
    assert list(standing(Asked[Catalogue](trouble="it is locked"), NOW)) == []
    [troubled] = standing(Asked[Catalogue](trouble=HOSTILE), NOW, alone=True)
    [asking] = standing(Asked[Catalogue](), NOW, alone=True)

    assert troubled.text.startswith("▲ without what the store has: ")
    assert troubled.text.isprintable()
    assert asking.text == "asking the store …"


def test_a_question_is_asked_again_when_it_is_time() -> None:
    """After 30 s, or after 20 times as long as it took; never while it is being asked."""
    assert Asked[Catalogue]().due(NOW)
    assert not Asked[Catalogue](asking=True).due(NOW)
    quick = Asked[Catalogue](tried=at(0), took=0.2)
    slow = Asked[Catalogue](tried=at(0), took=3.0)
    assert [quick.due(NOW + timedelta(seconds=s)) for s in (29, 30)] == [False, True]
    assert [slow.due(NOW + timedelta(seconds=s)) for s in (59, 60)] == [False, True]

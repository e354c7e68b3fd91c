"""How a question to the store stands."""

from __future__ import annotations

from datetime import timedelta

from llmbench.tui.answers import Asked, Catalogue
from llmbench.tui.views.answered import standing
from tests.tui.answers import catalogue, row
from tests.tui.states import HOSTILE, NOW, at


def test_an_answer_has_its_age() -> None:
    assert standing(catalogue(row(), minutes=-1), NOW).text == "the store told this 1 min ago"
    assert standing(catalogue(row(), asking=True), NOW).text == "the store told this 1 min ago · asking again …"
    assert standing(catalogue(row(), minutes=-9), NOW).tone == "warn"


def test_trouble_leaves_the_old_answer_with_its_age() -> None:
    """What is shown is told to be old; foreign text in the reason is safe."""
    old = standing(catalogue(row(), minutes=-9, trouble="it is locked"), NOW)
    none = standing(Asked[Catalogue](trouble=HOSTILE), NOW)

    assert (old.text, old.tone) == ("▲ shown is what it told 9 min ago: it is locked", "warn")
    assert (none.text[:2], none.tone) == ("✖ ", "bad")
    assert none.text.isprintable()
    assert standing(Asked[Catalogue](), NOW).text == "asking the store …"


def test_a_question_is_asked_again_when_it_is_time() -> None:
    """After 30 s, or after 20 times as long as it took; never while it is being asked."""
    assert Asked[Catalogue]().due(NOW)
    assert not Asked[Catalogue](asking=True).due(NOW)
    quick = Asked[Catalogue](tried=at(0), took=0.2)
    slow = Asked[Catalogue](tried=at(0), took=3.0)
    assert [quick.due(NOW + timedelta(seconds=s)) for s in (29, 30)] == [False, True]
    assert [slow.due(NOW + timedelta(seconds=s)) for s in (59, 60)] == [False, True]

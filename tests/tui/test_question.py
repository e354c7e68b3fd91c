"""A question that is asked again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from llmbench.tui.history import HistoryError
from llmbench.tui.question import Question
from tests.stores.documents import NOON
from tests.stores.spooling import SetClock


def question(*answers: Any) -> tuple[Question[str], SetClock]:
    """Return a question that gets these answers one after the other; an exception is raised."""
    left, clock = list(answers), SetClock()

    async def ask() -> str:
        answer = left.pop(0)
        clock.advance(seconds=1)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    return Question(ask, clock), clock


async def test_an_answer() -> None:
    """It is kept with its time, and is not asked for again at once."""
    asked, clock = question("yes")
    assert asked.due()

    await asked.ask()

    assert (asked.standing.answer, asked.standing.at, asked.standing.trouble) == ("yes", clock.now(), None)
    assert asked.standing.tried == NOON
    assert not asked.due()
    clock.advance(seconds=29)
    assert asked.due()


async def test_a_clock_that_is_set_back_keeps_nothing_from_being_asked() -> None:
    asked, clock = question("yes")
    await asked.ask()

    clock.advance(seconds=-3600)
    assert asked.due()


async def test_trouble_keeps_the_answer_before() -> None:
    """The next answer ends the trouble."""
    asked, _clock = question("first", HistoryError("it is locked"), "second")

    await asked.ask()
    at = asked.standing.at
    await asked.ask()
    troubled = asked.standing
    await asked.ask()

    assert (troubled.answer, troubled.at, troubled.trouble) == ("first", at, "it is locked")
    assert (asked.standing.answer, asked.standing.trouble) == ("second", None)


async def _in_flight(asked: Question[str], meanwhile: Callable[[], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(asked.ask)
        await anyio.wait_all_tasks_blocked()
        await meanwhile()
        group.cancel_scope.cancel()


async def test_a_cancelled_question_can_be_asked_again() -> None:
    """It does not stay "asking" for ever."""

    async def ask() -> str:
        await anyio.sleep_forever()
        raise AssertionError("no answer ever comes")

    asked = Question(ask)

    async def look() -> None:
        await asked.ask()  # returns at once
        assert asked.standing.asking
        assert not asked.due()

    await _in_flight(asked, look)

    assert not asked.standing.asking


async def test_an_answer_to_what_is_not_asked_any_more() -> None:
    """It is dropped when it comes."""
    arrive = anyio.Event()

    async def ask() -> str:
        await arrive.wait()
        return "late"

    asked = Question(ask)

    async def ask_another() -> None:
        asked.forget()
        arrive.set()
        await anyio.wait_all_tasks_blocked()

    await _in_flight(asked, ask_another)

    assert asked.standing.answer is None
    assert asked.due()


async def test_another_subject() -> None:
    """What was answered about the one before is forgotten, and it is time to ask."""
    asked, _clock = question("first", "second")
    answers = []
    await asked.ask()
    for subject in (None, "another store"):
        asked.about(subject)
        answers.append(asked.standing.answer)
    assert answers == ["first", None]
    assert asked.due()


async def test_every_change_is_a_new_version() -> None:
    asked, _clock = question("yes", HistoryError("no"))
    versions = [asked.version]
    for _ in range(2):
        await asked.ask()
        versions.append(asked.version)
    assert versions == sorted(set(versions))


async def test_a_mistake_of_ours_is_not_hidden() -> None:
    """Only what is known to go wrong becomes a sentence."""
    asked, _clock = question(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await asked.ask()
    assert not asked.standing.asking

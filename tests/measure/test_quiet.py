"""The garbage collector keeps away from streams."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from llmbench.measure import quiet
from llmbench.measure.quiet import QuietCollector


class Watched:
    """A collector on a clock that the test moves, and the number of collections so far."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.collections = 0
        self.collector = QuietCollector()

    def note(self, phase: str, _info: dict[str, int]) -> None:
        self.collections += phase == "stop"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Watch the real garbage collector, and put it back as it was."""
    watched = Watched()
    monkeypatch.setattr(quiet, "monotonic", lambda: watched.now)
    watched.collector.freeze()
    gc.callbacks.append(watched.note)
    yield watched
    gc.callbacks.remove(watched.note)
    watched.collector.release()


def test_freezing_takes_over_and_releasing_hands_back(watched: Watched) -> None:
    """Python's own schedule is off, and what is alive is never looked at again, until the release."""
    assert not gc.isenabled()
    assert gc.get_freeze_count() > 0
    watched.collector.release()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_nothing_is_collected_while_anything_streams(watched: Watched) -> None:
    """One of two streams ends a minute later: the other one is not disturbed."""
    with watched.collector.streaming():
        with watched.collector.streaming():
            watched.now += 60
        assert watched.collections == 0


def test_the_last_stream_to_end_makes_room_for_a_collection(watched: Watched) -> None:
    """Behind it, if the latest collection is more than ten seconds ago."""
    with watched.collector.streaming():
        watched.now += 11
    assert watched.collections == 1
    with watched.collector.streaming():
        watched.now += 9
    assert watched.collections == 1


def test_ten_minutes_without_a_pause_are_enough(watched: Watched) -> None:
    """If something always streams, memory must not grow for ever."""
    with watched.collector.streaming():
        with watched.collector.streaming():
            watched.now += 601
        assert watched.collections == 1


def test_a_stream_that_fails_has_ended_too(watched: Watched) -> None:
    """An exception passes through and the stream no longer counts as running."""
    with pytest.raises(ZeroDivisionError), watched.collector.streaming():
        raise ZeroDivisionError
    with watched.collector.streaming():
        watched.now += 11
    assert watched.collections == 1


def test_without_a_freeze_nothing_is_taken_over() -> None:
    """In a program that never froze, as in a test, Python's own schedule goes on."""
    collector = QuietCollector()
    with collector.streaming():
        assert gc.isenabled()
    collector.release()
    assert gc.isenabled()

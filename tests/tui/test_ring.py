"""The viewer's ring: bounded, in order, and clear about what it lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmbench.bridge.live import Dropped
from llmbench.messages import RunProgress, RunStarted
from llmbench.tui.items import FeedItem, Heard, LinkChange, Unreadable
from llmbench.tui.ring import Ring
from tests.stores.documents import moment


def progress(number: int) -> RunProgress:
    return RunProgress(
        outcome_id="one", provider="openai", model_id="m", visible_chunks=number, text="x", elapsed=float(number)
    )


def started(number: int) -> RunStarted:
    return RunStarted(outcome_id=f"{number}", provider="openai", model_id="m", at=moment(number))


def change(number: int) -> LinkChange:
    return LinkChange(status="lost", at=moment(number), reason=f"reason {number}")


def test_everything_is_taken_in_order_and_once() -> None:
    ring = Ring()
    items: list[FeedItem] = [change(1), started(1), progress(1), Unreadable(why="noise"), progress(2), change(2)]
    for item in items:
        ring.put(item)
    assert ring.take() == items
    assert ring.take() == []


def test_how_streams_fill_is_lost_first_oldest_first() -> None:
    """The five that are too many go, though there are older events."""
    ring = Ring(10)
    for number in range(5):
        ring.put(started(number))
    for number in range(10):
        ring.put(progress(number))
    assert ring.take() == [*map(started, range(5)), *map(progress, range(5, 10)), Dropped(count=5)]


def test_events_are_lost_where_nothing_else_is_left() -> None:
    ring = Ring(10)
    for number in range(25):
        ring.put(started(number))
    assert ring.take() == [*map(started, range(15, 25)), Dropped(count=15)]


def test_how_the_connection_is_outlives_a_flood() -> None:
    """The last change is there, however many events came behind it."""
    ring = Ring(10)
    ring.put(change(1))
    for number in range(1000):
        ring.put(started(number))
    assert ring.take()[0] == change(1)


def test_losses_on_the_way_and_here_are_one_number() -> None:
    ring = Ring(1)
    ring.put(Dropped(count=7))
    ring.put(progress(1))
    ring.put(progress(2))
    assert ring.take() == [progress(2), Dropped(count=8)]


def test_of_what_was_heard_the_last_counts() -> None:
    ring = Ring()
    ring.put(Heard(at=moment(1)))
    ring.put(started(1))
    ring.put(Heard(at=moment(2)))
    assert ring.take() == [Heard(at=moment(2)), started(1)]
    assert ring.take() == []


def test_large_events_are_bounded_by_their_bytes() -> None:
    """Fewer of them are held than of small ones; what goes is counted, and taking them makes room again."""
    ring = Ring(100, 10_000)
    for _ in range(2):
        for number in range(50):
            ring.put(started(number), 1000)
        assert ring.take() == [*map(started, range(40, 50)), Dropped(count=40)]


def test_of_large_events_too_how_streams_fill_goes_first() -> None:
    ring = Ring(100, 10_000)
    ring.put(started(1), 6000)
    ring.put(progress(1), 3000)
    ring.put(started(2), 3000)
    assert ring.take() == [started(1), started(2), Dropped(count=1)]


def test_one_that_is_larger_than_all_there_is_room_for() -> None:
    ring = Ring(100, 10)
    ring.put(started(1), 11)
    ring.put(started(2), 10)
    assert ring.take() == [started(2), Dropped(count=1)]


_ITEMS = st.one_of(st.builds(progress, st.integers(0, 99)), st.builds(started, st.integers(0, 99)))


@given(st.lists(_ITEMS, max_size=60), st.integers(1, 20))
def test_never_more_than_it_holds_and_nothing_lost_uncounted(items: list[FeedItem], capacity: int) -> None:
    """What is taken and what is counted as lost come to what was put, and no event goes while there is progress."""
    ring = Ring(capacity)
    for item in items:
        ring.put(item)
        assert len(ring) <= capacity
    taken = ring.take()
    lost = sum(item.count for item in taken if isinstance(item, Dropped))
    kept = [item for item in taken if not isinstance(item, Dropped)]
    assert len(kept) + lost == len(items)
    events = [item for item in items if isinstance(item, RunStarted)]
    assert [item for item in kept if isinstance(item, RunStarted)] == events[-capacity:]

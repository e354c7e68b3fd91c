"""Token buckets, and whose they are."""

from __future__ import annotations

from llmbench.bridge.limits import Buckets, Places


def test_bucket_fills_with_time() -> None:
    """So many at once are let through, then one for each token that time brings; the wait for it is told."""
    now = 0.0
    buckets = Buckets(rate=2.0, burst=3.0, clock=lambda: now)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now = 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    now = 100.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_are_apart() -> None:
    """What one name uses up is not missing to another."""
    buckets = Buckets(rate=1.0, burst=1.0, clock=lambda: 0.0)
    assert [buckets.take(name) for name in "aab"] == [0, 1.0, 0]


def test_slow_rate_lets_one_through() -> None:
    """A rate below one a second still lets the first through."""
    buckets = Buckets(rate=0.1, burst=0.1, clock=lambda: 0.0)
    assert [buckets.take("a"), buckets.take("a")] == [0, 10.0]


def test_names_are_forgotten() -> None:
    """However many names come, memory has an end: the one not heard of for longest is forgotten."""
    buckets = Buckets(rate=0.001, burst=1.0, clock=lambda: 0.0)
    assert buckets.take("first") == 0
    for number in range(4096):
        buckets.take(str(number))
    assert len(buckets._buckets) == 4096
    assert buckets.take("first") == 0
    assert buckets.take("4095") > 0


def test_places() -> None:
    """A place is taken once, and free again when it is given back."""
    places = Places(1)
    assert [places.take(), places.take()] == [True, False]
    places.free()
    assert places.take()

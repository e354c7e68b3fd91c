"""How often and how much at a time: token buckets, each of a key or an address, and a cap on what is in flight."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

_MOST_BUCKETS = 4096


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class Buckets:
    """A token bucket for each name: ``rate`` tokens a second, ``burst`` of them at most.

    At most 4,096 names are remembered; the one that was longest not heard of is forgotten, and so has a full bucket.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token and return 0; if there is none, take nothing and return in how many seconds there will be."""
        now = self._clock()
        bucket = self._bucket(name, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1.0:
            return (1.0 - bucket.tokens) / self._rate
        bucket.tokens -= 1.0
        return 0.0

    def _bucket(self, name: str, now: float) -> _Bucket:
        if name not in self._buckets:
            self._buckets[name] = _Bucket(self._burst, now)
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        return self._buckets[name]


class Places:
    """So many at a time."""

    def __init__(self, most: int) -> None:
        self._free = most

    def take(self) -> bool:
        """Take a place, if one is free; `free` gives it back."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def free(self) -> None:
        self._free += 1

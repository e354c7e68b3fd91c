"""Measuring without leases, while the store that keeps them is away for longer than a lease lasts.

A store that is down must not stop the measuring, and while nobody can claim, each runner's own share is known: what it
measured last. So it goes on with that, and tells the store of it afterwards. What this costs at worst, if only this
runner lost the store and another took its models over, is models that were measured twice.
"""

from __future__ import annotations

from time import monotonic

from llmbench.messages import Acknowledged, Deferred, NotStored
from llmbench.stores.leases import LeaseKey, Measured


class Alone:
    """Which models are this runner's own, and what it measured without a lease."""

    def __init__(self) -> None:
        self._own: set[LeaseKey] = set()
        self._met_others = False
        self._runs: dict[str, tuple[LeaseKey, float]] = {}
        self._successes: dict[LeaseKey, float] = {}
        self._telling: dict[LeaseKey, float] = {}

    def granted(self, key: LeaseKey, taken_from: str | None) -> None:
        """Take note of a lease; ``taken_from`` is the runner that let it run out before."""
        self._own.add(key)
        self._met_others = self._met_others or taken_from is not None

    def withheld(self, key: LeaseKey) -> None:
        """Take note that another runner has the model."""
        self._own.discard(key)
        self._met_others = True

    def owns(self, key: LeaseKey) -> bool:
        """Say whether the model was this runner's last; all are, as long as it has met no other."""
        return key in self._own or not self._met_others

    def begin(self, outcome_id: str, key: LeaseKey) -> None:
        self._runs[outcome_id] = (key, monotonic())

    def end(self, message: Acknowledged | NotStored | Deferred) -> bool:
        """Take note of what became of a run, if it was one without a lease; say whether the store is to be told."""
        run = self._runs.pop(message.outcome_id, None)
        if run is None or not (isinstance(message, Acknowledged) and message.ok):
            return False
        key, began = run
        self._successes[key] = max(began, self._successes.pop(key, began))
        return True

    def forget(self, outcome_id: str) -> None:
        """Take a run back that was not begun after all."""
        self._runs.pop(outcome_id, None)

    @property
    def has_news(self) -> bool:
        """Whether there are successes that the store does not know of yet."""
        return bool(self._successes)

    def measured(self) -> list[Measured]:
        """Return each model's last success that the store does not know of yet: however long it is away, no more."""
        now = monotonic()
        self._telling = dict(self._successes)
        return [Measured(key=key, ago=now - began) for key, began in self._telling.items()]

    def told(self) -> None:
        """Drop what `measured` returned last, which the store knows of now, but for what was measured again since."""
        for key, began in self._telling.items():
            if self._successes.get(key) == began:
                del self._successes[key]

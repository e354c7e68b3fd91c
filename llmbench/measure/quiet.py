"""Keeps the garbage collector away from streams: its pauses reach 80 to 145 ms on a heap with SDKs in it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

_BETWEEN_IDLE_COLLECTIONS = 10.0
_AT_THE_LATEST = 600.0


class QuietCollector:
    """Runs the collector only while nothing streams; after ten minutes without such a moment, all the same.

    What is alive at `freeze` is never looked at again, so a later collection is short; the rows of streams that it
    does interrupt say so in ``client_lag_max``.
    """

    def __init__(self) -> None:
        self._streaming = 0
        self._collected = monotonic()
        self._frozen = False

    def freeze(self) -> None:
        """Take over from Python's own schedule, once everything that stays has been imported and made.

        Without a collection before it: the little garbage that an import leaves is not worth its fifth of a second.
        """
        gc.freeze()
        gc.disable()
        self._frozen = True
        self._collected = monotonic()

    def release(self) -> None:
        """Hand back to Python's own schedule."""
        if self._frozen:
            self._frozen = False
            gc.unfreeze()
            gc.enable()

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Say that a stream is being measured."""
        self._streaming += 1
        try:
            yield
        finally:
            self._streaming -= 1
            self._collect_if_due()

    def _collect_if_due(self) -> None:
        waited = monotonic() - self._collected
        if self._frozen and waited > (_AT_THE_LATEST if self._streaming else _BETWEEN_IDLE_COLLECTIONS):
            gc.collect()
            self._collected = monotonic()

"""Log lines that strangers or an outage could cause by the thousand: each kind once a minute, the others counted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

_SECONDS = 60.0


class Sparingly:
    """Warns through a logger."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log the text, or count it if another one of its kind was logged within the last minute."""
        now = self._clock()
        if now - self._said.get(kind, -_SECONDS) < _SECONDS:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._said[kind] = now
        unsaid = self._unsaid.pop(kind, 0)
        self._logger.warning("%s%s", text, f" (and {unsaid} more like it before)" if unsaid else "")

"""The circuit breaker and pace of a lane: when may the next run start? Pure; times are monotonic seconds."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from llmbench.messages import BreakerStatus

PROBE_SECONDS = 900.0
"""How long a lane stays closed to all but one probe after its key or its bill was refused."""

_PAUSE_FIRST = 5.0
_PAUSE_LONGEST = 900.0
_MOST_DOUBLINGS = 16
_TROUBLE_BEFORE_PAUSE = 3
_SLOWEST = 16.0
_LASTING = frozenset({"auth", "billing"})
_TROUBLE = frozenset({"network", "transient_provider", "timeout"})
_OURS = frozenset({"local", "internal"})


class Pause(msgspec.Struct, frozen=True):
    """The lane waits ``seconds``. ``lasting``: by itself it will hardly heal, one probe finds out."""

    seconds: float
    reason: str
    lasting: bool

    @property
    def duration(self) -> timedelta:
        return timedelta(seconds=self.seconds)


class Breaker:
    """Fed with every outcome of the lane, it says when the next may start, and how much slower than configured.

    - ``auth``, ``billing``: open for `PROBE_SECONDS`, then one probe; its success closes it.
    - ``rate_limit``: paused for what the provider asks, or 5 s doubling to 15 min; each halves the lane's rate, down
      to a sixteenth, and ten successes double it again.
    - ``network``, ``transient_provider``, ``timeout``: after three in a row, paused like a rate limit without a delay.
    """

    def __init__(self, probe_seconds: float = PROBE_SECONDS) -> None:
        self._probe_seconds = probe_seconds
        self._until = 0.0
        self._open = False
        self._probing = False
        self._pauses = 0
        self._trouble = 0
        self._smooth = 0
        self._epoch = 0
        self.slowdown = 1.0
        """By how much the interval between starts is to be stretched."""

    @property
    def state(self) -> BreakerStatus:
        if not self._open:
            return "closed"
        return "probing" if self._probing else "open"

    def delay(self, now: float) -> float | None:
        """Return the seconds until a run may start, 0 for now; None while a probe is out and decides."""
        if self._open and self._probing:
            return None
        return max(0.0, self._until - now)

    def started(self) -> int:
        """A run starts; if the breaker is open, it is the probe. Returns the epoch that its result belongs to."""
        if self._open:
            self._probing = True
        return self._epoch

    def withdrawn(self) -> None:
        """The run that was to start did not take place."""
        self._probing = False

    def succeeded(self, epoch: int | None = None) -> None:
        """Take a success. One that began before the latest pause says nothing about what the pause is for."""
        if epoch is not None and epoch != self._epoch:
            return
        self._open = self._probing = False
        self._until = 0.0
        self._pauses = self._trouble = 0
        self._smooth += 1
        if self._smooth >= 10 and self.slowdown > 1.0:
            self.slowdown /= 2
            self._smooth = 0

    def failed(
        self, kind: str, retry_after: float | None, advice: str, now: float, epoch: int | None = None
    ) -> Pause | None:
        """Take a failure; return the pause that it causes, if any.

        One that began before the latest pause tells nothing new, but for a longer delay that it may ask for, and a
        refused key.
        """
        if epoch is not None and epoch != self._epoch and (kind not in _LASTING or self._open):
            if kind == "rate_limit" and retry_after is not None:
                self._until = max(self._until, now + min(retry_after, _PAUSE_LONGEST))
            return None
        self._smooth = 0
        if kind in _OURS:
            self._probing = False  # it says nothing of the provider: an open breaker stays open, for another probe
            return None
        if kind in _LASTING:
            self._open = True
            self._probing = False
            return self._pause(self._probe_seconds, advice, now, lasting=True)
        if kind == "rate_limit":
            self._settle()
            self.slowdown = min(_SLOWEST, self.slowdown * 2)
            asked = min(retry_after, _PAUSE_LONGEST) if retry_after is not None else 0.0
            return self._pause(max(asked, self._growing()), advice, now, lasting=False)
        if kind in _TROUBLE:
            self._trouble += 1
            if self._open and self._probing:
                self._probing = False  # the probe learned nothing about the key: probe again after the pause
                return self._pause(self._growing(), advice, now, lasting=False)
            if self._trouble >= _TROUBLE_BEFORE_PAUSE:
                return self._pause(self._growing(), advice, now, lasting=False)
            return None
        self._settle()
        return None

    def _settle(self) -> None:
        """The provider answered with something else than a refusal of the key: the lane as such works."""
        self._open = self._probing = False
        self._trouble = 0

    def _growing(self) -> float:
        self._pauses = min(self._pauses + 1, _MOST_DOUBLINGS)
        return float(min(_PAUSE_LONGEST, _PAUSE_FIRST * 2 ** (self._pauses - 1)))

    def _pause(self, seconds: float, reason: str, now: float, *, lasting: bool) -> Pause:
        self._until = max(self._until, now + seconds)
        self._epoch += 1
        return Pause(seconds, reason, lasting)

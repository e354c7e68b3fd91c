"""Telling how a stream fills, to whoever watches: seldom, and never much at a time."""

from __future__ import annotations

from time import perf_counter

from llmbench.actors.bus import Bus
from llmbench.measure.timer import StreamTimer
from llmbench.messages import PROGRESS_TEXT, Job, RunProgress

_SECONDS = 0.1


class Progress:
    """Of one run: called with each piece of its text, tells the bus ten times a second at most, if anybody watches."""

    def __init__(self, bus: Bus, job: Job) -> None:
        self._bus = bus
        self._job = job
        self._begun = perf_counter()
        self._told = 0.0
        self._text = ""
        self._length = 0

    def __call__(self, timer: StreamTimer, piece: str) -> None:
        if not self._bus.watched:
            return
        self._length += len(piece)
        self._text = (self._text + piece[-PROGRESS_TEXT:])[-PROGRESS_TEXT:]
        now = perf_counter()
        if now - self._told >= _SECONDS:
            self._told = now
            self._tell(len(timer.visible_ns), now - self._begun)

    def _tell(self, chunks: int, elapsed: float) -> None:
        text, cut = self._text, self._length - len(self._text)
        self._text, self._length = "", 0
        model = self._job.model
        self._bus.publish(
            RunProgress(
                outcome_id=self._job.outcome_id,
                provider=model.provider,
                model_id=model.model_id,
                visible_chunks=chunks,
                text=text,
                cut=cut,
                elapsed=elapsed,
            )
        )

"""What a live event told last of each thing, so that whoever comes later learns how things are now."""

from __future__ import annotations

from collections import deque
from itertools import chain
from operator import itemgetter

from llmbench.messages import (
    Commanded,
    EngineFigures,
    LaneFigures,
    LaneState,
    LiveEvent,
    RunFinished,
    RunProgress,
    RunStarted,
    StoreState,
)

_MOST_RUNS = 4096
_ENDED_RUNS = 20
"""Of each lane: so many make out whether it fails or is slow. A lane may rest for hours after them."""

_NOTHING_STREAMS = ("restarting", "down", "stopped")


class Latest:
    """Told of every event as it is published. Pure; what it keeps is bounded by the lanes and the runs in flight."""

    def __init__(self) -> None:
        self._states: dict[str, LaneState] = {}
        self._runs: dict[str, RunStarted] = {}
        self._ended: dict[str, deque[tuple[int, RunFinished]]] = {}
        self._endings = 0
        self._store: StoreState | None = None
        self._engine: EngineFigures | None = None
        self._figures: dict[str, LaneFigures] = {}

    def note(self, event: LiveEvent) -> None:
        """Take note of an event."""
        match event:
            case RunProgress() | Commanded():
                pass
            case RunStarted():
                self._begin(event)
            case RunFinished():
                self._end(event)
            case LaneState():
                self._change(event)
            case StoreState():
                self._store = event
            case LaneFigures():
                self._figures[event.lane] = event
            case EngineFigures():
                self._engine = event

    def events(self, *, figures: bool = True) -> tuple[LiveEvent, ...]:
        """Return events that tell how things are: those of the engine first, then of lanes, then each lane's last runs,
        and runs in flight last, both in their order.

        Without ``figures``, no `EngineFigures` and `LaneFigures`: nobody has had them made for a while.
        """
        engine = (self._engine,) if figures and self._engine is not None else ()
        store = (self._store,) if self._store is not None else ()
        lanes = tuple(self._figures.values()) if figures else ()
        ended = (run for _, run in sorted(chain(*self._ended.values()), key=itemgetter(0)))
        return (*engine, *store, *self._states.values(), *lanes, *ended, *self._runs.values())

    def _begin(self, run: RunStarted) -> None:
        if len(self._runs) >= _MOST_RUNS:
            del self._runs[next(iter(self._runs))]
        self._runs[run.outcome_id] = run

    def _end(self, run: RunFinished) -> None:
        self._runs.pop(run.outcome.id, None)
        self._endings += 1
        self._ended.setdefault(run.provider, deque(maxlen=_ENDED_RUNS)).append((self._endings, run))

    def _change(self, state: LaneState) -> None:
        """A lane that crashed takes its runs with it, without another word of them."""
        self._states[state.lane] = state
        if state.status in _NOTHING_STREAMS:
            self._runs = {name: run for name, run in self._runs.items() if run.provider != state.lane}

"""From what came since the last frame to the next state. Pure, quick, and bounded whatever comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from llmbench.bridge.live import Dropped
from llmbench.messages import (
    Commanded,
    EngineFigures,
    Failure,
    LaneFigures,
    LaneState,
    RunFinished,
    RunProgress,
    RunStarted,
    StoreState,
)
from llmbench.tui import incoming, log_lines
from llmbench.tui.items import FeedItem, Heard, LinkChange, Unreadable, UsualLoaded
from llmbench.tui.pace import Usuals, judged, judged_anew, noted
from llmbench.tui.state import Finished, Lane, Link, LogLine, Run, State
from llmbench.tui.text import continued

RECENT: Final = 60
LOG: Final = 2000
FINISHED: Final = 2000
ERRORS: Final = 500
RUNS: Final = 1000
MODELS: Final = 2000
TEXT: Final = 2000
TICKS: Final = 200
LANES: Final = incoming.MOST_LANES

_NOTHING_STREAMS: Final = ("restarting", "down", "stopped")

T = TypeVar("T")
_with = msgspec.structs.replace


def begin(address: str, now: datetime) -> State:
    """Return the state of a viewer that has heard nothing yet."""
    return State(link=Link(status="connecting", address=address, since=now))


def reduce(state: State, items: Sequence[FeedItem | UsualLoaded], now: datetime) -> State:
    """Return the state after these items, which came by ``now``; the same one if there are none."""
    if not items:
        return state
    draft = _Draft(state, now)
    for item in items:
        _HANDLERS[type(item)](draft, item)
    return draft.finish(set(map(type, items)))


class _Draft:
    """The next state in the making. ``progress`` waits to the end, so that a stream is made anew once a frame."""

    def __init__(self, state: State, now: datetime) -> None:
        self.state = state
        self.now = now
        self.link = state.link
        self.engine = state.engine
        self.store = state.store
        self.store_since = state.store_since
        self.lanes = dict(state.lanes)
        self.actors = dict(state.actors)
        self.runs = dict(state.runs)
        self.errors = dict(state.errors)
        self.usual = state.usual
        self.first = dict(state.first)
        self.progress: dict[str, list[RunProgress]] = {}
        self.finished: list[Finished] = []
        self.log: list[LogLine] = []
        self.lost = 0
        self.unreadable: list[str] = []

    @cached_property
    def over(self) -> set[str]:
        """The ids of runs that have ended: an engine that is asked anew may tell of them again."""
        return {run.outcome_id for run in self.state.finished}

    def say(self, line: LogLine | None) -> None:
        if line is not None:
            self.log.append(line)

    # the connection

    def heard(self, _item: Heard) -> None:
        """That something came is all there is to it, and `finish` notes it."""

    def link_change(self, item: LinkChange) -> None:
        before, live = self.link, item.status == "live"
        lasts = live == (before.status == "live")
        at = incoming.time_of(item.at)
        self.link = _with(
            before,
            status=item.status,
            since=before.since if lasts else at,
            heard=at if live else before.heard,
            reason=None if live else incoming.reason_of(item.reason) or before.reason,
            commands=item.commands,
        )
        self.say(log_lines.of_link(self.link, before, at))
        if live:  # it tells anew what streams, and which actors are not well
            self.runs.clear()
            self.progress.clear()
            self.actors = {name: _with(actor, silent=True) for name, actor in self.actors.items()}

    def dropped(self, item: Dropped) -> None:
        self.lost += incoming.count_of(item.count)

    def bad_frame(self, item: Unreadable) -> None:
        self.unreadable.append(item.why)

    # lanes and the engine

    def lane_state(self, raw: LaneState) -> None:
        event = incoming.lane_state(raw)
        group = self._group(event.lane)
        before = group.get(event.lane)
        if before is None and not self._has_room:
            return
        self.say(log_lines.of_lane(event, before))
        lasts = before is not None and not before.silent and before.status == event.status
        lane = before or Lane(name=event.lane, status=event.status, since=event.at)
        group[event.lane] = _with(
            lane,
            status=event.status,
            since=lane.since if lasts else event.at,
            reason=event.reason,
            until=event.until,
            restarts=event.restarts,
            silent=False,
        )
        if event.status in _NOTHING_STREAMS:
            self._forget_runs(event.lane)

    def _forget_runs(self, lane: str) -> None:
        """A lane that crashed takes its runs with it, without another word of them."""
        for gone in self._runs_of(lane):
            self._forget_run(gone)

    def _runs_of(self, lane: str) -> set[str]:
        """Return the ids of a lane's runs, whether their beginning was told or only how they fill."""
        begun = {outcome_id for outcome_id, run in self.runs.items() if run.provider == lane}
        return begun | {outcome_id for outcome_id, steps in self.progress.items() if steps[-1].provider == lane}

    def _forget_run(self, outcome_id: str) -> None:
        self.runs.pop(outcome_id, None)
        self.progress.pop(outcome_id, None)

    def lane_figures(self, event: LaneFigures) -> None:
        self._change_lane(event.lane, lambda lane: _with(lane, figures=incoming.lane_figures(event)))
        self._forget_unended(event)

    def _forget_unended(self, figures: LaneFigures) -> None:
        """If a lane has fewer runs than are known, the end of some was lost on the way: of those silent for longest."""
        known = self._runs_of(figures.lane)
        surplus = len(known) - max(figures.in_flight, 0)
        if surplus > 0:
            for gone in sorted(known, key=self._last_sign)[:surplus]:
                self._forget_run(gone)

    def _last_sign(self, outcome_id: str) -> datetime:
        """Return when a run last filled, or else when it began."""
        run, steps = self.runs.get(outcome_id), self.progress.get(outcome_id)
        if run is None:
            return self.now
        return run.started_at + timedelta(seconds=incoming.seconds_of(steps[-1].elapsed) if steps else run.elapsed)

    def engine_figures(self, raw: EngineFigures) -> None:
        event = incoming.engine_figures(raw)
        self.say(log_lines.of_engine(event, self.engine))
        names = self.engine.lanes if self.engine is not None else None
        self.engine = event
        if event.lanes != names:
            self._sort_out(event)

    def _sort_out(self, engine: EngineFigures) -> None:
        """Tell lanes from the engine's other actors. A lane that said nothing yet starts; one that is gone is gone."""
        known = self.actors | self.lanes
        self.lanes = {
            name: known.get(name) or Lane(name=name, status="starting", since=engine.started_at, silent=True)
            for name in engine.lanes
        }
        self.actors = {
            name: actor
            for name, actor in known.items()
            if name not in self.lanes and actor.figures is None and not actor.recent
        }

    def store_state(self, raw: StoreState) -> None:
        event = incoming.store_state(raw)
        self.say(log_lines.of_store(event, self.store))
        if self.store is None or self.store.status != event.status:
            self.store_since = event.at
        self.store = event

    def commanded(self, event: Commanded) -> None:
        self.say(log_lines.of_command(incoming.commanded(event)))

    # runs

    def run_started(self, event: RunStarted) -> None:
        if event.outcome_id not in self.over and event.outcome_id not in self.runs:
            self.runs[event.outcome_id] = Run(
                outcome_id=event.outcome_id,
                provider=event.provider,
                model_id=event.model_id,
                started_at=incoming.time_of(event.at),
            )

    def run_progress(self, event: RunProgress) -> None:
        self.progress.setdefault(event.outcome_id, []).append(event)

    def run_finished(self, event: RunFinished) -> None:
        run = incoming.finished(event)
        self._forget_run(run.outcome_id)
        if run.outcome_id in self.over:
            return
        self.over.add(run.outcome_id)
        self.finished.append(run)
        self.say(log_lines.of_run(event, run))
        if isinstance(event.outcome, Failure):
            self._count_error(event, event.outcome)
        self._change_lane(run.provider, lambda lane: self._with_run(lane, run))

    def _count_error(self, event: RunFinished, failure: Failure) -> None:
        group = incoming.error_group(event, failure, self.errors.pop(failure.fingerprint, None))
        self.errors[failure.fingerprint] = group

    def _with_run(self, lane: Lane, run: Finished) -> Lane:
        recent = (*lane.recent[-RECENT + 1 :], run)
        if not run.ok:
            return _with(
                lane,
                failed=lane.failed + 1,
                recent=recent,
                failing_since=lane.failing_since or run.at,
                failures_in_a_row=lane.failures_in_a_row + 1,
            )
        lane = _with(lane, ok=lane.ok + 1, recent=recent, failing_since=None, failures_in_a_row=0)
        lane = judged(lane, run, Usuals(self.usual, self.first).of(run))
        self._note_first(run)
        return lane

    def _note_first(self, run: Finished) -> None:
        key = (run.provider, run.model_id)
        first = noted(self.first.get(key), run)
        if first is not None and (key in self.first or len(self.first) < MODELS):
            self.first[key] = first

    def usual_loaded(self, item: UsualLoaded) -> None:
        self.usual = dict(item.usual)
        usuals = Usuals(self.usual, self.first)
        self.lanes = {name: judged_anew(lane, usuals) for name, lane in self.lanes.items()}

    # common

    @property
    def _has_room(self) -> bool:
        return len(self.lanes) + len(self.actors) < LANES

    def _group(self, name: str) -> dict[str, Lane]:
        """Return where an actor belongs: to the lanes, too, as long as the engine has not told which these are."""
        known = self.engine is None or name in self.lanes or name in self.engine.lanes
        return self.lanes if known and name not in self.actors else self.actors

    def _change_lane(self, name: str, change: Callable[[Lane], Lane]) -> None:
        group = self.actors if name in self.actors else self.lanes
        lane = group.get(name)
        if lane is None and not self._has_room:
            return
        group[name] = change(lane or Lane(name=name, status="starting", since=self.now, silent=True))

    # the end

    def finish(self, kinds: Set[type]) -> State:
        """Return the next state, of which ``kinds`` are the types of the items that were taken."""
        for outcome_id, steps in self.progress.items():
            if outcome_id not in self.over:
                self.runs[outcome_id] = self._filled(self.runs.get(outcome_id), steps)
        return State(
            link=self.link if kinds.isdisjoint(_FROM_ENGINE) else _with(self.link, heard=self.now),
            engine=self.engine,
            store=self.store,
            store_since=self.store_since,
            lanes=self.lanes,
            actors=self.actors,
            runs=_newest(self.runs, RUNS),
            errors=_newest(self.errors, ERRORS),
            finished=_latest(self.state.finished, self.finished, FINISHED),
            log=_latest(self.state.log, [*self.log, *self._losses()], LOG),
            usual=self.usual,
            first=self.first,
            dropped=self.state.dropped + self.lost,
            unreadable=self.state.unreadable + len(self.unreadable),
            version=self.state.version + (kinds != {Heard}),
        )

    def _filled(self, run: Run | None, steps: Sequence[RunProgress]) -> Run:
        last = steps[-1]
        elapsed = incoming.seconds_of(last.elapsed)
        run = run or Run(
            outcome_id=last.outcome_id,
            provider=last.provider,
            model_id=last.model_id,
            started_at=self.now - timedelta(seconds=elapsed),
        )
        new = [(incoming.seconds_of(step.elapsed), incoming.count_of(step.visible_chunks)) for step in steps[-TICKS:]]
        return _with(
            run,
            chunks=incoming.count_of(last.visible_chunks),
            elapsed=elapsed,
            text=continued(run.text, "".join(map(incoming.streamed_of, steps)), TEXT),
            ticks=(*run.ticks, *new)[-TICKS:],
        )

    def _losses(self) -> Iterator[LogLine]:
        if self.lost:
            yield log_lines.of_losses(self.lost, self.now)
        if self.unreadable:
            yield log_lines.of_unreadable(len(self.unreadable), self.unreadable[-1], self.now)


def _newest(found: dict[str, T], most: int) -> dict[str, T]:
    """Return the last ones of a dict, in its order."""
    return found if len(found) <= most else dict(islice(found.items(), len(found) - most, None))


def _latest(before: tuple[T, ...], new: list[T], most: int) -> tuple[T, ...]:
    return (*before, *new)[-most:] if new else before


_HANDLERS: Final[Mapping[type, Callable[[_Draft, Any], None]]] = {
    Heard: _Draft.heard,
    LinkChange: _Draft.link_change,
    Dropped: _Draft.dropped,
    Unreadable: _Draft.bad_frame,
    UsualLoaded: _Draft.usual_loaded,
    LaneState: _Draft.lane_state,
    LaneFigures: _Draft.lane_figures,
    EngineFigures: _Draft.engine_figures,
    StoreState: _Draft.store_state,
    Commanded: _Draft.commanded,
    RunStarted: _Draft.run_started,
    RunProgress: _Draft.run_progress,
    RunFinished: _Draft.run_finished,
}
_FROM_ENGINE: Final = frozenset(_HANDLERS) - {LinkChange, UsualLoaded}

"""How things are, in a glyph and a word: lanes, the link to the engine, the store, the spool."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from llmbench.tui.cells import plural
from llmbench.tui.numbers import age, times
from llmbench.tui.pace import is_slow, pace
from llmbench.tui.state import Finished, Lane, State
from llmbench.tui.table import Tone
from llmbench.tui.text import cut

STALE: Final = timedelta(seconds=20)
"""An engine says something every 15 seconds at the latest."""

_ROW_OF_FAILURES: Final = 2
_WINDOW: Final = 20
_FAILURES_IN_WINDOW: Final = 3
_MESSAGE_CELLS: Final = 200
"""As much of a provider's words as the engine has in its reasons, so that advice is not lost behind them."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``rank`` 0 is the worst; from `WELL` on it is no trouble. ``reason`` is a sentence, ``until`` when it may end."""

    rank: int
    glyph: str
    word: str
    tone: Tone
    since: datetime | None = None
    reason: str | None = None
    until: datetime | None = None

    @property
    def text(self) -> str:
        return f"{self.glyph} {self.word}"

    @property
    def is_trouble(self) -> bool:
        return self.rank < WELL


WELL: Final = 5
_DOWN: Final = Verdict(rank=0, glyph="✖", word="down", tone="bad")
_BLOCKED: Final = Verdict(rank=1, glyph="▲", word="blocked", tone="warn")
_RESTARTING: Final = Verdict(rank=2, glyph="▲", word="restarting", tone="warn")
_FAILING: Final = Verdict(rank=3, glyph="▲", word="failing", tone="warn")
_SLOW: Final = Verdict(rank=4, glyph="▲", word="slow", tone="warn")
_STARTING: Final = Verdict(rank=WELL, glyph="◌", word="starting", tone="muted")
_PAUSED: Final = Verdict(rank=6, glyph="‖", word="paused", tone="accent")
_STOPPED: Final = Verdict(rank=7, glyph="■", word="stopped", tone="muted")
_NO_RUNS: Final = Verdict(rank=8, glyph="—", word="no runs yet", tone="muted")
_OK: Final = Verdict(rank=9, glyph="●", word="ok", tone="good")

_BY_STATUS: Final = {
    "down": _DOWN,
    "blocked": _BLOCKED,
    "restarting": _RESTARTING,
    "starting": _STARTING,
    "stopped": _STOPPED,
}


def verdict(state: State, lane: Lane) -> Verdict:
    """Return how a lane is: what the engine says of it if that is bad, else what its runs say."""
    told = _BY_STATUS.get(lane.status)
    if told is not None:
        return msgspec.structs.replace(told, since=lane.since, reason=lane.reason, until=lane.until)
    if lane.paused_since is not None:
        return msgspec.structs.replace(_PAUSED, since=lane.paused_since, reason="by a person")
    fine = msgspec.structs.replace(_OK if lane.recent else _NO_RUNS, since=lane.since)
    return _failing(lane) or _slow(state, lane) or fine


def _failing(lane: Lane) -> Verdict | None:
    failures = [run for run in lane.recent[-_WINDOW:] if not run.ok]
    runs = min(len(lane.recent), _WINDOW)
    if lane.failures_in_a_row >= _ROW_OF_FAILURES or (failures and len(failures) == runs):
        last = _lately(failures[-1])
        said = f"{lane.failures_in_a_row} runs in a row failed, {last}" if runs > 1 else f"its only run failed, {last}"
        return msgspec.structs.replace(_FAILING, since=lane.failing_since, reason=said)
    if len(failures) < _FAILURES_IN_WINDOW or len(failures) * 4 < runs:
        return None
    said = f"{len(failures)} of its last {runs} runs failed, {_lately(failures[-1])}"
    return msgspec.structs.replace(_FAILING, reason=said)


def _lately(run: Finished) -> str:
    said = f"lately {run.error_kind}: {cut(run.message or '', _MESSAGE_CELLS)}"
    return f"{said}; {run.advice}" if run.advice else said


def _slow(state: State, lane: Lane) -> Verdict | None:
    if not is_slow(lane):
        return None
    now = pace(state, lane)
    said = f"TTFT {times(now.first_token_ratio)} × its usual, speed {times(now.speed_ratio)} × its usual"
    reason = f"{said} (last {plural(now.n, 'run')}; usual of {plural(now.usual_n or 0, 'run')})"
    return msgspec.structs.replace(_SLOW, since=lane.slow_since, reason=reason)


def actor(state: State, lane: Lane) -> Verdict:
    """Return how an actor of the engine is that is no lane: it makes no runs, and says nothing while it is well."""
    if lane.silent:
        return _OK
    told = _BY_STATUS.get(lane.status, _OK)
    return msgspec.structs.replace(told, since=lane.since, reason=lane.reason, until=lane.until)


def is_stale(state: State, now: datetime) -> bool:
    """Say whether what is shown is not how things are now."""
    if state.link.status != "live":
        return True
    return state.link.heard is not None and now - state.link.heard > STALE


def link(state: State, now: datetime) -> Verdict:
    """Return how the viewer gets on with its engine."""
    link = state.link
    if link.status == "live":
        if not is_stale(state, now):
            return Verdict(rank=9, glyph="●", word="live", tone="good", since=link.since)
        return Verdict(rank=0, glyph="▲", word="silent", tone="warn", since=link.heard, reason="it says nothing")
    if link.heard is None and (link.reason is None or link.status == "connecting"):
        return Verdict(rank=WELL, glyph="◌", word="connecting", tone="muted", since=link.since, reason=link.reason)
    return Verdict(rank=0, glyph="✖", word="not reachable", tone="bad", since=link.since, reason=link.reason)


def last_heard(state: State, now: datetime) -> str | None:
    """Return how old what is shown is, in words; None if it is how things are now, or if nothing was ever heard."""
    heard = state.link.heard
    return f"last heard {age(heard, now)} ago" if heard is not None and is_stale(state, now) else None


def was(known: Verdict) -> Verdict:
    """Return a verdict as that of an engine that is not heard now."""
    return msgspec.structs.replace(known, glyph="○", word=f"was {known.word}", tone="muted")


def store(state: State) -> Verdict:
    """Return how the store is."""
    told = state.store
    if told is None:
        return Verdict(rank=WELL, glyph="—", word="not known", tone="muted")
    if told.status == "ok":
        return Verdict(rank=9, glyph="●", word="ok", tone="good", since=state.store_since)
    known = _DOWN if told.status == "blocked" else _FAILING
    return msgspec.structs.replace(known, word=told.status, since=state.store_since, reason=told.reason)


def spool(state: State) -> Verdict:
    """Return how the spool is; an outcome in quarantine or a damage is trouble until a person has looked at it."""
    figures = state.engine.spool if state.engine is not None else None
    if figures is None:
        return Verdict(rank=WELL, glyph="—", word="not known", tone="muted")
    said = [
        plural(figures.quarantined, "outcome is quarantined", "outcomes are quarantined")
        if figures.quarantined
        else "",
        plural(figures.damages, "damage") + " not acknowledged" if figures.damages else "",
    ]
    reason = "; ".join(filter(None, said)) or None
    if figures.level == "ok":
        known = _OK if reason is None else Verdict(rank=3, glyph="▲", word="look at it", tone="warn")
    else:
        known = _DOWN if figures.level == "paused" else _FAILING
        known = msgspec.structs.replace(known, word=figures.level)
    return msgspec.structs.replace(known, reason=reason)

"""The engine behind the lanes: its store, its spool, what its stamps are worth, and what of its events came here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from llmbench.tui import cells, numbers, verdicts
from llmbench.tui.cells import plural
from llmbench.tui.state import Finished, State
from llmbench.tui.table import Cell, Column, Row, Table
from llmbench.tui.verdicts import Verdict

_COLUMNS: Final = (
    Column(name="part", width=10),
    Column(name="state", width=16),
    Column(name="since", width=6, drop=1),
    Column(name="what it says", width=0),
)
_LATELY: Final = 200
"""Runs of which the share with coarse stamps is told."""

_LAGGING: Final = 0.05
_MOSTLY: Final = 90
"""If fewer per cent of the runs are fine, a person is to know."""

_FINE: Final = Verdict(rank=9, glyph="●", word="fine", tone="good")
_COARSE: Final = Verdict(rank=4, glyph="▲", word="coarse", tone="warn")
_UNKNOWN: Final = Verdict(rank=verdicts.WELL, glyph="—", word="not known", tone="muted")


def engine(state: State, now: datetime) -> Table:
    """Return a row for each part of the engine; actors that are no lane only if something is wrong with them."""
    rows = (
        _heard(state, "store", verdicts.store(state), _store(state), now),
        _heard(state, "spool", verdicts.spool(state), _spool(state, now), now),
        _row("engine", _UNKNOWN if verdicts.is_stale(state, now) else _held(state), _engine(state, now), now),
        _row("stamps", _clock(state), _stamps(state), now),
        _row("events", verdicts.link(state, now), _events(state, now), now),
        *_actors(state, now),
    )
    table = Table(columns=_COLUMNS, rows=rows, empty="")
    return cells.dimmed(table) if verdicts.is_stale(state, now) else table


def _heard(state: State, part: str, verdict: Verdict, said: str, now: datetime) -> Row:
    """Return the row of what the engine tells of; while it is away, as what it told last."""
    old = verdicts.last_heard(state, now)
    known = verdict if old is None or verdict.word == _UNKNOWN.word else verdicts.was(verdict)
    return _row(part, known, _joined(old, said), now)


def _row(part: str, verdict: Verdict, said: str, now: datetime) -> Row:
    tone = verdict.tone if verdict.is_trouble else "plain"
    return Row(
        part,
        (
            cells.name(part, _COLUMNS[0].width),
            Cell(verdict.text, verdict.tone, sort=float(verdict.rank)),
            Cell(numbers.short_time(verdict.since, now)),
            cells.words(said, tone),
        ),
    )


def _store(state: State) -> str:
    told = state.store
    name = state.engine.store if state.engine is not None else None
    waiting = f"{plural(told.waiting, 'outcome waits', 'outcomes wait')} for it" if told is not None else None
    return _joined(told.reason if told is not None else None, name, waiting)


def _spool(state: State, now: datetime) -> str:
    figures = state.engine.spool if state.engine is not None else None
    if figures is None:
        return ""
    oldest = f", the oldest for {numbers.age(figures.oldest, now)}" if figures.oldest is not None else ""
    return _joined(
        verdicts.spool(state).reason,
        f"{plural(figures.waiting, 'outcome waits', 'outcomes wait')}{oldest}",
        f"{numbers.size(figures.bytes)} of {numbers.size(figures.cap_bytes)}",
    )


def _held(state: State) -> Verdict:
    engine = state.engine
    if engine is None:
        return _UNKNOWN
    if engine.hold is not None:
        return Verdict(rank=verdicts.WELL, glyph="‖", word="starts nothing", tone="accent", since=engine.started_at)
    return Verdict(rank=9, glyph="●", word="runs", tone="good", since=engine.started_at)


def _engine(state: State, now: datetime) -> str:
    engine = state.engine
    if engine is None:
        return ""
    up = f"up for {numbers.age(engine.started_at, now)}"
    return _joined(engine.hold, f"llmbench {engine.version}", engine.runner_id, up)


def _clock(state: State) -> Verdict:
    engine = state.engine
    if engine is None:
        return _UNKNOWN
    if engine.loop_lag >= _LAGGING:
        return Verdict(rank=4, glyph="▲", word=f"{engine.clock}, late", tone="warn")
    if engine.clock == "user":
        return Verdict(rank=4, glyph="▲", word="user", tone="warn")
    runs = _judged_by(state)
    if not runs:
        return Verdict(rank=verdicts.WELL, glyph="—", word="no runs yet", tone="muted")
    fine = sum(not run.coarse for run in runs) * 100 // len(runs)  # 199 of 200 are not 100 %
    return msgspec.structs.replace(_FINE if fine >= _MOSTLY else _COARSE, word=f"{fine} % fine")


def _judged_by(state: State) -> list[Finished]:
    return [run for run in state.finished[-_LATELY:] if run.ok]


def _stamps(state: State) -> str:
    lag = f"loop away for {numbers.seconds(state.engine.loop_lag)} at worst" if state.engine is not None else None
    runs = _judged_by(state)
    if not runs:
        return _joined(lag, "no run yet to judge stamps by")
    coarse = sum(run.coarse for run in runs)
    by_kernel = sum(run.clock == "kernel" for run in runs) / len(runs)
    return _joined(
        f"{coarse} of {plural(len(runs), 'run')} coarse",
        f"{numbers.share(by_kernel)} by the kernel's clock",
        lag,
        "gaps of coarse ones may be over 1 ms off, and count in no ranking" if coarse else None,
    )


def _events(state: State, now: datetime) -> str:
    link = state.link
    lost = f"{plural(state.dropped, 'event')} dropped, {state.unreadable} unreadable"
    heard = f"last heard {numbers.age(link.heard, now)} ago" if link.heard is not None else None
    can = "" if link.commands or link.status != "live" else "read-only"
    return _joined(link.reason, heard, lost, can, link.address)


def _actors(state: State, now: datetime) -> Iterator[Row]:
    for name, actor in sorted(state.actors.items()):
        verdict = verdicts.actor(state, actor)
        if verdict.is_trouble:
            yield _row(name, verdict, verdict.reason or "", now)


def _joined(*parts: str | None) -> str:
    return "; ".join(filter(None, parts))

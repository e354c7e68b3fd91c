"""What is wrong, in words: which, since when, why, and when it is looked at again. No filter hides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from llmbench.tui import verdicts
from llmbench.tui.cells import NAME_LIMIT
from llmbench.tui.numbers import age, ahead, seconds, time_of_day
from llmbench.tui.state import State
from llmbench.tui.table import Cell
from llmbench.tui.text import cut, safe, shorten
from llmbench.tui.verdicts import Verdict

_REASON_CELLS: Final = 400
_NAMES_CELLS: Final = 120
_LONGEST_LAG: Final = 0.05
_MANY: Final = 3

Trouble = tuple[str, Verdict]


def banner(state: State, now: datetime) -> tuple[Cell, ...]:
    """Return a line for each trouble, the worst first; none if all is well. ``full`` is what matters most of it."""
    link = verdicts.link(state, now)
    return (
        *([_lost(state, link, now)] if link.is_trouble else []),
        *_parts(state, now),
        *_lanes(state, now),
        *_notes(state, now),
    )


def _lost(state: State, link: Verdict, now: datetime) -> Cell:
    line = _line("engine", link, now)
    old = f"; what is shown is {age(state.link.heard, now)} old" if state.link.heard else ""
    return Cell(f"{line.text}{old}", "bad")


def _parts(state: State, now: datetime) -> Iterator[Cell]:
    found = [("store", verdicts.store(state)), ("spool", verdicts.spool(state))]
    found += [(name, verdicts.actor(state, actor)) for name, actor in state.actors.items()]
    for name, verdict in sorted(found, key=_worst_first):
        if verdict.is_trouble:
            yield _line(name, verdict, now)


def _lanes(state: State, now: datetime) -> Iterator[Cell]:
    judged = [(name, verdicts.verdict(state, lane)) for name, lane in state.lanes.items()]
    troubled = sorted((found for found in judged if found[1].is_trouble), key=_worst_first)
    groups: dict[tuple[int, str | None], list[Trouble]] = {}
    for found in troubled:
        groups.setdefault((found[1].rank, found[1].reason), []).append(found)
    for same in groups.values():
        yield from _together(same, now)


def _together(same: list[Trouble], now: datetime) -> Iterator[Cell]:
    """Yield a line for each lane, or one for all if many have the same trouble."""
    if len(same) < _MANY:
        yield from (_line(name, verdict, now) for name, verdict in same)
        return
    names = cut(", ".join(safe(name, NAME_LIMIT) for name, _ in same), _NAMES_CELLS)
    yield _line(f"{len(same)} providers ({names})", same[0][1], now)


def _worst_first(found: Trouble) -> tuple[int, float, str]:
    name, verdict = found
    return verdict.rank, verdict.since.timestamp() if verdict.since is not None else 0.0, name


def _line(name: str, verdict: Verdict, now: datetime) -> Cell:
    since = f" {_since(verdict.since, now)}" if verdict.since else ""
    reason = f": {shorten(verdict.reason, _REASON_CELLS)}" if verdict.reason else ""
    again = f"; looked at again in {ahead(verdict.until, now)}" if verdict.until else ""
    whole = f"{verdict.glyph} {safe(name, NAME_LIMIT)} {verdict.word}{since}"
    return Cell(f"{whole}{reason}{again}", verdict.tone, full=f"{whole}: {verdict.reason}" if verdict.reason else None)


def _notes(state: State, now: datetime) -> Iterator[Cell]:
    """Yield what is no failure, and changes what is measured."""
    engine = state.engine
    if engine is not None and engine.loop_lag >= _LONGEST_LAG:
        yield Cell(f"▲ the engine's loop was away for {seconds(engine.loop_lag)}: stamps may be late", "warn")
    if engine is not None and engine.hold is not None:
        yield Cell(f"‖ no new run is started: {cut(engine.hold, _REASON_CELLS)}", "accent")
    paused = dict(_paused(state))
    if paused:
        yield Cell(f"‖ paused by a person: {_listed(paused, now)}", "accent")


def _paused(state: State) -> Iterator[tuple[str, datetime]]:
    for name, lane in state.lanes.items():
        if lane.paused_since is not None:
            yield safe(name, NAME_LIMIT), lane.paused_since


def _listed(paused: Mapping[str, datetime], now: datetime) -> str:
    """Return each lane with when that began; of many only the first beginning."""
    if len(paused) < _MANY:
        return ", ".join(f"{name} {_since(at, now)}" for name, at in paused.items())
    names = cut(", ".join(paused), _NAMES_CELLS)
    return f"{len(paused)} providers ({names}), the first {_since(min(paused.values()), now)}"


def _since(at: datetime, now: datetime) -> str:
    return f"since {time_of_day(at, now)} ({age(at, now)})"

"""What is recorded and not stored yet, how full the spool is, and what the store would not take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from llmbench.messages import SpoolFigures
from llmbench.tui.answers import Asked, Quarantined, SpoolAnswer
from llmbench.tui.cells import nothing_matches, number, plural, words
from llmbench.tui.numbers import UNKNOWN, age, count, share, size, time_of_day
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Column, Row, Table, Tone
from llmbench.tui.text import safe
from llmbench.tui.verdicts import last_heard
from llmbench.tui.views.answered import matches, nothing

Fact = tuple[str, Cell]
"""What a line is about, and what it says."""

_COLUMNS: Final = (
    Column(name="Recorded", width=11, right=True),
    Column(name="Model", width=28, drop=2),
    Column(name="Why", width=14),
    Column(name="Tries", width=5, right=True, drop=3),
    Column(name="The store's words", width=0),
)
_LEVELS: Final[dict[str, tuple[str, Tone]]] = {
    "ok": ("● room enough", "good"),
    "warning": ("▲ nearly full: at 80 %", "warn"),
    "paused": ("✖ full: nothing new is started", "bad"),
}
_STORE: Final[dict[str, tuple[str, Tone]]] = {
    "ok": ("● takes outcomes", "good"),
    "failing": ("▲ does not take outcomes now", "warn"),
    "blocked": ("✖ takes nothing until a person mends it", "bad"),
}
_STATES: Final = ("Store", "Spool")
"""The lines that begin with a glyph."""

_GLYPHS: Final = "●▲✖ "
_BAR: Final = 20
_CONFLICT: Final = (
    "An outcome with the same id was recorded before it and is kept; this one is never sent. "
    "Export it with llmbench spool export, and report it."
)
_TODO: Final = {
    "rejected": "Mend what the store refused, then retry: it is sent again.",
    "undecodable": "Its bytes were changed, or another version wrote them: export it with llmbench spool export; "
    "retry after an upgrade.",
}
"""By the reason of the quarantine (docs/operations.md, «Spool»)."""


def facts(state: State, asked: Asked[SpoolAnswer], now: datetime) -> list[Fact]:
    """Return how the store and the spool are, or were when the engine was last heard, a line each."""
    lines = [("Store", _store(state, now)), *_where(state), *_spool(state, asked, now)]
    old = last_heard(state, now)
    return lines if old is None else [(name, _as_told(name, cell, old)) for name, cell in lines]


def _as_told(name: str, cell: Cell, old: str) -> Cell:
    """Return a line that is old: the state of a thing with how old it is, what else is told of it in muted tones."""
    if name not in _STATES or cell.text.startswith(UNKNOWN):
        return Cell(cell.text, "muted")
    return Cell(f"○ {old}: {cell.text.lstrip(_GLYPHS)}", "muted")


def _store(state: State, now: datetime) -> Cell:
    store = state.store
    if store is None:
        return Cell(f"{UNKNOWN} the engine has not told yet", "muted")
    words, tone = _STORE[store.status]
    since = "" if state.store_since is None else f" since {time_of_day(state.store_since, now)}"
    reason = "" if store.reason is None else f": {store.reason}"
    return Cell(safe(f"{words}{since}{reason}"), tone)


def _where(state: State) -> Iterator[Fact]:
    if state.engine is not None:
        yield "It is", Cell(safe(state.engine.store))


def _spool(state: State, asked: Asked[SpoolAnswer], now: datetime) -> Iterator[Fact]:
    figures = _figures(state, asked)
    if figures is None:
        yield "Spool", Cell(f"{UNKNOWN} the engine has not told yet", "muted")
        return
    words, tone = _LEVELS.get(figures.level, (safe(figures.level), "warn"))
    yield "Spool", Cell(words, tone)
    yield "Taken", Cell(_taken(figures), tone if tone != "good" else "plain")
    yield "Waiting", _waiting(figures, now, old=last_heard(state, now) is not None)
    quarantined = f"{figures.quarantined} that the store would not take" if figures.quarantined else "empty"
    yield "Quarantine", Cell(quarantined, "warn" if figures.quarantined else "plain")
    if asked.answer is not None:
        yield "Delivered", Cell(f"{count(asked.answer.counts.delivered)}, kept for a while")
        for damage in asked.answer.damages:
            yield "Damage", Cell(f"✖ {safe(damage)}; once you know, llmbench spool acknowledge", "bad")
    elif figures.damages:
        yield "Damage", Cell(f"✖ {figures.damages} found: llmbench spool status tells more", "bad")


def _figures(state: State, asked: Asked[SpoolAnswer]) -> SpoolFigures | None:
    """Return the newest figures: the engine's come once a second, an answer's only now and then."""
    if state.engine is not None and state.engine.spool is not None:
        return state.engine.spool
    if asked.answer is None:
        return None
    counts = asked.answer.counts
    return SpoolFigures(
        level=counts.level,
        waiting=counts.waiting,
        quarantined=sum(counts.quarantined.values()),
        damages=counts.damages,
        bytes=counts.used_bytes,
        cap_bytes=counts.cap_bytes,
        oldest=counts.oldest,
    )


def _taken(figures: SpoolFigures) -> str:
    part = figures.bytes / figures.cap_bytes if figures.cap_bytes else 0.0
    full = round(min(max(part, 0.0), 1.0) * _BAR)
    return f"[{'#' * full}{'·' * (_BAR - full)}] {size(figures.bytes)} of {size(figures.cap_bytes)}, {share(part)}"


def _waiting(figures: SpoolFigures, now: datetime, *, old: bool) -> Cell:
    if not figures.waiting:
        return Cell("0" if old else "0: all that is recorded is stored")
    oldest = "" if figures.oldest is None else f", the oldest recorded {age(figures.oldest, now)} ago"
    return Cell(f"{count(figures.waiting)}{oldest}", "warn" if oldest else "plain")


def quarantine(state: State, asked: Asked[SpoolAnswer], now: datetime, text_filter: str = "") -> Table:
    """Return the outcomes in quarantine, in the order in which they were recorded. The key of a row is the id."""
    rows = asked.answer.quarantine if asked.answer is not None else ()
    found = [row for row in rows if matches(text_filter, row.model, row.reason, row.error, row.id)]
    return Table(
        columns=_COLUMNS,
        rows=tuple(Row(row.id, tuple(_cells(row, now))) for row in found),
        empty=_empty(asked, text_filter, there=bool(rows)),
        hidden=_left_out(asked, len(rows), len(rows) - len(found)),
    )


def row_of(asked: Asked[SpoolAnswer], key: str | None) -> Quarantined | None:
    """Return the outcome in quarantine with an id, None if it is there no more."""
    rows = asked.answer.quarantine if asked.answer is not None else ()
    return next((row for row in rows if row.id == key), None)


def detail(row: Quarantined, now: datetime) -> list[Cell]:
    """Return all that is known of one outcome in quarantine, a line each, of any length: what to do, and why."""
    todo = _CONFLICT if row.conflicting else _TODO.get(row.reason or "", _TODO["rejected"])
    recorded = f"recorded {time_of_day(row.recorded_at, now)} ({age(row.recorded_at, now)} ago)"
    return [
        Cell(safe(f"✖ {row.reason or UNKNOWN}"), "bad"),
        Cell(safe(row.model or UNKNOWN), "accent"),
        Cell(f"{recorded}, {plural(row.tries, 'try', 'tries')}"),
        Cell(safe(f"id {row.id}"), "muted"),
        Cell(""),
        Cell("What to do", "muted"),
        Cell(todo, "good"),
        Cell(""),
        Cell("What the store said, as it came", "muted"),
        Cell(safe(row.error or UNKNOWN)),
    ]


def _cells(row: Quarantined, now: datetime) -> Iterator[Cell]:
    yield Cell(f"{age(row.recorded_at, now)}", sort=row.recorded_at.timestamp())
    yield Cell(safe(row.model or UNKNOWN), full=safe(row.id))
    yield Cell(safe(f"✖ {row.reason or UNKNOWN}"), "bad" if row.conflicting else "warn")
    yield number(count(row.tries), row.tries)
    yield words(row.error or UNKNOWN)


def _empty(asked: Asked[SpoolAnswer], text_filter: str, *, there: bool) -> str:
    if there:
        return nothing_matches("outcome", text_filter)
    if asked.answer is None:
        return nothing(asked, "quarantine", "spool")
    return "the quarantine is empty: there is no outcome that the store would not take"


def _left_out(asked: Asked[SpoolAnswer], shown: int, filtered: int) -> str | None:
    if filtered:
        return f"{plural(filtered, 'outcome')} hidden by the filter"
    there = sum(asked.answer.counts.quarantined.values()) if asked.answer is not None else 0
    return f"the first {shown} of {there} are shown" if there > shown else None

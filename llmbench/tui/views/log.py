"""The log: what happened, in the words of the engine's own log, the newest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Final, Literal

from llmbench.tui import cells, numbers
from llmbench.tui.cells import plural
from llmbench.tui.state import LogLine, State
from llmbench.tui.table import Cell, Column, Row, Table, Tone
from llmbench.tui.views.overview import waiting

Level = Literal["info", "warning", "error"]

_SOURCE: Final = 13
_RANKS: Final[dict[Level, int]] = {"info": 0, "warning": 1, "error": 2}
_TONES: Final[dict[Level, Tone]] = {"info": "plain", "warning": "warn", "error": "bad"}
_WORDS: Final[dict[Level, str]] = {"info": "● info", "warning": "▲ warning", "error": "✖ error"}
_NONE: Final[dict[Level, str]] = {"info": "no line", "warning": "no warning and no error", "error": "no error"}
_COLUMNS: Final = (
    Column(name="time", width=8),
    Column(name="level", width=9, drop=1),
    Column(name="source", width=_SOURCE, drop=2),
    Column(name="what happened", width=0),
)


def log(state: State, now: datetime, text_filter: str = "", level: Level | None = None) -> Table:
    """Return the lines of the log by their time, of a ``level`` or a worse one if it is given.

    They are kept in the order in which they came: a clock that is set back must not push out what happens from then on.
    What an engine is asked anew it tells thing by thing, in no order of time.
    """
    lowest = _RANKS[level] if level is not None else 0
    lines = sorted(state.log, key=attrgetter("at"))
    kept = [line for line in lines if _RANKS[line.level] >= lowest and _matches(line, text_filter.casefold())]
    rows = tuple(_row(key, line, now) for key, line in reversed(list(_keyed(kept))))
    return Table(
        columns=_COLUMNS, rows=rows, empty=_empty(state, now, text_filter, level), hidden=_hidden(state.log, kept)
    )


def _matches(line: LogLine, wanted: str) -> bool:
    return not wanted or wanted in f"{line.level} {line.source} {line.text}".casefold()


def _keyed(lines: Iterable[LogLine]) -> Iterator[tuple[str, LogLine]]:
    """Yield each line with a key that stays its own when older ones go."""
    seen: Counter[tuple[datetime, str]] = Counter()
    for line in lines:
        same = (line.at, line.source)
        seen[same] += 1
        yield f"{line.at.isoformat()} {line.source} {seen[same]}", line


def _row(key: str, line: LogLine, now: datetime) -> Row:
    tone = _TONES[line.level]
    return Row(
        key,
        (
            Cell(numbers.clock_time(line.at, now), "muted", sort=line.at.timestamp()),
            Cell(_WORDS[line.level], tone, sort=float(_RANKS[line.level])),
            cells.name(line.source, _SOURCE),
            Cell(line.text, tone),
        ),
    )


def _empty(state: State, now: datetime, text_filter: str, level: Level | None) -> str:
    if not state.log:
        return "nothing has happened yet" if state.engine is not None else waiting(state, now)
    if text_filter:
        return cells.nothing_matches("line", text_filter)
    return _NONE[level] if level is not None else ""


def _hidden(lines: Iterable[LogLine], kept: Iterable[LogLine]) -> str | None:
    errors = sum(line.level == "error" for line in lines) - sum(line.level == "error" for line in kept)
    return f"{plural(errors, 'error')} hidden by the filter" if errors else None

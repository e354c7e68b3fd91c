"""What goes wrong, by fingerprint: what the store has of a window, and what live events have told since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import msgspec

from llmbench.error_text import normalize
from llmbench.reports.errors import general_advice
from llmbench.tui.answers import Asked, Errors
from llmbench.tui.cells import name, nothing_matches, number, plural
from llmbench.tui.numbers import age, count, time_of_day
from llmbench.tui.state import ErrorGroup, State
from llmbench.tui.table import Cell, Column, Row, Table
from llmbench.tui.text import safe
from llmbench.tui.views.answered import matches, nothing

_GOING_ON: Final = timedelta(minutes=15)
"""What was seen so lately is going on, and comes first."""

_MODEL: Final = 26
_COLUMNS: Final = (
    Column(name="Kind", width=20),
    Column(name="Model", width=_MODEL, drop=2),
    Column(name="Count", width=6, right=True),
    Column(name="First", width=11, right=True, drop=3),
    Column(name="Last", width=10, right=True, drop=1),
    Column(name="What the provider said", width=0),
)
_MOST_MODELS: Final = 20
_ROW_CHARACTERS: Final = 300
_CACHED: Final = 2048


def merged(asked: Asked[Errors], live: Mapping[str, ErrorGroup]) -> dict[str, ErrorGroup]:
    """Return all groups by fingerprint, no failure counted twice.

    What live events had told by the time of the store's answer is in that already, or will be in the next.
    """
    if asked.answer is None:
        return dict(live)
    known = dict(asked.answer.kept)
    for fingerprint, group in live.items():
        stored = known.get(fingerprint)
        known[fingerprint] = group if stored is None else _joined(stored, group, asked.answer)
    return known


def _joined(stored: ErrorGroup, live: ErrorGroup, answer: Errors) -> ErrorGroup:
    later = max(live.count - answer.live.get(live.fingerprint, 0), 0)
    least = live.count if live.first_seen >= answer.since else 0
    newest = live if live.last_seen > stored.last_seen else stored
    return msgspec.structs.replace(
        newest,
        count=max(stored.count + later, least),
        first_seen=min(stored.first_seen, live.first_seen),
    )


def counted(live: Mapping[str, ErrorGroup]) -> dict[str, int]:
    """Return how many of each group live events have told so far."""
    return {fingerprint: group.count for fingerprint, group in live.items()}


def errors(asked: Asked[Errors], state: State, now: datetime, text_filter: str = "") -> Table:
    """Return the groups: those that are going on first, the most frequent of them on top. Keys are fingerprints."""
    groups = merged(asked, state.errors).values()
    found = sorted((group for group in groups if _matches(group, text_filter)), key=lambda one: _order(one, now))
    hidden = [group for group in groups if not _matches(group, text_filter)]
    return Table(
        columns=_COLUMNS,
        rows=tuple(Row(group.fingerprint, tuple(_cells(group, now))) for group in found),
        empty=_empty(asked, text_filter, now, there=bool(groups)),
        hidden=_hidden(asked, hidden, now),
    )


def _matches(group: ErrorGroup, text_filter: str) -> bool:
    return matches(text_filter, group.error_kind, f"{group.provider}/{group.model_id}", group.message)


def _order(group: ErrorGroup, now: datetime) -> tuple[bool, float, str]:
    going_on = now - group.last_seen <= _GOING_ON
    return not going_on, -group.count if going_on else -group.last_seen.timestamp(), group.fingerprint


def _cells(group: ErrorGroup, now: datetime) -> Iterator[Cell]:
    going_on = now - group.last_seen <= _GOING_ON
    kind = safe(group.error_kind)
    yield Cell(f"✖ {kind}", "bad", sort=kind) if going_on else Cell(f"· {kind}", "muted", sort=kind)
    yield name(f"{group.provider}/{group.model_id}", _MODEL)
    yield number(count(group.count), group.count)
    yield Cell(time_of_day(group.first_seen, now), sort=group.first_seen.timestamp())
    yield Cell(age(group.last_seen, now), sort=-group.last_seen.timestamp())
    yield Cell(_shown(group.message), full=_whole(group.message))


@lru_cache(_CACHED)
def _whole(message: str) -> str:
    return safe(message)


def _shown(message: str) -> str:
    """Return what a row has room for; cleaning and measuring all of a long one would cost each frame."""
    whole = _whole(message)
    return whole if len(whole) <= _ROW_CHARACTERS else whole[:_ROW_CHARACTERS] + "…"


def _empty(asked: Asked[Errors], text_filter: str, now: datetime, *, there: bool) -> str:
    if there:
        return nothing_matches("error", text_filter)
    if asked.answer is None:
        return nothing(asked, "errors")
    return f"nothing has failed since {time_of_day(asked.answer.since, now)}"


def _hidden(asked: Asked[Errors], hidden: Iterable[ErrorGroup], now: datetime) -> str | None:
    going_on = sum(now - group.last_seen <= _GOING_ON for group in hidden)
    left_out = asked.answer.groups - len(asked.answer.kept) if asked.answer is not None else 0
    told = []
    if going_on:
        told.append(f"{plural(going_on, 'error')} going on now hidden by the filter")
    if left_out > 0:
        told.append(f"{plural(left_out, 'rarer group')} left out")
    return "; ".join(told) or None


def summed_up(asked: Asked[Errors], now: datetime) -> str:
    """Return a sentence about the whole window, nothing if nothing failed in it."""
    if asked.answer is None or not asked.answer.failures:
        return ""
    since = time_of_day(asked.answer.since, now)
    failures = plural(asked.answer.failures, "failure")
    return f"{failures} of {plural(asked.answer.groups, 'sort')} stored since {since}"


def detail(group: ErrorGroup, groups: Mapping[str, ErrorGroup], now: datetime) -> list[Cell]:
    """Return all that is known of one group, a line each: what to do, since when, and which models it concerns."""
    status = "" if group.http_status is None else f" · HTTP {group.http_status}"
    advice = group.advice or general_advice(group.error_kind, group.provider)
    alike = [one for one in groups.values() if _alike(one, group)]
    return [
        Cell(safe(f"✖ {group.error_kind} · {group.error_cause}{status}"), "bad"),
        Cell(safe(f"{group.provider}/{group.model_id}"), "accent"),
        Cell(
            f"{plural(group.count, 'time')}, first {_when(group.first_seen, now)}, last {_when(group.last_seen, now)}"
        ),
        Cell(""),
        Cell("What to do", "muted"),
        Cell(safe(advice), "good"),
        Cell(""),
        Cell("What the provider said, as it came", "muted"),
        Cell(safe(group.message)),
        Cell(""),
        Cell(f"The same at {plural(len(alike), 'model')} of {safe(group.provider)}", "muted"),
        *_models(alike, now),
    ]


def _when(at: datetime, now: datetime) -> str:
    return f"{time_of_day(at, now)} ({age(at, now)} ago)"


def _alike(one: ErrorGroup, other: ErrorGroup) -> bool:
    return (one.provider, one.error_kind) == (other.provider, other.error_kind) and _without_model(
        one
    ) == _without_model(other)


def _without_model(group: ErrorGroup) -> str:
    return _normalized(group.message).replace(group.model_id, "")


@lru_cache(_CACHED)
def _normalized(message: str) -> str:
    return normalize(message)


def _models(groups: Iterable[ErrorGroup], now: datetime) -> Iterator[Cell]:
    most_first = sorted(groups, key=lambda one: (-one.count, one.model_id))
    for one in most_first[:_MOST_MODELS]:
        yield Cell(safe(f"{one.count:>6}  {one.model_id}, last {age(one.last_seen, now)} ago"))
    if len(most_first) > _MOST_MODELS:
        yield Cell(f"        and {len(most_first) - _MOST_MODELS} more", "muted")

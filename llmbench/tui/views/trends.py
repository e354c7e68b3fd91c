"""How figures went over time: a line for each provider, or for each model of one, and what is plotted of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, get_args

from llmbench.stores.trends import Trend, TrendPoint
from llmbench.tui.answers import Asked, Trends
from llmbench.tui.cells import name, nothing_matches, number
from llmbench.tui.numbers import age, count, significant, sparkline, top
from llmbench.tui.table import Cell, Column, Row, Table
from llmbench.tui.text import safe
from llmbench.tui.views.answered import matches, nothing
from llmbench.tui.views.plot import Plot, series

Measure = Literal["TTFT", "speed", "errors"]
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)
UNITS: Final[dict[Measure, str]] = {"TTFT": "ms", "speed": "tok/s", "errors": "%"}
NAMES: Final[dict[Measure, str]] = {
    "TTFT": "median time to first token",
    "speed": "median tokens per second",
    "errors": "share of runs that failed",
}


class Window(NamedTuple):
    """How far a trend goes back, and how long each part of it is."""

    name: str
    span: timedelta
    width: timedelta


WINDOWS: Final = (
    Window("6 h", timedelta(hours=6), timedelta(minutes=6)),
    Window("24 h", timedelta(hours=24), timedelta(minutes=20)),
    Window("7 d", timedelta(days=7), timedelta(hours=2)),
    Window("30 d", timedelta(days=30), timedelta(hours=8)),
)
_SPARK: Final = 30
_NAME: Final = 60


class Values(NamedTuple):
    """One trend's values of a measure by part, and the runs behind them."""

    by_part: tuple[tuple[int, float], ...]
    n: int
    last: datetime | None


def value(point: TrendPoint, measure: Measure) -> float | None:
    """Return what a part came to: milliseconds, tokens per second, or per cent."""
    match measure:
        case "TTFT":
            return None if point.time_to_first_token_p50 is None else point.time_to_first_token_p50 * 1000
        case "speed":
            return point.tokens_per_second_p50
        case "errors":
            return 100 * point.failures / (point.successes + point.failures)


def _runs(point: TrendPoint, measure: Measure) -> int:
    counts = {"TTFT": point.first_tokens, "speed": point.speeds, "errors": point.successes + point.failures}
    return counts[measure]


def values_of(answer: Trends, trend: Trend, measure: Measure) -> Values:
    known = [(point, found) for point in trend.points if (found := value(point, measure)) is not None]
    return Values(
        by_part=tuple(((point.at - answer.since) // answer.width, found) for point, found in known),
        n=sum(_runs(point, measure) for point, _found in known),
        last=known[-1][0].at if known else None,
    )


def name_of(trend: Trend) -> str:
    """Return what a trend is called, and what its row is known by."""
    return trend.provider if trend.model_name is None else f"{trend.provider}/{trend.model_name}"


def trends(asked: Asked[Trends], measure: Measure, window: Window, now: datetime, text_filter: str = "") -> Table:
    """Return a row for each trend, worst now first. The key of a row is `name_of` its trend."""
    answer = asked.answer
    found = [(trend, values_of(answer, trend, measure)) for trend in answer.trends] if answer is not None else []
    shown = [one for one in found if matches(text_filter, name_of(one[0]))]
    shown.sort(key=lambda one: (-_badness(one[1], measure), name_of(one[0])))
    parts = _parts(answer, now) if answer is not None else 0
    lines = [_squeezed(series(values.by_part, parts), measure) for _trend, values in shown]
    highest = top(lines)
    return Table(
        columns=_columns(measure, highest, by_model=answer is not None and answer.provider is not None),
        rows=tuple(
            Row(name_of(trend), tuple(_cells(trend, values, answer, line, highest, now)))
            for (trend, values), line in zip(shown, lines, strict=True)
            if answer is not None
        ),
        empty=_empty(asked, window, text_filter, there=bool(found)),
        hidden=f"{len(found) - len(shown)} hidden by the filter" if len(found) > len(shown) else None,
    )


def _squeezed(line: Sequence[float | None], measure: Measure) -> list[float | None]:
    """Return a whole window in as many values as a sparkline has: of neighbours the worst, so that none is lost."""
    worst = min if measure == "speed" else max
    cells = min(_SPARK, len(line))
    parts = (line[n * len(line) // cells : (n + 1) * len(line) // cells] for n in range(cells))
    return [worst((one for one in part if one is not None), default=None) for part in parts]


def _columns(measure: Measure, highest: float, *, by_model: bool) -> tuple[Column, ...]:
    unit = UNITS[measure]
    return (
        Column(name="Model" if by_model else "Provider", width=0),
        Column(name=f"now {unit}", width=9, right=True),
        Column(name="part ended", width=10, right=True, drop=4),
        Column(name="lowest", width=7, right=True, drop=3),
        Column(name="highest", width=7, right=True, drop=2),
        Column(name="n", width=6, right=True),
        Column(name=f"0 to {significant(highest)} {unit}" if highest else "", width=_SPARK, drop=1),
    )


def _cells(
    trend: Trend, values: Values, answer: Trends, line: list[float | None], highest: float, now: datetime
) -> Iterator[Cell]:
    found = [one for _part, one in values.by_part]
    latest = found[-1] if found else None
    end = None if values.last is None else values.last + answer.width
    ended = "" if end is None else "now" if end >= now else f"{age(end, now)}"
    yield name(name_of(trend), _NAME)
    yield number(significant(latest), latest)
    yield Cell(ended, "muted" if end is None or now - end < 3 * answer.width else "warn", sort=_age(end, now))
    yield number(significant(min(found, default=None)), min(found, default=None))
    yield number(significant(max(found, default=None)), max(found, default=None))
    yield number(count(values.n), values.n)
    yield Cell(sparkline(line, _SPARK, highest), "accent", sort=latest)


def _age(at: datetime | None, now: datetime) -> float:
    return math.inf if at is None else (now - at).total_seconds()


def _badness(values: Values, measure: Measure) -> float:
    if not values.by_part:
        return -math.inf
    latest = values.by_part[-1][1]
    return -latest if measure == "speed" else latest


def _empty(asked: Asked[Trends], window: Window, text_filter: str, *, there: bool) -> str:
    if there:
        return nothing_matches("trend", text_filter)
    if asked.answer is None:
        return nothing(asked, "trends")
    return f"no run is stored from the last {window.name}; w looks further back"


def _parts(answer: Trends, now: datetime) -> int:
    return max(1, math.ceil((now - answer.since) / answer.width))


def plot(asked: Asked[Trends], key: str | None, measure: Measure, window: Window, now: datetime) -> Plot:
    """Return what is plotted: the trend with this key, or nothing in words."""
    answer = asked.answer
    trend = next((one for one in answer.trends if name_of(one) == key), None) if answer is not None else None
    values = Values((), 0, None) if answer is None or trend is None else values_of(answer, trend, measure)
    what = "" if trend is None else safe(name_of(trend))
    return Plot(
        heading=f"{what}: {NAMES[measure]}, {UNITS[measure]} · {window.name} · n = {count(values.n)}" if what else "",
        since=answer.since if answer is not None else now - window.span,
        width=answer.width if answer is not None else window.width,
        parts=_parts(answer, now) if answer is not None else 1,
        values=values.by_part,
        n=values.n,
        empty="no run has this figure" if trend is not None else "",
    )

"""Numbers as screens show them: three significant digits in at most five cells, the unit in the column's heading.

What is not known is ``—``, never 0. Times of day are told in the time zone of ``now``, whichever the caller chose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final

UNKNOWN: Final = "—"
_BARS: Final = "▁▂▃▄▅▆▇█"
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_LONGEST: Final = 10**12
_SIZES: Final = ((9999.5, 1, ""), (999_500, 1e3, "k"), (999_500_000, 1e6, "M"), (999_500_000_000, 1e9, "G"))


def significant(value: float | None) -> str:
    """Return a number from 0 on with three significant digits: ``0.41``, ``4.12``, ``41.2``, ``412``, ``41.2k``.

    What is below 0.1 has two decimals; whole numbers of four digits have them all.
    """
    if value is None or not is_known(value):
        return UNKNOWN
    for below, divisor, suffix in _SIZES:
        if value < below:
            return _three(value / divisor) + suffix
    return ">1e12"


def is_known(value: float | None) -> bool:
    """Say whether a number is one. An int may be too large for any float."""
    return value is not None and value == value and abs(value) != math.inf


def _three(value: float) -> str:
    size = abs(value)
    if size < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if size < 99.95 else f"{value:.0f}"


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds, without the unit."""
    return significant(None if seconds is None else seconds * 1000)


def seconds(value: float | None) -> str:
    """Return a duration with its unit, as precise as it is short: ``412 ms``, ``4.12 s``, ``3 min``."""
    if value is None or not is_known(value):
        return UNKNOWN
    if value < 0.9995:
        return f"{milliseconds(value)} ms"
    return f"{significant(value)} s" if value < _MINUTE else duration(value)


def times(ratio: float | None) -> str:
    """Return a ratio in at most four cells: ``1.0``, ``4.1``, ``12``."""
    if ratio is None or not is_known(ratio):
        return UNKNOWN
    return f"{ratio:.1f}" if ratio < 9.95 else significant(ratio).partition(".")[0]


def count(value: int | None) -> str:
    """Return a count in at most five cells: whole up to 9999, then ``12.3k``."""
    if value is None:
        return UNKNOWN
    return str(value) if abs(value) <= 9999 else significant(value)


def share(part: float | None) -> str:
    """Return a share of 1 in per cent, with its sign."""
    if part is None or not is_known(part):
        return UNKNOWN
    percent = part * 100
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"


def size(count_of_bytes: float | None) -> str:
    """Return a number of bytes with its unit: ``512 B``, ``1.50 MiB``."""
    if count_of_bytes is None or not is_known(count_of_bytes):
        return UNKNOWN
    value = float(min(count_of_bytes, _LONGEST**2))
    if value < 1023.5:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.5:
            return f"{_three(value)} {unit}"
    return f"{significant(value / 1024)} TiB"


def duration(value: float | None) -> str:
    """Return whole seconds in words: ``14 s``, ``4 min``, ``3 h 05 min``, ``2 d 03 h``."""
    if value is None or not is_known(value):
        return UNKNOWN
    whole = int(min(max(value, 0), _LONGEST))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"


def age(then: datetime | None, now: datetime) -> str:
    """Return how long ago it was; clocks of two machines may disagree, so the future is ``0 s``."""
    return UNKNOWN if then is None else duration((now - then).total_seconds())


def ahead(then: datetime | None, now: datetime) -> str:
    """Return how long it is until then, 0 s if that is past."""
    return UNKNOWN if then is None else duration(math.ceil((then - now).total_seconds()))


def time_of_day(at: datetime | None, now: datetime) -> str:
    """Return hours and minutes, with the day before them where it is not today's."""
    if at is None:
        return UNKNOWN
    local = at.astimezone(now.tzinfo)
    return local.strftime("%H:%M" if local.date() == now.date() else "%m-%d %H:%M")


def short_time(at: datetime | None, now: datetime) -> str:
    """Return in five cells hours and minutes, or month and day where it was not today."""
    if at is None:
        return UNKNOWN
    local = at.astimezone(now.tzinfo)
    return local.strftime("%H:%M" if local.date() == now.date() else "%m-%d")


def zone(now: datetime) -> str:
    """Return the name of the zone in which times of day are told."""
    return now.tzname() or "local time"


def clock_time(at: datetime | None, now: datetime) -> str:
    """Return hours, minutes and seconds."""
    return UNKNOWN if at is None else at.astimezone(now.tzinfo).strftime("%H:%M:%S")


def top(series: Sequence[Sequence[float | None]]) -> float:
    """Return the largest of all values: what sparklines with one scale share. 0 if there is none."""
    return max((value for values in series for value in values if value is not None and is_known(value)), default=0)


def sparkline(values: Sequence[float | None], cells: int, highest: float) -> str:
    """Return the last ``cells`` values as bars from 0 to ``highest``, at the right; a gap in the data is a blank."""
    if cells <= 0:
        return ""
    return "".join(_bar(value, highest) for value in values[-cells:]).rjust(cells)


def _bar(value: float | None, highest: float) -> str:
    if value is None or not is_known(value):
        return " "
    level = min(max(value / highest, 0.0), 1.0) if highest > 0 else 0.0
    return _BARS[max(math.ceil(level * len(_BARS)) - 1, 0)]

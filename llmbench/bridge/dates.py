"""Dates as runners write them, and which of them can be true."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from llmbench.bridge.refusals import Refused

EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)
"""Nothing that is measured here was there before."""

AHEAD = timedelta(hours=24)
"""So far may a runner's clock be wrong: a wrong time zone must not cost an outcome. Answers leave such rows out."""

_FORM = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d{1,9})?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE)


def read_date(name: str, value: Any) -> datetime:
    """Return a date of an earlier runner in UTC, which is also meant where no offset is written. Raises `Refused`.

    It is ``2026-03-14 12:00:00`` or RFC 3339.
    """
    if isinstance(value, str) and _FORM.fullmatch(value):
        try:
            date = datetime.fromisoformat(value.upper())
            return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
        except (ValueError, OverflowError):  # such as the 30th of February, or before the year 1 in UTC
            pass
    raise Refused(f"{name!r} is {value!r:.80}, which is no date: write 2026-03-14T12:00:00Z, or 2026-03-14 12:00:00")


def check_date(name: str, date: datetime, now: datetime) -> None:
    """Raise `Refused` for a date that can't be true. What was spooled may be old."""
    if date.tzinfo is None:
        raise Refused(f"{name!r} is {date.isoformat()}, without a time zone: write it in UTC, with a Z at the end")
    if date < EARLIEST:
        raise Refused(f"{name!r} is {date.isoformat()}, before {EARLIEST:%Y}: set the clock of that machine")
    if date > now + AHEAD:
        raise Refused(f"{name!r} is {date.isoformat()}, more than a day in the future: set the clock of that machine")

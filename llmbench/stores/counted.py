"""Which stored outcomes count in answers: the same ones in every store and for every question.

One counts that names its provider and its model, and of which is known when it was: after 1970 began, and not in the
future. `llmbench doctor` tells how many don't; copying brings them along, and they don't count there either.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from llmbench.clock import SystemClock

UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
"""The ``run_ts`` of an outcome of which is not known when it was, where there has to be one."""

FIRST = UNDATED + timedelta(milliseconds=1)

CLOCKS = timedelta(minutes=5)
"""So far may the clock of another machine be ahead of this one's; what is later than that has a wrong date."""


def begin(since: datetime | None) -> datetime:
    """Return when a window that is asked for begins, itself included."""
    return FIRST if since is None else max(since, FIRST)


def end(until: datetime | None = None) -> datetime:
    """Return when a window ends, itself excluded: ``until``, if that is asked for, or else now."""
    latest = SystemClock().now() + CLOCKS
    return latest if until is None else min(until, latest)

"""Which documents count in MongoDB (see `counted`), as conditions that indexes answer.

Failures of earlier writers have no ``run_ts``, and ``ts`` stands in for it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from llmbench.stores.counted import begin, end
from llmbench.stores.mongo_client import Document

NAME: Document = {"$gt": ""}
"""The condition on a name: text, and not empty."""

NAMED: Document = {"provider": NAME, "model_name": NAME}
"""The condition on the names of a model."""


class Window(msgspec.Struct, frozen=True):
    """One of the two ways in which failures tell their time: by the field ``date``, if ``condition`` holds."""

    date: str
    condition: Document


def within(since: datetime | None, until: datetime | None = None) -> Document:
    """Return the condition on a date. What is no date, or one that Python can't hold, is in no window."""
    return {"$gte": begin(since), "$lt": end(until)}


def windows(since: datetime | None, until: datetime | None = None) -> list[Window]:
    """Return the conditions on failures of a window, ``until`` excluded."""
    return [
        Window("run_ts", {"run_ts": within(since, until)}),
        Window("ts", {"run_ts": None, "ts": within(since, until)}),
    ]

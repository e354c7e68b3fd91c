"""What the dashboard is given by the command that starts it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from llmbench.cli import watching
from llmbench.tui.numbers import zone


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_its_times_are_this_machines() -> None:
    now = watching._now()

    assert (zone(now), now.strftime("%z")) == ("JST", "+0900")

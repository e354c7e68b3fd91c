"""What the fault tests share: figures that are told at the end of a session, whether its tests passed or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Tell = Callable[[str], None]

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> Tell:
    """Return what takes a line of figures, for the end of the session."""
    return request.config.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("figures of the fault tests")
        for line in figures:
            terminalreporter.write_line(line)

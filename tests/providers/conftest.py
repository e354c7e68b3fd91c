"""Machines with and without Google's credentials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmbench.simulator import SpawnedSimulator
from tests.clouds import no_google
from tests.providers.google_tokens import FILE, account_file


@pytest.fixture
def nothing_of_google(monkeypatch: pytest.MonkeyPatch, simulator: SpawnedSimulator) -> None:
    """A machine that has nothing of Google's."""
    no_google(monkeypatch, simulator.url)


@pytest.fixture
def account(
    monkeypatch: pytest.MonkeyPatch, nothing_of_google: None, simulator: SpawnedSimulator, tmp_path: Path
) -> Callable[[str], None]:
    """Return what gives this machine a service account whose tokens come from an address."""

    def give(url: str) -> None:
        path = account_file(simulator, tmp_path / "account.json", token_uri=f"{url}/token")
        monkeypatch.setenv(FILE, str(path))

    return give

"""What the tests of the actors share: SDKs that are loaded, a store, and a guard against blocking the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from llmbench.providers.registry import load_sdks
from llmbench.stores.sqlite import SQLiteStore


@pytest.fixture(scope="session")
def sdks() -> None:
    """Import what the lanes need before anything is measured, as the program does."""
    load_sdks(["openai-compatible", "anthropic"])


@pytest.fixture(autouse=True)
def _no_blocking_on_the_loop() -> Iterator[None]:
    """Fail a test in which an actor makes a blocking call on the event loop."""
    guard: AbstractContextManager[object] = blockbuster_ctx("llmbench.actors")
    with guard:
        yield


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store in a file of its own."""
    store = SQLiteStore(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()

"""What the tests of the bridge share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from tests.bridge.serving import GatedStore, Running, running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_blocking_on_the_loop() -> Iterator[None]:
    """Fail a test in which the bridge makes a blocking call on the event loop."""
    guard: AbstractContextManager[BlockBuster] = blockbuster_ctx("llmbench.bridge")
    with guard as blocking:
        # It reads /proc, which is no disk.
        for name in ("io.BufferedReader.read", "os.listdir"):
            if name in blocking.functions:
                blocking.functions[name].can_block_in("prometheus_client/process_collector.py", {"collect"})
        yield


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    """An open store in a file of its own, which a test can have wait or fail."""
    store = GatedStore(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bridge(store: GatedStore, tmp_path: Path) -> AsyncIterator[Running]:
    """The bridge on that store, over a real socket."""
    async with running(store, tmp_path) as bridge:
        yield bridge

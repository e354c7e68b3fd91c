"""Where the stores of the contract suite come from.

A store joins by an entry in `BACKINGS` and, in its test module, by a subclass of `StoreContract` that names it:

    @pytest.mark.parametrize("backing", ["sqlite"], indirect=True)
    class TestContract(StoreContract): ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

from llmbench.stores.base import Store
from llmbench.stores.sqlite import SQLiteStore

if TYPE_CHECKING:  # at run time it must not be imported before its asserts are registered
    from tests.stores.contract import Backing

pytest.register_assert_rewrite(*(f"tests.stores.contract{part}" for part in ("", "_outcomes", "_questions", "_models")))


@asynccontextmanager
async def _sqlite(tmp_path: Path) -> AsyncIterator[Backing]:
    yield lambda: SQLiteStore(tmp_path / "llmbench.db")


BACKINGS: dict[str, Callable[[Path], AbstractAsyncContextManager[Backing]]] = {"sqlite": _sqlite}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="module")
def _no_blocking_on_the_loop() -> Iterator[None]:
    guard: AbstractContextManager[object] = blockbuster_ctx("llmbench.stores")
    with guard:
        yield


@pytest.fixture(params=BACKINGS)
async def backing(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backing]:
    """A place for stores: calling it makes one more store there."""
    async with BACKINGS[request.param](tmp_path) as make:
        yield make


@pytest.fixture
async def store(backing: Backing) -> AsyncIterator[Store]:
    """An open store on a fresh place."""
    async with _opened(backing()) as store:
        yield store


@pytest.fixture
async def second(store: Store, backing: Backing) -> AsyncIterator[Store]:
    """Another store, open on the same place as ``store``."""
    async with _opened(backing()) as second:
        yield second


@asynccontextmanager
async def _opened(store: Store) -> AsyncIterator[Store]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()

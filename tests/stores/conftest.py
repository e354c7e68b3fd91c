"""Where the stores of the contract suite come from.

A store joins by an entry in `BACKINGS` and, in its test module, by a subclass of `StoreContract` that names it:

    @pytest.mark.parametrize("backing", ["sqlite"], indirect=True)
    class TestContract(StoreContract): ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from blockbuster import blockbuster_ctx
from pymongo import MongoClient
from pymongo.database import Database

from llmbench.ids import new_outcome_id
from llmbench.secrets import Secret
from llmbench.stores.base import Store
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address
from llmbench.stores.sqlite import SQLiteStore
from tests.stores.mongod import Mongod

if TYPE_CHECKING:  # at run time it must not be imported before its asserts are registered
    from tests.stores.contract import Backing

S = TypeVar("S", bound=Store)


@asynccontextmanager
async def _sqlite(request: pytest.FixtureRequest) -> AsyncIterator[Backing]:
    tmp_path: Path = request.getfixturevalue("tmp_path")
    yield lambda: SQLiteStore(tmp_path / "llmbench.db")


@asynccontextmanager
async def _mongo(request: pytest.FixtureRequest) -> AsyncIterator[Backing]:
    place: Address = request.getfixturevalue("emptied_address")
    yield lambda: MongoStore(place)


BACKINGS: dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Backing]]] = {
    "sqlite": _sqlite,
    "mongo": _mongo,
}


@pytest.fixture(scope="session")
def client(mongod: Mongod) -> Iterator[MongoClient[dict[str, Any]]]:
    """Another program's connection to the server, by the driver itself."""
    client: MongoClient[dict[str, Any]] = MongoClient(mongod.uri, tz_aware=True)
    with client:
        yield client


@pytest.fixture
def address(mongod: Mongod, client: MongoClient[dict[str, Any]]) -> Iterator[Address]:
    """A database that nobody else has; it is dropped at the end."""
    name = f"llm-bench-{new_outcome_id()}"
    yield Address(uri=Secret(mongod.uri), database=name)
    client.drop_database(name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="module")
def _no_blocking_on_the_loop() -> Iterator[None]:
    guard: AbstractContextManager[object] = blockbuster_ctx("llmbench.stores")
    with guard:
        yield


@pytest.fixture(scope="session")
def _shared_name(mongod: Mongod) -> str:
    return f"llm-bench-{new_outcome_id()}"


@pytest.fixture
def emptied_address(mongod: Mongod, client: MongoClient[dict[str, Any]], _shared_name: str) -> Iterator[Address]:
    """A database that is empty but has its indexes: making them anew is most of what a short test would take."""
    yield Address(uri=Secret(mongod.uri), database=_shared_name)
    for name in client[_shared_name].list_collection_names():
        client[_shared_name][name].delete_many({})


@pytest.fixture
def raw(client: MongoClient[dict[str, Any]], emptied_address: Address) -> Database[dict[str, Any]]:
    """The database of ``mongo``, as other programs see it."""
    return client[emptied_address.database]


@pytest.fixture
async def mongo(emptied_address: Address) -> AsyncIterator[MongoStore]:
    """An open store on a database that is empty."""
    async with _opened(MongoStore(emptied_address)) as store:
        yield store


@pytest.fixture
def fresh(client: MongoClient[dict[str, Any]], address: Address) -> Database[dict[str, Any]]:
    """A database that no store has seen yet, at ``address``."""
    return client[address.database]


@pytest.fixture(params=BACKINGS)
async def backing(request: pytest.FixtureRequest) -> AsyncIterator[Backing]:
    """A place for stores: calling it makes one more store there."""
    async with BACKINGS[request.param](request) as make:
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
async def _opened(store: S) -> AsyncIterator[S]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()

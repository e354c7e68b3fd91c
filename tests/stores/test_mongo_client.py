"""What the MongoDB store makes of a URI, before it asks any server."""

from __future__ import annotations

import anyio.to_thread
import pytest

from llmbench.secrets import Secret
from llmbench.stores import mongo_client
from llmbench.stores.base import StoreUnusable
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Address, Limits

URIS = {
    "socketTimeoutMS=10s": "option 'socketTimeoutMS' of no valid value",
    "tls=ture&w=1": "option 'tls' of no valid value",
    "authSource=admin&Hunter2secret=a": "an option that the driver does not know",
    "tls=true&tls=true": "option 'tls' of no valid value",
}


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize(("options", "said"), URIS.items())
async def test_an_option_that_the_driver_would_pass_over(scheme: str, options: str, said: str) -> None:
    """A mistyped limit or TLS switch is refused before anyone is asked; unknown text, maybe a password, stays out."""
    address = Address(uri=Secret(f"{scheme}://u:p@db.invalid/?{options}"), database="d")

    with pytest.raises(StoreUnusable, match=f"MONGODB_URI' holds a MongoDB URI with {said}") as caught:
        await MongoStore(address).open()
    assert "Hunter2" not in str(caught.value)
    with pytest.raises(StoreUnusable, match=said):
        mongo_client.check(address)


async def test_a_limit_of_zero_is_none() -> None:
    """The URI's limits count, but for 0, which would wait for ever."""
    uri = Secret("mongodb://127.0.0.1:1/?socketTimeoutMS=0&CONNECTTIMEOUTMS=1500")

    client = await mongo_client.connect(Address(uri=uri, database="d"), Limits(socket=7, connect=1))

    pool = client.delegate.options.pool_options
    await anyio.to_thread.run_sync(client.close)
    assert (pool.socket_timeout, pool.connect_timeout) == (7, 1.5)


@pytest.mark.parametrize("scheme", ["mongodb", "mongodb+srv"])
@pytest.mark.parametrize("password", ["Hunter2@x", "Hunter2:x", "Hunter2/x", "Hunter2?x", "Hunter2?x=y", "Hunter2%x"])
async def test_a_password_that_is_not_encoded(scheme: str, password: str) -> None:
    """The sentence says what to do about it, and holds nothing of it."""
    address = Address(uri=Secret(f"{scheme}://me:{password}@db.invalid/"), database="d")

    with pytest.raises(StoreUnusable, match="special characters as they are; percent-encode them") as caught:
        await MongoStore(address).open()
    assert "Hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "found"),
    [("", None), ("/", None), ("/?tls=true", None), ("/d", None), ("/admin", None), ("/other?authSource=a", "other")],
)
def test_a_database_in_the_path(path: str, found: str | None) -> None:
    """One that is not used is found; ``admin`` says where users are known, whatever is used."""
    assert mongo_client.passed_over(Address(uri=Secret(f"mongodb://me:p%2Fq@h:1,i:2{path}"), database="d")) == found

"""What the MongoDB store makes of a URI, before it asks any server."""

from __future__ import annotations

import anyio.to_thread
import pytest
from pymongo.errors import ConfigurationError, OperationFailure

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


@pytest.mark.parametrize("hosts", ["h:port", "h:99999", "h:0", "me:Hunter2@h:27o17", "h:27017,i:x", "[::1]:x"])
async def test_a_port_that_is_none(hosts: str) -> None:
    """The sentence blames the port, and no password."""
    address = Address(uri=Secret(f"mongodb://{hosts}/"), database="d")

    with pytest.raises(StoreUnusable, match="a port in it is no number from 1 to 65535; correct it") as caught:
        await MongoStore(address).open()
    assert "Hunter2" not in str(caught.value)
    with pytest.raises(StoreUnusable, match="a port in it"):
        mongo_client.check(address)


def test_a_name_that_is_not_in_the_dns() -> None:
    """Whenever the driver finds that, it says what to correct."""
    address = Address(uri=Secret("mongodb+srv://me:Hunter2@nohost.invalid/"), database="d")
    error = ConfigurationError("The DNS query name does not exist: _mongodb._tcp.nohost.invalid.")
    where = "MongoDB database 'd' at nohost.invalid"
    told = str(mongo_client.in_contract_terms(address, error))
    assert told == f"{where} can't be looked up in the DNS; correct MONGODB_URI, or try again later"


def test_of_a_refused_command_its_name_is_told() -> None:
    """The whole of it, with documents in it, is not."""
    said = 'not authorized on d to execute command { insert: "models", ordered: true, lsid: { id: UUID("0") } }'
    address = Address(uri=Secret("mongodb://h/"), database="d")
    told = str(mongo_client.in_contract_terms(address, OperationFailure(said, 13)))
    assert "(OperationFailure: not authorized on d to execute command 'insert'); check the user" in told

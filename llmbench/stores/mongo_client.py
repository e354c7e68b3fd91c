"""The connection to MongoDB: the client, its limits, and what the driver's errors mean in the contract's terms.

Motor is the driver; nothing but `_client` knows how a client is made, so that its successor, PyMongo's own async
client, can take its place here.
"""

from __future__ import annotations

import asyncio
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
import msgspec
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import ReadPreference, WriteConcern
from pymongo.common import URI_OPTIONS_VALIDATOR_MAP
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)
from pymongo.uri_parser import SRV_SCHEME, parse_uri, split_options

from llmbench.secrets import Redactor, Secret
from llmbench.stores.base import StoreError, StoreUnusable

Document = dict[str, Any]
Client = AsyncIOMotorClient[Document]
Database = AsyncIOMotorDatabase[Document]

# Dates come back as aware UTC. Documents of other writers may hold what Python can't: a year beyond 9999, or text
# that is no UTF-8; neither may keep the rest from being read.
_CODEC = CodecOptions[Document](
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)

_REFUSED = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, and Atlas's word for either."""

_WARNINGS = threading.Lock()
"""What is done with warnings is one for all threads; only one may change it at a time."""

_HOST = re.compile(r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)


_COMMAND = re.compile(r"execute command \{ (\w+):.*", re.DOTALL)
"""What a refusal tells of a command: its whole document, cut off somewhere."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long anything may take, in seconds.

    ``socket`` is for each answer of the server, ``question`` for its work on a question (``maxTimeMS``), ``put`` for a
    slice of a batch (see `llmbench.stores.mongo_slices`), ``indexing`` for waiting until the indexes of a collection
    are there.
    """

    server_selection: float = 3.0
    connect: float = 2.0
    socket: float = 10.0
    question: float = 9.0
    put: float = 10.0
    indexing: float = 2.0

    @property
    def question_milliseconds(self) -> int:
        """``maxTimeMS`` of a question."""
        return max(1, round(self.question * 1000))


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Which database; ``variable`` is the environment variable that the URI came from."""

    uri: Secret
    database: str
    variable: str = "MONGODB_URI"

    def __str__(self) -> str:
        """Say what a person needs to find it, nothing secret."""
        hosts = hosts_of(self.uri.reveal())
        return f"MongoDB database {self.database!r}" + (f" at {hosts}" if hosts else "")


def passed_over(address: Address) -> str | None:
    """Return the database in the path of a valid URI if it is another one than the one that is used.

    The driver takes it for where the user is known, no more. ``admin`` is nothing but that.
    """
    path = address.uri.reveal().partition("://")[2].partition("?")[0].partition("/")[2]
    named = unquote(path).partition(".")[0]
    return named if named not in ("", "admin", address.database) else None


def path_advice(address: Address, other: str) -> str:
    """Say what the name in the URI's path means, and how to use that database."""
    return (
        f"not {other!r}, which the path of the URI in {address.variable} names: there it says only where the user is "
        f"known; set MONGODB_DB or store.mongo.database to {other!r} to use that one"
    )


def hosts_of(uri: str) -> str:
    """Return the hosts in a URI, or nothing if what looks like them may be part of a password."""
    _, _, rest = uri.partition("://")
    place, _, tail = rest.partition("/")
    hosts = place.rpartition("@")[2].partition("?")[0]
    return hosts if "@" not in tail and all(map(_HOST.fullmatch, hosts.split(","))) else ""


async def connect(address: Address, limits: Limits, *, patience: float | None = None) -> Client:
    """Return a client; it connects with its first command. Raises `StoreUnusable` or `StoreError`.

    ``patience`` is how long it waits for an answer, whatever the limits and the URI say.
    """
    loop = asyncio.get_running_loop()
    try:
        # In a thread, since a mongodb+srv:// URI is looked up in the DNS.
        return await anyio.to_thread.run_sync(_client, address, limits, patience, loop)
    except (PyMongoError, ValueError, TypeError) as error:
        raise _unusable_uri(address, error) from None  # the driver's words may hold a part of the password


def check(address: Address) -> None:
    """Refuse a URI that `connect` would refuse, as far as that shows without asking anyone. Raises `StoreUnusable`."""
    uri = address.uri.reveal()
    try:
        _options(address)
        if not uri.startswith(SRV_SCHEME):  # whose hosts have to be looked up in the DNS
            parse_uri(uri)
    except (PyMongoError, ValueError, TypeError) as error:
        raise _unusable_uri(address, error) from None


def _options(address: Address) -> Mapping[str, Any]:
    """Return the URI's options as the driver reads them. Raises `StoreUnusable` for one that it would pass over."""
    text = address.uri.reveal().partition("?")[2]
    if not text:
        return {}
    with _WARNINGS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = split_options(text, warn=True, normalize=False)
    if caught:
        raise StoreUnusable(
            f"environment variable {address.variable!r} holds a MongoDB URI with {_blamed(text, caught)}; "
            f"correct it or take it out, since the driver would go on without it{_hint(address)}"
        )
    return {name.lower(): value for name, value in options.items()}


def _blamed(text: str, caught: Iterable[warnings.WarningMessage]) -> str:
    """Name the options that the driver warns of, but only by names that it knows: others may be part of a password."""
    # What it suggests instead is not what is wrong.
    said = " ".join(str(one.message).partition("Did you mean")[0] for one in caught)
    given = {part.partition("=")[0] for part in re.split("[&;]", text)}
    known = sorted(name for name in given if name.lower() in URI_OPTIONS_VALIDATOR_MAP)
    named = [repr(name) for name in known if re.search(rf"\b{name}\b", said, re.IGNORECASE)]
    return f"option {', '.join(named)} of no valid value" if named else "an option that the driver does not know"


def _client(address: Address, limits: Limits, patience: float | None, loop: asyncio.AbstractEventLoop) -> Client:
    given = _options(address)
    ours = {
        "serverSelectionTimeoutMS": limits.server_selection,
        "connectTimeoutMS": limits.connect,
        "socketTimeoutMS": limits.socket,
        "waitQueueTimeoutMS": limits.socket,
    }
    options: dict[str, Any] = {
        name: round(seconds * 1000)
        for name, seconds in ours.items()
        if not given.get(name.lower())  # 0 would be no limit
    }
    if patience is not None:
        options["socketTimeoutMS"] = round(patience * 1000)
    return AsyncIOMotorClient(address.uri.reveal(), io_loop=loop, tz_aware=True, appname="llmbench", **options)


def _hint(address: Address) -> str:
    """Say that the password is to blame, if there is an "@" behind what can't be in one as it is."""
    user = address.uri.reveal().partition("://")[2].rpartition("@")[0]
    if not re.search(r"[/?#\[\]@]|:.*:|%(?![0-9A-Fa-f]{2})", user):
        return ""
    return (
        ": the user or password in it has special characters as they are; percent-encode them, such as '@' as %40, "
        "':' as %3A, '/' as %2F, '?' as %3F, '%' as %25"
    )


def _unusable_uri(address: Address, error: Exception) -> StoreError:
    if hint := _hint(address):
        return StoreUnusable(f"environment variable {address.variable!r} holds no valid MongoDB URI{hint}")
    if isinstance(error, ConfigurationError) and address.uri.reveal().startswith(SRV_SCHEME):
        return _not_in_dns(address)
    if not _ports_hold(address.uri.reveal()):
        return StoreUnusable(
            f"environment variable {address.variable!r} holds no valid MongoDB URI: "
            "a port in it is no number from 1 to 65535; correct it, or leave it out for 27017"
        )
    return StoreUnusable(
        f"environment variable {address.variable!r} holds no valid MongoDB URI ({type(error).__name__}): write it as "
        "mongodb://user:password@host:27017, every special character of the password percent-encoded"
    )


def _ports_hold(uri: str) -> bool:
    """Say whether every port in a URI is one; the colons of an IPv6 address begin none."""
    hosts = uri.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2].split(",")
    ports = [port for _, colon, port in (host.rpartition("]")[2].rpartition(":") for host in hosts) if colon]
    return all(port.isascii() and port.isdecimal() and 0 < int(port) < 65536 for port in ports)


def _not_in_dns(address: Address) -> StoreError:
    return StoreError(f"{address} can't be looked up in the DNS; correct {address.variable}, or try again later")


class Deployment(msgspec.Struct, frozen=True):
    """What kind of server there is, and so what it takes for a write to survive a crash."""

    replicated: bool

    def __str__(self) -> str:
        if self.replicated:
            return "replica set: a write counts once a majority has it in its journal"
        return "standalone server: a write counts once it is in the journal"

    def write_concern(self, limits: Limits) -> WriteConcern:
        if self.replicated:
            return WriteConcern(w="majority", j=True, wtimeout=round(limits.socket * 1000))
        return WriteConcern(w=1, j=True)


def deployment(hello: Mapping[str, Any]) -> Deployment:
    """Read the server's answer to ``hello``: a replica set names itself, a router of shards says ``isdbgrid``."""
    return Deployment(replicated="setName" in hello or hello.get("msg") == "isdbgrid")


async def database(client: Client, address: Address, limits: Limits) -> tuple[Database, Deployment]:
    """Return the database, with the write concern that fits the server. The URI's own never weakens it."""
    found = deployment(await _hello(client, address, limits))
    opened = client.get_database(
        address.database,
        codec_options=_CODEC,
        read_preference=ReadPreference.PRIMARY,
        write_concern=found.write_concern(limits),
    )
    return opened, found


async def _hello(client: Client, address: Address, limits: Limits) -> Mapping[str, Any]:
    try:
        hello: Mapping[str, Any] = await client.admin.command("hello", maxTimeMS=limits.question_milliseconds)
    except ServerSelectionTimeoutError:
        seen = client.delegate.topology_description.server_descriptions().values()
        if any(server.server_type_name == "RSGhost" for server in seen):
            raise _uninitiated(address) from None
        raise
    if hello.get("isreplicaset"):
        raise _uninitiated(address)
    return hello


def _uninitiated(address: Address) -> StoreError:
    return StoreError(
        f"{address} is in a replica set that is not initiated, which takes no writes; call rs.initiate() in mongosh, "
        "or start the server without a replica set"
    )


@contextmanager
def store_errors(address: Address) -> Iterator[None]:
    """Say in the contract's terms what went wrong between us and the server."""
    try:
        yield
    except (PyMongoError, BSONError) as error:
        raise in_contract_terms(address, error) from error


def in_contract_terms(address: Address, error: Exception) -> StoreError:
    """Return the error as one of the contract; of what the driver says, nothing secret."""
    said = Redactor([address.uri]).redact(_gist(error))
    if isinstance(error, OperationFailure) and not isinstance(error, BulkWriteError) and error.code in _REFUSED:
        return StoreUnusable(
            f"{address} refuses us ({said}); check the user, its password and its roles (readWrite on the database) "
            f"in {address.variable}"
        )
    if isinstance(error, ConfigurationError) and address.uri.reveal().startswith(SRV_SCHEME):
        return _not_in_dns(address)
    if isinstance(error, ServerSelectionTimeoutError):
        return StoreError(f"{address} can't be reached ({said}); start it, or correct {address.variable}")
    if isinstance(error, ExecutionTimeout | WTimeoutError) or getattr(error, "timeout", False):
        return StoreError(f"{address} took too long ({said}); try again")
    if _no_journal(error):
        return StoreUnusable(f"{address} keeps no journal, so nothing there survives a crash; switch its journal on")
    return StoreError(f"{address} failed ({said}); try again")


def _no_journal(error: Exception) -> bool:
    return isinstance(error, OperationFailure) and "does not have journaling" in str(error)


def _gist(error: Exception) -> str:
    """Return the driver's message without the server's whole answer and the driver's view of the world."""
    text = str(error).partition(", full error:")[0].partition(", Timeout:")[0].partition(" (configured timeouts:")[0]
    return f"{type(error).__name__}: {without_command(' '.join(text.split()))[:300]}"


def without_command(text: str) -> str:
    """Return what the server says of a command that it refuses, with the command's name in the place of all of it."""
    return _COMMAND.sub(r"execute command '\1'", text)

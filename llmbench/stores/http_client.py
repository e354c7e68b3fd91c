"""The way to a bridge: addresses and keys, one request at a time, and what its failures mean in the contract's terms.

Nothing is retried, no redirect is followed, no proxy is used, and no key is sent in the clear but on this machine.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx
import msgspec

from llmbench import __version__
from llmbench.error_text import clean
from llmbench.hosts import is_loopback
from llmbench.ingestion import KEY_HEADER
from llmbench.measure.transport import verifying_context
from llmbench.messages import Model
from llmbench.secrets import Redactor, Secret
from llmbench.stores.base import StoreError, StoreUnusable

MOST_OF_AN_ANSWER = 4 * 1024 * 1024
"""In bytes. No answer of a bridge is that long; whatever is longer is not read to its end."""

_IDLE_SECONDS = 3.0
"""An idle connection is closed after this; servers do so after 5 s and more, and a race would lose a request."""

_TEXT_LIMIT = 300

JSON = "application/json"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long anything may take, in seconds: ``read`` each wait for the answer, ``total`` the whole request."""

    connect: float = 5.0
    read: float = 30.0
    total: float = 60.0


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which bridge, and with which keys.

    ``worklist_url`` is where to ask what to measure of ``providers``; without one, ``seeds`` are measured. Without a
    ``worklist_key``, ``key`` is good for both, but only where both URLs lead to the same server. The variables are
    those that the keys come from, for a person to correct them.
    """

    url: str
    key: Secret
    worklist_url: str | None = None
    worklist_key: Secret | None = None
    providers: tuple[str, ...] = ()
    seeds: tuple[Model, ...] = ()
    ca_file: Path | None = None
    key_variable: str = "INGEST_API_KEY"
    worklist_key_variable: str = "RUNNER_CONFIG_TOKEN"


class Endpoint(NamedTuple):
    """One side of a bridge. ``url`` has no path of a route; ``setting`` is where a person gave it."""

    url: str
    setting: str
    header: str
    value: Secret
    variable: str

    def __str__(self) -> str:
        """Say what a person needs to find it, nothing secret."""
        return f"HTTP bridge {shown(self.url)}"


class Reply(NamedTuple):
    """An answer; names of headers are in lower case. ``whole``: the body was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        return self.content_type == JSON or self.content_type.endswith("+json")


def shown(url: str) -> str:
    """Return a URL without whatever may be secret in it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}"


def base_of(url: str, *routes: str) -> str:
    """Return the URL that all routes begin with; people give it with one of ``routes`` at its end, or without."""
    bare = url.rstrip("/")
    return next((bare.removesuffix(route).rstrip("/") for route in routes if bare.endswith(route)), bare)


def ingest_endpoint(settings: HttpSettings) -> Endpoint:
    """Return where outcomes go."""
    return Endpoint(
        url=base_of(settings.url, "/ingest/batch", "/ingest"),
        setting="INGEST_API_URL or store.http.url",
        header=KEY_HEADER,
        value=settings.key,
        variable=settings.key_variable,
    )


def worklist_endpoint(settings: HttpSettings) -> Endpoint | None:
    """Return where to ask what to measure. Raises `StoreUnusable` if there is no key that may be sent there."""
    if settings.worklist_url is None:
        return None
    key = settings.worklist_key
    if key is None and not _same_server(settings.url, settings.worklist_url):
        raise StoreUnusable(
            f"environment variable {settings.worklist_key_variable!r} is not set: set it to the key of the worklist at "
            f"{shown(settings.worklist_url)}, or unset RUNNER_CONFIG_URL and take store.http.worklist_url out",
            "auth",
        )
    return Endpoint(
        url=base_of(settings.worklist_url, "/runner-config"),
        setting="RUNNER_CONFIG_URL or store.http.worklist_url",
        header="Authorization",
        value=Secret(f"Bearer {(key or settings.key).reveal()}"),
        variable=settings.worklist_key_variable if key else settings.key_variable,
    )


def _same_server(one: str, other: str) -> bool:
    try:
        return _server_of(one) == _server_of(other)
    except ValueError:  # told by `check`
        return False


def _server_of(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower())


def check(settings: HttpSettings) -> None:
    """Refuse what can't be used, as far as that shows without asking anyone. Raises `StoreUnusable`."""
    for endpoint in (ingest_endpoint(settings), worklist_endpoint(settings)):
        if endpoint is not None and (problem := _problem(endpoint)):
            raise StoreUnusable(f"{endpoint} {problem}: correct {endpoint.setting}")


def _problem(endpoint: Endpoint) -> str | None:
    try:
        parts = urlsplit(endpoint.url)
        host, _ = parts.hostname, parts.port
        httpx.URL(endpoint.url)
    except (ValueError, httpx.InvalidURL):
        return "has no valid URL"
    if "@" in parts.netloc:
        return f"has a user name or password in its URL; the key belongs into {endpoint.variable} alone"
    if not host or parts.scheme not in ("http", "https"):
        return "has no valid URL; write it as https://bench.example"
    if parts.query or parts.fragment or endpoint.url.endswith(("?", "#")):
        return "has a query or a fragment in its URL; end it with the path"
    if parts.scheme == "http" and not is_loopback(host):
        return f"would be sent the key in {endpoint.variable} in the clear; use https://"
    return None


class Wire:
    """The connections to a bridge, for one event loop."""

    def __init__(self, settings: HttpSettings, limits: Limits) -> None:
        keys = [settings.key, *([settings.worklist_key] if settings.worklist_key else [])]
        self._redactor = Redactor(keys)
        self._limits = limits
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Get ready; nobody is asked yet. Open already is no error. Raises `StoreUnusable`."""
        check(self._settings)
        if self._client is None:
            context = await anyio.to_thread.run_sync(self._context)
            limits = self._limits
            self._client = httpx.AsyncClient(
                verify=context,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(limits.total, connect=limits.connect, read=limits.read),
                limits=httpx.Limits(keepalive_expiry=_IDLE_SECONDS),
                headers={"User-Agent": f"llmbench/{__version__}", "Accept": JSON, "Accept-Encoding": "identity"},
            )

    def _context(self) -> ssl.SSLContext:
        file = self._settings.ca_file
        try:
            return verifying_context(file)
        except OSError as error:
            raise StoreUnusable(f"store.http.ca_file is '{file}', which can't be used ({error}): correct it") from error

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.aclose()

    async def post(self, endpoint: Endpoint, route: str, body: bytes) -> Reply:
        """Send JSON. Raises `StoreError` if no answer came, `StoreUnusable` if none ever will."""
        request = self._open(endpoint).build_request("POST", endpoint.url + route, content=body)
        request.headers["Content-Type"] = JSON
        return await self._ask(endpoint, request)

    async def get(self, endpoint: Endpoint, route: str, **parameters: str) -> Reply:
        """Ask. Raises `StoreError` if no answer came, `StoreUnusable` if none ever will."""
        return await self._ask(
            endpoint, self._open(endpoint).build_request("GET", endpoint.url + route, params=parameters)
        )

    def said(self, text: str) -> str:
        """Return foreign text as it may be shown: on one line, short, without our keys."""
        return clean(self._redactor.redact(text), _TEXT_LIMIT)

    def _open(self, endpoint: Endpoint) -> httpx.AsyncClient:
        if self._client is None:
            raise StoreError(f"{endpoint} is not open; open the store first")
        return self._client

    async def _ask(self, endpoint: Endpoint, request: httpx.Request) -> Reply:
        request.headers[endpoint.header] = endpoint.value.reveal()
        try:
            with anyio.fail_after(self._limits.total):
                return await self._answer(self._open(endpoint), request)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise StoreError(f"{endpoint} took too long ({type(error).__name__}); try again") from error
        except httpx.HTTPError as error:
            raise self._broken(endpoint, error) from error

    async def _answer(self, client: httpx.AsyncClient, request: httpx.Request) -> Reply:
        response = await client.send(request, stream=True)
        try:
            body, whole = await _limited(response)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers, body, whole)

    def _broken(self, endpoint: Endpoint, error: httpx.HTTPError) -> StoreError:
        said = self.said(f"{type(error).__name__}: {error}")
        if isinstance(error, httpx.ConnectError):
            tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
            if tls is not None and not isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                return StoreUnusable(
                    f"{endpoint} can't be trusted ({said}); correct its certificate, store.http.ca_file, or "
                    f"{endpoint.setting}; nothing was sent"
                )
            return StoreError(f"{endpoint} can't be reached ({said}); start it, or correct {endpoint.setting}")
        return StoreError(f"{endpoint} broke the connection ({said}); try again")


async def _limited(response: httpx.Response) -> tuple[bytes, bool]:
    """Return the body, undecoded, and whether that is all of it."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MOST_OF_AN_ANSWER:
            return bytes(body[:MOST_OF_AN_ANSWER]), False
    return bytes(body), True


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what an error was raised from, the nearest first."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__

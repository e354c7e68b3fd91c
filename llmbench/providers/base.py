"""What a provider actor needs of an API family, and what the families share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2
import msgspec

from llmbench.catalog import RESERVED
from llmbench.measure.exchange import Exchange, Limits
from llmbench.measure.transport import StampedTransport
from llmbench.messages import Model, Profile
from llmbench.wire.events import Decoder

WARM_UP_URL = "http://warm-up.invalid/v1"
"""Never resolved: the warm-up's transport answers by itself."""


class Unusable(Exception):
    """The provider can't be measured as this machine is set up. The message says what to set, in one clause."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is ready to be sent: `send` builds it with the SDK, sends it, and enters once a good head is in.

    ``send`` raises the SDK's own exceptions; ``mode``, ``endpoint`` (the base URL that it goes to), ``temperature`` and
    ``reasoning_effort`` are what is sent, for the stored row to tell.
    """

    mode: str
    endpoint: str
    region: str | None = None
    """The cloud's region that the model is called in."""
    temperature: float | None
    reasoning_effort: str | None = None
    decoder: Callable[[], Decoder]
    send: Callable[[], AbstractAsyncContextManager[object]]


class Provider(Protocol):
    """One API at one base URL. Made outside of any measurement; belongs to one event loop."""

    name: str
    endpoint: str
    """The base URL that requests go to unless a model's region says otherwise, as the stored row tells it."""

    async def warm_up(self) -> None:
        """Do all that the SDK does only once, without touching the network."""
        ...

    def exchange(self, limits: Limits) -> Exchange:
        """Return a connection for one run, not connected yet."""
        ...

    async def check(self) -> None:
        """Make sure that credentials are at hand, without asking the API. Raises `Unusable`."""
        ...

    async def renew(self) -> None:
        """Renew what credentials need renewing soon, before each run and outside of its time and limits.

        It has a limit of its own. Raises what the provider has for credentials that can't be had.
        """
        ...

    async def connect(self, exchange: Exchange, prepared: Prepared) -> None:
        """Connect to the host that the request goes to, with nothing of it counted as the request's time.

        Raises httpx2.ConnectError and httpx2.ConnectTimeout.
        """
        ...

    def prepare(self, model: Model, profile: Profile, prompt: str) -> Prepared:
        """Choose the API for the model and lay its request out."""
        ...

    async def close(self) -> None: ...


class SdkEndpoint:
    """An API reached through SDKs' httpx2 client on the stamping transport."""

    def __init__(self, *, ca_file: Path | None = None, kernel: bool = True) -> None:
        self.transport = StampedTransport(ca_file=ca_file, kernel=kernel)
        self.client = httpx2.AsyncClient(transport=self.transport, trust_env=False, follow_redirects=False)

    def exchange(self, limits: Limits) -> Exchange:
        return self.transport.exchange(limits)

    async def connect(self, exchange: Exchange, base_url: str) -> None:
        await self.transport.connect(exchange, httpx2.URL(base_url))


def warm_up_client(content_type: str, body: bytes) -> httpx2.AsyncClient:
    """Return a client that answers every request with ``body``, and opens no socket."""

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": content_type}, content=body)

    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer), trust_env=False)


@contextmanager
def without_environment(*names: str) -> Iterator[None]:
    """Hide variables while an SDK client is made: it reads headers and addresses from them that nobody configured."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def merged(request: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with changes laid over it, at any depth; a null takes out what is there."""
    found = dict(request)
    for key, value in changes.items():
        present = found.get(key)
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            found[key] = merged(present if isinstance(present, Mapping) else {}, value)
        else:
            found[key] = value
    return found


def body_overrides(model: Model) -> Mapping[str, Any]:
    """Return the model's own request fields, as the catalogue has them, but for ``api`` and what is llmbench's own."""
    return {key: value for key, value in (model.request or {}).items() if key != "api" and key not in RESERVED}

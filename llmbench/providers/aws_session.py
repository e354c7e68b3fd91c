"""botocore on the run's exchange: an HTTP session for aiobotocore, and clients that take nothing from the machine.

botocore lays a request out and signs it; what it prepared goes over the exchange's connection byte for byte, since the
signature covers the path as it is encoded and the headers as they are written. The body of a good answer is left
alone, for whoever measures reads it from the exchange.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import aioboto3
import httpx2
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest

from llmbench.measure.exchange import Exchange, current_exchange
from llmbench.providers.aws_credentials import Bearer, Keys

_SERVICE = "bedrock-runtime"
_DEFAULT_PORTS = {"http": 80, "https": 443}

_NOTHING_OF_THE_MACHINE: Mapping[str, tuple[None, None, str | None, None]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""botocore's session variables, without the environment variables and files that they are usually taken from."""


class _Body:
    """The response's body as aiobotocore wants it; it reads only those of refusals."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self._exchange.pieces()])

    def close(self) -> None:
        """The exchange belongs to the run, which closes it."""


class ExchangeSession:
    """aiobotocore's HTTP session. Sends each request over the current exchange, which has to be connected.

    botocore's own settings (time-outs, proxies, certificates, pool) are the transport's affair, and ignored.
    """

    def __init__(self, **_settings: object) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    async def close(self) -> None:
        pass

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        """Raises httpx2.LocalProtocolError for a header that can't be written, and what the exchange raises."""
        exchange = current_exchange()
        assert exchange is not None, "a request is sent on a run's exchange only"
        await exchange.send(_serialise_head(request), _bytes(request.body or b""))
        response = await exchange.head()
        return _response(request.url, response.status, response.headers, _Body(exchange))


class CannedSession(ExchangeSession):
    """Answers by itself, and opens no socket: for a warm-up. Every second answer is a refusal."""

    _refuses = False

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        _serialise_head(request)
        self._refuses = not self._refuses
        refusal = [(b"x-amzn-errortype", b"ValidationException"), (b"content-type", b"application/json")]
        if self._refuses:
            return _response(request.url, 400, refusal, _CannedBody())
        return _response(request.url, 200, [(b"content-type", b"application/vnd.amazon.eventstream")], _CannedBody())


class _CannedBody:
    async def read(self) -> bytes:
        return b'{"message": "warm-up"}'

    def close(self) -> None:
        pass


def _response(url: str, status: int, headers: list[tuple[bytes, bytes]], body: object) -> AioAWSResponse:
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    return AioAWSResponse(url, status, named, body)


def _serialise_head(request: AWSPreparedRequest) -> bytes:
    parts = urlsplit(request.url)
    target = parts.path or "/"
    if parts.query:
        target = f"{target}?{parts.query}"
    lines = [f"{request.method} {target} HTTP/1.1".encode("ascii"), b"host: " + _host(request.url).encode("ascii")]
    lines += _header_lines(request.headers)
    if "accept-encoding" not in request.headers:
        lines.append(b"accept-encoding: identity")
    return b"\r\n".join([*lines, b"", b""])


def _host(url: str) -> str:
    """Return what botocore has signed as the host: without the scheme's own port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{parts.port}"


def _header_lines(headers: Mapping[str, str | bytes]) -> Iterator[bytes]:
    for name, value in headers.items():
        line = _bytes(name) + b": " + _bytes(value)
        if any(control in line for control in (b"\r", b"\n", b"\0")):
            # A key with a line end in it gets here; its value must not be told.
            raise httpx2.LocalProtocolError(f"the request's header {name!r} would hold a line end: copy the key again")
        yield line


def _bytes(value: str | bytes | bytearray) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else bytes(value)


@functools.cache
def _core() -> AioSession:
    return AioSession(session_vars=_NOTHING_OF_THE_MACHINE)


@functools.cache
def _session() -> aioboto3.Session:
    """Return this process's one session: it holds the API's model, which takes long to load, and no credentials."""
    return aioboto3.Session(botocore_session=_core())


@asynccontextmanager
async def open_client(
    region: str,
    endpoint: str,
    credentials: Keys | Bearer,
    headers: Mapping[str, str],
    session_class: type[ExchangeSession] = ExchangeSession,
) -> AsyncIterator[Any]:
    """Give a client for one region at one address, in about 3 ms and without a request of any kind.

    ``headers`` are in each request before it is signed, as AWS asks of its own ones. Raises botocore's
    InvalidRegionError.
    """
    keys = credentials if isinstance(credentials, Keys) else None
    async with _session().client(
        _SERVICE,
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=keys and keys.access_key,
        aws_secret_access_key=keys and keys.secret_key,
        aws_session_token=keys and keys.token,
        config=_config(session_class, "v4" if keys else UNSIGNED),
    ) as client:
        _add_headers(client, {**headers, **_authorization(credentials)})
        yield client


def _authorization(credentials: Keys | Bearer) -> dict[str, str]:
    """Return the header of an API key. botocore, told that nothing is to be signed, looks for no credentials."""
    return {"Authorization": f"Bearer {credentials.token}"} if isinstance(credentials, Bearer) else {}


def _add_headers(client: Any, headers: Mapping[str, str]) -> None:
    def add(request: Any, **_event: object) -> None:
        for name, value in headers.items():
            del request.headers[name]  # setting adds another line
            request.headers[name] = value

    if headers:
        client.meta.events.register(f"before-sign.{_SERVICE}.ConverseStream", add)


def _config(session_class: type[ExchangeSession], signature: object) -> AioConfig:
    """Return a configuration that answers each question for which botocore would look into the environment."""
    return AioConfig(
        http_session_cls=session_class,
        signature_version=signature,
        retries={"total_max_attempts": 1, "mode": "legacy"},
        defaults_mode="legacy",
        proxies={},
        use_fips_endpoint=False,
        use_dualstack_endpoint=False,
        ignore_configured_endpoint_urls=True,
        disable_request_compression=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


@functools.cache
def endpoint_of(region: str) -> str:
    """Return the address of a region's endpoint; the partition that the region is in has the domain."""
    partitions = _core().get_component("data_loader").load_data("partitions")["partitions"]
    domains = (part["outputs"]["dnsSuffix"] for part in partitions if re.fullmatch(part["regionRegex"], region))
    return f"https://{_SERVICE}.{region}.{next(domains, 'amazonaws.com')}"

"""The ways to an engine: its local socket, which takes commands, and the bridge's `/live`, which does not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx
import msgspec
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

from llmbench import __version__
from llmbench.actors.engine_requests import EngineAnswer, EngineRequest, Watch
from llmbench.actors.local_socket import address
from llmbench.error_text import clean
from llmbench.hosts import is_loopback
from llmbench.ingestion import KEY_HEADER
from llmbench.measure.transport import verifying_context
from llmbench.secrets import Redactor, Secret

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_QUIET_SECONDS = 30.0
"""Of HTTP, until the answer begins; how long events may be away is for whoever reads them."""

_CHUNK = 64 * 1024
_LONGEST_ANSWER = 64 * 1024
_TEXT_LIMIT = 300

_answers = msgspec.json.Decoder(EngineAnswer)

_ANOTHER_VERSION: Final = "the engine does not answer as this llmbench expects: is it another version?"


class NoWay(Exception):
    """The engine can't be watched or asked now. The message is a sentence, safe to show."""


class Way(Protocol):
    """A way to an engine. ``address`` names it for a person; ``commands``: the engine does what it is told over it."""

    @property
    def address(self) -> str: ...

    @property
    def commands(self) -> bool: ...

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Yield frames of live events, in chunks as they come. Raises `NoWay`."""
        ...

    async def ask(self, request: EngineRequest) -> EngineAnswer:
        """Have the engine do something. Raises `NoWay` if it can't be asked."""
        ...


class SocketWay:
    """Through the socket of an engine on this machine, of the same user."""

    commands = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = str(path)

    async def answers(self) -> bool:
        """Say whether an engine listens there."""
        try:
            async with await self._connected():
                return True
        except NoWay:
            return False

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async with await self._connected() as stream, aclosing(_chunks(stream)) as chunks:
            await _send(stream, Watch())
            yield chunks

    async def ask(self, request: EngineRequest) -> EngineAnswer:
        async with await self._connected() as stream:
            await _send(stream, request)
            return await _answer(BufferedByteReceiveStream(stream))

    async def _connected(self) -> ByteStream:
        try:
            with address(self.path.parent, self.path.name) as place, anyio.fail_after(_CONNECT_SECONDS):
                return await anyio.connect_unix(place)
        except OSError as error:
            raise NoWay(_not_there(self.path, error)) from error


class HttpWay:
    """Over HTTP: ``url`` is an engine's HTTP side, and ``key`` one that may read; ``variable`` is where it is from."""

    commands = False

    def __init__(self, url: str, key: Secret, variable: str) -> None:
        self._url = url.rstrip("/").removesuffix("/live") + "/live"
        self._key = key
        self._variable = variable
        self._redactor = Redactor([key])
        self.address = self._url

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[bytes]]:
        context = await anyio.to_thread.run_sync(verifying_context)
        headers = {"User-Agent": f"llmbench/{__version__}", KEY_HEADER: self._key.reveal()}
        headers |= {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(_QUIET_SECONDS, connect=_CONNECT_SECONDS)
        try:
            async with (
                httpx.AsyncClient(verify=context, trust_env=False, timeout=timeout) as client,
                client.stream("GET", self._url, headers=headers) as response,
            ):
                await self._check(response)
                yield response.aiter_raw()
        except httpx.TimeoutException as error:
            raise NoWay(f"{self.address} does not answer ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise NoWay(self._broken(error)) from error

    async def ask(self, request: EngineRequest) -> EngineAnswer:
        raise NoWay(
            f"over HTTP an engine can only be watched: {type(request).__name__} is for the engine's own machine"
        )

    async def _check(self, response: httpx.Response) -> None:
        """Raise `NoWay` unless these are live events."""
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.status_code == HTTPStatus.OK and kind == "text/event-stream":
            return
        if response.status_code == HTTPStatus.OK:
            raise NoWay(f"{self.address} has no live events but {self._said(kind) or 'something else'}")
        said = self._said(await _reason(response))
        raise NoWay(f"{self._refusal(response.status_code)}{f' ({said})' if said else ''}")

    def _refusal(self, status: int) -> str:
        match status:
            case HTTPStatus.UNAUTHORIZED:
                return f"{self.address} does not know the key in {self._variable}: set it to one that it knows"
            case HTTPStatus.FORBIDDEN:
                return f"the key in {self._variable} may not read: make one with llmbench keys new RUNNER --scope read"
            case HTTPStatus.NOT_FOUND:
                return f"{self.address} has no live events: give the address of an engine, which a bridge alone is not"
            case HTTPStatus.TOO_MANY_REQUESTS:
                return f"{self.address} is asked too often"
            case HTTPStatus.SERVICE_UNAVAILABLE:
                return f"{self.address} can't be read now"
            case _:
                return f"{self.address} answers with status {status}: is it the HTTP side of an engine?"

    def _broken(self, error: httpx.HTTPError) -> str:
        said = self._said(f"{type(error).__name__}: {error}")
        if isinstance(error, httpx.ConnectError):
            what = "can't be trusted" if isinstance(_root(error), ssl.SSLError) else "can't be reached"
            return f"{self.address} {what} ({said})"
        return f"{self.address} broke the connection ({said})"

    def _said(self, text: str) -> str:
        return clean(self._redactor.redact(text), _TEXT_LIMIT)


def url_problem(url: str) -> str | None:
    """Return what is wrong with the URL of an engine, None if it can be used."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        return "is no URL: write it as https://bench.example"
    if parts.scheme not in ("http", "https") or not host:
        return "is no URL: write it as https://bench.example"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "holds more than an address: a key belongs into an environment variable"
    if parts.scheme == "http" and not is_loopback(host):
        return "would be sent the key in the clear: use https://"
    return None


_START: Final = "start one with llmbench tui or llmbench --headless"


def _not_there(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return f"no engine runs: there is no {path}; {_START}"
        case ConnectionRefusedError():
            return f"no engine runs: nobody listens at {path}; {_START}"
        case PermissionError():
            return f"{path} belongs to another user: attach as that user"
        case TimeoutError():
            return f"the engine does not answer at {path}"
        case _:
            return f"no engine can be reached at {path}: {error.strerror or error}"


async def _send(stream: ByteStream, request: EngineRequest) -> None:
    try:
        with anyio.fail_after(_ANSWER_SECONDS):
            await stream.send(msgspec.json.encode(request) + b"\n")
    except TimeoutError as error:
        raise NoWay("the engine takes no request") from error
    except (anyio.BrokenResourceError, OSError):
        pass  # it may have ended with a word, which is still to be read


async def _answer(received: BufferedByteReceiveStream) -> EngineAnswer:
    try:
        with anyio.fail_after(_ANSWER_SECONDS):
            return _answers.decode(await received.receive_until(b"\n", _LONGEST_ANSWER))
    except TimeoutError as error:
        raise NoWay(f"the engine did not answer in {_ANSWER_SECONDS:g} s; it may yet do it") from error
    except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, OSError) as error:
        raise NoWay("the engine ended before it answered") from error
    except (ValueError, anyio.DelimiterNotFound) as error:
        raise NoWay(_ANOTHER_VERSION) from error


async def _chunks(stream: ByteStream) -> AsyncGenerator[bytes, None]:
    """Yield what comes. Raises `NoWay` if an answer comes in the place of events: a refusal."""
    first = True
    while True:
        try:
            chunk = await stream.receive(_CHUNK)
        except anyio.EndOfStream:
            return
        except (anyio.BrokenResourceError, OSError) as error:
            raise NoWay("the connection to the engine broke") from error
        if first and chunk.startswith(b"{"):
            raise NoWay(await _refusal(stream, chunk))
        first = False
        yield chunk


async def _refusal(stream: ByteStream, begun: bytes) -> str:
    received = BufferedByteReceiveStream(stream)
    received.feed_data(begun)
    answer = await _answer(received)
    return f"the engine says: {clean(answer.error, _TEXT_LIMIT)}" if answer.error is not None else _ANOTHER_VERSION


class _Problem(msgspec.Struct):
    reason: str = ""


async def _reason(response: httpx.Response) -> str:
    """Return the sentence in the body of a refusal, nothing if there is none."""
    body = b""
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > _LONGEST_ANSWER:
            return ""
    try:
        return msgspec.json.decode(body, type=_Problem).reason
    except (ValueError, RecursionError):
        return ""


def _root(error: BaseException) -> BaseException:
    """Return what an error came from in the beginning."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error

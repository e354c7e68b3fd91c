"""A client that hides nothing: one request on a plain socket, and what came back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from llmbench.simulator import SpawnedSimulator

LIMIT = 10.0
"""Seconds after which a silent socket fails a test."""


class Response(NamedTuple):
    """A response as it came; ``body`` is without the chunked coding, ``complete`` says that its last chunk came."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def events(self) -> list[Any]:
        """Return the payloads of the server-sent events that are JSON."""
        lines = [line[6:] for line in self.body.splitlines() if line.startswith(b"data: {")]
        return [msgspec.json.decode(line) for line in lines]

    def texts(self) -> list[str]:
        """Return the visible text of each chat chunk that has some."""
        deltas = [event["choices"][0]["delta"] for event in self.events() if event.get("choices")]
        return [delta["content"] for delta in deltas if delta.get("content")]


def chat(model: str, **more: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, **more}


def request_bytes(path: str, body: object, headers: dict[str, str] | None = None, *, method: str = "POST") -> bytes:
    """Return a request as it goes over the wire."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    fields = {"host": "sim", "authorization": "Bearer sk-test-0123456789", "content-length": str(len(data))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (fields | (headers or {})).items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """Connect to a simulator."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=LIMIT) as sock:
        yield sock


def ask(
    simulator: SpawnedSimulator,
    path: str,
    body: object = b"",
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
) -> Response:
    """Make one request and read until the response is complete or the connection ends."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(path, body, headers, method=method))
        return parse(read_response(sock))


def ask_chat(simulator: SpawnedSimulator, model: str, provider: str = "openai", /, **more: Any) -> Response:
    """Ask a provider's chat API."""
    return ask(simulator, f"/{provider}/v1/chat/completions", chat(model, **more))


def read_response(sock: socket.socket) -> bytes:
    """Return the bytes of one response. A reset ends it as a FIN does."""
    received = bytearray()
    while not _whole(bytes(received)):
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            break
        if not data:
            break
        received += data
    return bytes(received)


def read_until(sock: socket.socket, marker: bytes) -> bytes:
    """Return the bytes up to the read in which ``marker`` came."""
    received = b""
    while marker not in received:
        data = sock.recv(65536)
        assert data, f"the connection ended before {marker!r}"
        received += data
    return received


def _whole(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    lower = head.lower()
    if not separator:
        return False
    if b"transfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    length = [line.split(b":")[1] for line in lower.split(b"\r\n") if line.startswith(b"content-length")]
    return len(body) >= int(length[0]) if length else b" 204 " in head.split(b"\r\n")[0]


def parse(received: bytes) -> Response:
    """Return a response from its bytes."""
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body, complete = _unchunk(body)
    else:
        complete = True
    return Response(int(status_line.split()[1]), headers, body, complete)


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            return body, False
        if length == 0:
            return body, True
        body, data = body + rest[:length], rest[length + 2 :]
    return body, False

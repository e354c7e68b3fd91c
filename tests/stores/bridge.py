"""A little bridge for tests: a real server on loopback that keeps documents in memory and answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from llmbench.secrets import Secret
from llmbench.stores.http import HttpSettings, Limits

KEY = "llmb_0123abcd_kanarienvogel-4711"
TOKEN = "token-kanarienvogel-0815"

QUICK = Limits(connect=1.0, read=0.3, total=0.6)
"""Limits of a test that waits for them."""


class Received(NamedTuple):
    """A request as it came; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def documents(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = json.loads(self.body)
        return batch

    @property
    def ids(self) -> list[str]:
        return [document["_id"] for document in self.documents]


class Answer(NamedTuple):
    """What the bridge sends. ``hangs``: nothing at all, until the bridge ends."""

    status: int = 200
    body: Any = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}
    hangs: bool = False

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answering = Callable[[Received], Answer]


class FakeBridge:
    """Stores what it is sent, unless ``answering`` is replaced. ``requests`` are all that came, in their order."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.documents: dict[str, dict[str, Any]] = {}
        self.answering: Answering = self.taking
        self.url = ""
        self.ended = threading.Event()

    def settings(self, **changes: Any) -> HttpSettings:
        given: dict[str, Any] = {"url": self.url, "key": Secret(KEY)} | changes
        return HttpSettings(**given)

    def taking(self, received: Received) -> Answer:
        """Store the batch, and say so of each."""
        return Answer(body={"results": [self.take(document) for document in received.documents]})

    def take(self, document: dict[str, Any]) -> dict[str, Any]:
        """Store a document, and return what is to be said of it."""
        key = document["_id"]
        known = self.documents.setdefault(key, document)
        if known is document:
            return {"id": key, "status": "stored"}
        return {"id": key, "status": "duplicate" if known == document else "conflict"}

    def answers(self, *answers: Answer) -> None:
        """Give these answers, one after the other, and the last of them from then on."""
        left = list(answers)
        self.answering = lambda _: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def fake_bridge(tls: ssl.SSLContext | None = None) -> Iterator[FakeBridge]:
    """Start a bridge; it ends with the block."""
    bridge = FakeBridge()
    server = _Server(("127.0.0.1", 0), _handler(bridge))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    host = "localhost" if tls is not None else "127.0.0.1"
    bridge.url = f"{'http' if tls is None else 'https'}://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield bridge
    finally:
        bridge.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that give up are what tests are about."""


def _handler(bridge: FakeBridge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5
        wbufsize = -1  # head and body leave together, or the client's machine waits with its acknowledgement

        def do_POST(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(self.command, self.path, headers, body)
            bridge.requests.append(received)
            answer = bridge.answering(received)
            if answer.hangs:
                bridge.ended.wait()
                self.close_connection = True
                return
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            body = answer.encoded()
            own = {"Content-Length": str(len(body)), "Content-Type": answer.content_type}
            self.send_response(answer.status)
            for name, value in {**own, **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  as the base class names it
            """Say nothing."""

    return Handler


def results(ids: Sequence[str], status: str = "stored") -> list[dict[str, Any]]:
    return [{"id": key, "status": status} for key in ids]

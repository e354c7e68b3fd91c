"""A connection of the bridge: uvicorn's, with the bounds that it lacks.

uvicorn waits for ever for a request to begin, for its headers to end and for an answer to be read, takes headers of any
length, any number of connections, and requests behind one that is not answered yet, which it then loses track of.
Each is cut off here.
"""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_SECONDS = 10.0
_HEAD_BYTES = 32 * 1024
_MOST_CONNECTIONS = 1024

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)  # fmt: skip


def connection_class(max_body: int) -> type[HttpToolsProtocol]:
    """Return the class of connections for a server that takes bodies of so many bytes."""
    bounds = {"message_bytes": _HEAD_BYTES + 8 * max_body, "most": most_connections()}
    return type("BoundedConnection", (_BoundedConnection,), bounds)


def most_connections() -> int:
    """Return how many connections there may be: half of the open files of this process are for all else it does."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, soft // 2)


class _TooEarly(Exception):
    """A request began before the answer to the one before was there, or was read."""


class _BoundedConnection(HttpToolsProtocol):
    """One connection, which carries one request at a time; what comes beside a request is bounded by a timer.

    A request that comes before its turn is not looked at: the connection ends with the answer to the one before, and
    who sent it sends it again (RFC 9112, section 9.3.2).
    """

    message_bytes: int
    """The most that one request may have, chunks of one byte (each is sent as six) allowed for."""

    most: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._begun = False
        self._deaf = False
        self._arrived = 0
        self._received = 0
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._arrived = len(data)
        self._received += self._arrived
        if not self._deaf:
            super().data_received(data)
        if self.transport.is_closing():
            self._expect_head()  # who does not take the last of it is cut off, too
        elif self._in_head and self._received > _HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
            self._expect_head()
        elif self._received > self.message_bytes:
            self.transport.abort()
        elif self._in_head or self.cycle.response_complete:
            self._expect_head()

    def on_message_begin(self) -> None:
        if self.flow.write_paused:
            self._deaf = True
            self.transport.abort()
            raise _TooEarly
        if self._begun and not self.cycle.response_complete:
            self._deaf = True
            self.cycle.keep_alive = False
            raise _TooEarly
        super().on_message_begin()
        self._in_head = True
        self._received = self._arrived  # all of what it began in, which is a little more than its own

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # and not a trailer, which must not count as one
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect_nothing()
        super().on_headers_complete()
        self._begun = True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; what came too early is none of that, and the answer before it is still to come."""
        if not self._deaf:
            super().send_400_response(msg)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, an answer that nobody reads included."""
        self.transport.abort()

    def _expect_head(self) -> None:
        """Have the connection cut off unless a request's headers are there in time."""
        if self._overdue is None:
            self._overdue = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

"""A connection of the bridge: uvicorn's, with the bounds that it lacks.

uvicorn waits for ever for a request to begin or for its headers to end, takes headers of any length, and keeps a
connection whose peer reads no answer. Each is cut off here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_SECONDS = 10.0
_HEAD_BYTES = 32 * 1024

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)  # fmt: skip


def connection_class(max_body: int) -> type[HttpToolsProtocol]:
    """Return the class of connections for a server that takes bodies of so many bytes."""
    return type("BoundedConnection", (_BoundedConnection,), {"message_bytes": _HEAD_BYTES + 8 * max_body})


class _BoundedConnection(HttpToolsProtocol):
    """One connection, which carries one request at a time; what comes beside a request is bounded by a timer."""

    message_bytes: int
    """The most that one request may have, chunks of one byte (each is sent as six) allowed for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._received = 0
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._received > _HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._received > self.message_bytes:
            self.transport.abort()
        elif self._in_head or self.cycle.response_complete:
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._received = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._expect_nothing()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_head()

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

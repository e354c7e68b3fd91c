"""One HTTP/1.1 response, parsed by httptools as its bytes arrive, each body piece kept with the read it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import httptools
import httpx2

from llmbench.measure.stamps import Read

MAX_HEADER_BYTES = 64 * 1024
MAX_QUEUED_BYTES = 16 * 1024 * 1024
_SWITCHING_PROTOCOLS = 101


class BodySink(Protocol):
    """Takes body bytes in the loop's reader callback, behind their stamp. Nothing slow in here."""

    def feed(self, read: Read, data: bytes) -> bool:
        """Take one piece; True says that the stream has said all that is wanted."""
        ...


class ResponseTooLarge(httpx2.RemoteProtocolError):
    """The response's headers, or a body that nobody has taken yet, went over their cap."""


class ResponseReader:
    """Feed it reads; look at its state afterwards. It holds no socket, and one object serves one response.

    Body pieces go to the sink if there is one, otherwise they are queued for `take` up to a cap.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.http_version = b"HTTP/1.1"
        self.head_complete = False
        self.complete = False
        """The body ended as HTTP says it should, or the sink has all it wants."""
        self._parser = httptools.HttpResponseParser(self)
        self._read: Read | None = None
        self._sink: BodySink | None = None
        self._queue: list[tuple[Read, bytes]] = []
        self._queued_bytes = 0
        self._header_bytes = 0
        self.on_queued: Callable[[], None] | None = None
        """Called when a piece was queued; `take` asks for it."""
        self._length_known = False

    def feed(self, read: Read, data: bytes | memoryview) -> bool:
        """Parse one read; True once the response is complete.

        Raises httpx2.RemoteProtocolError, or what the sink raised.
        """
        self._read = read
        if not self.head_complete:
            self._count_header_bytes(len(data))
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, Exception):
                raise cause from None
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise httpx2.RemoteProtocolError(f"the response is not valid HTTP/1.1: {error}") from error
        return self.complete

    def feed_eof(self) -> None:
        """The peer closed its side. Raises httpx2.RemoteProtocolError if the response was not complete by then."""
        if self.complete:
            return
        if not self.head_complete:
            raise httpx2.RemoteProtocolError("the server closed the connection before a complete response head")
        if self._length_known:
            raise httpx2.RemoteProtocolError("the server closed the connection in the middle of the body")
        self.complete = True  # without a length, the end of the connection is the end of the body (RFC 9112, 6.3)

    def attach(self, sink: BodySink) -> None:
        """Hand queued and future pieces to ``sink``."""
        queue, self._queue = self._queue, []
        self._queued_bytes = 0
        self._sink = sink
        for read, data in queue:
            if not self._deliver(sink, read, data):
                break

    def take(self) -> list[bytes]:
        """Return the pieces queued so far and forget them."""
        queue, self._queue = self._queue, []
        self._queued_bytes = 0
        return [data for _read, data in queue]

    def _deliver(self, sink: BodySink, read: Read, data: bytes) -> bool:
        if sink.feed(read, data):
            self._sink = _EXHAUSTED
            self.complete = True
            return False
        return True

    def _count_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_HEADER_BYTES + 256 * 1024:
            raise ResponseTooLarge(f"the response's headers are larger than {MAX_HEADER_BYTES // 1024} KiB")

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if sum(len(name) + len(value) for name, value in self.headers) > MAX_HEADER_BYTES:
            raise ResponseTooLarge(f"the response's headers are larger than {MAX_HEADER_BYTES // 1024} KiB")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200 and self.status != _SWITCHING_PROTOCOLS:
            self.headers = []  # an interim response (RFC 9110, 15.2): the real one follows
            return
        self.http_version = f"HTTP/{self._parser.get_http_version()}".encode()
        self._length_known = any(n.lower() in (b"content-length", b"transfer-encoding") for n, _v in self.headers)
        self._check_encoding()
        self.head_complete = True

    def _check_encoding(self) -> None:
        encodings = [value for name, value in self.headers if name.lower() == b"content-encoding"]
        if any(value.strip().lower() not in (b"", b"identity") for value in encodings):
            raise httpx2.RemoteProtocolError(
                f"the body is compressed ({encodings[0]!r}), though identity was asked for"
            )

    def on_body(self, body: bytes) -> None:
        assert self._read is not None
        if self._sink is not None:
            self._deliver(self._sink, self._read, body)
            return
        self._queued_bytes += len(body)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            raise ResponseTooLarge(f"more than {MAX_QUEUED_BYTES // 2**20} MiB of body arrived before it was read")
        self._queue.append((self._read, body))
        if self.on_queued is not None:
            self.on_queued()

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True


class _Exhausted:
    def feed(self, read: Read, data: bytes) -> bool:
        return False


_EXHAUSTED = _Exhausted()

"""One HTTP/1.1 response, parsed by httptools as its bytes arrive, each body piece kept with the read it came from."""

from __future__ import annotations

import httptools
import httpx2

from llmbench.measure.stamps import Read

MAX_HEADER_BYTES = 64 * 1024
MAX_QUEUED_BYTES = 16 * 1024 * 1024
_SWITCHING_PROTOCOLS = 101
_NO_READ = Read(0, 0, 0, kernel=False)


class ResponseTooLarge(httpx2.RemoteProtocolError):
    """The response's headers, or a body that nobody has taken yet, went over their cap."""


class ResponseReader:
    """Feed it reads; look at its state afterwards. It holds no socket, and one object serves one response.

    Body pieces are queued, up to a cap, until someone takes them.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.http_version = b"HTTP/1.1"
        self.head_complete = False
        self.complete = False
        """The body ended as HTTP says it should."""
        self._parser = httptools.HttpResponseParser(self)
        self._read = _NO_READ
        self.queue: list[tuple[Read, bytes]] = []
        """Body pieces that nobody has taken yet."""
        self._queued_bytes = 0
        self._header_bytes = 0
        self._field_bytes = 0
        self._length_known = False

    def feed(self, read: Read, data: bytes | memoryview) -> bool:
        """Parse one read; True once the response is complete. Raises httpx2.RemoteProtocolError."""
        self._read = read
        if not self.head_complete:
            self._count_header_bytes(len(data))
        refusal = self._parse(data)
        if refusal is not None:
            raise refusal
        return self.complete

    def _parse(self, data: bytes | memoryview) -> httpx2.RemoteProtocolError | None:
        """Return what a callback refused, without the error that httptools puts around it."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, httpx2.RemoteProtocolError):
                raise
            return error.__context__
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise httpx2.RemoteProtocolError(f"the response is not valid HTTP/1.1: {error}") from error
        return None

    def feed_eof(self) -> None:
        """The peer closed its side. Raises httpx2.RemoteProtocolError if the response was not complete by then."""
        if self.complete:
            return
        if not self.head_complete:
            raise httpx2.RemoteProtocolError("the server closed the connection before a complete response head")
        if self._length_known:
            raise httpx2.RemoteProtocolError("the server closed the connection in the middle of the body")
        self.complete = True  # without a length, the end of the connection is the end of the body (RFC 9112, 6.3)

    def take(self) -> list[tuple[Read, bytes]]:
        """Return the queued pieces, each with the read it came from, and forget them."""
        queue, self.queue = self.queue, []
        self._queued_bytes = 0
        return queue

    def _count_header_bytes(self, count: int) -> None:
        self._header_bytes += count
        if self._header_bytes > MAX_HEADER_BYTES + 256 * 1024:
            raise ResponseTooLarge(f"the response's headers are larger than {MAX_HEADER_BYTES // 1024} KiB")

    # httptools' callbacks; it goes on to trailers, and to a second response, of which a run wants to know nothing

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:
            return
        self.headers.append((name, value))
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > MAX_HEADER_BYTES:
            raise ResponseTooLarge(f"the response's headers are larger than {MAX_HEADER_BYTES // 1024} KiB")

    def on_headers_complete(self) -> None:
        if self.head_complete:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200 and self.status != _SWITCHING_PROTOCOLS:
            self.headers = []  # an interim response (RFC 9110, 15.2): the real one follows
            self._field_bytes = 0
            return
        self.http_version = f"HTTP/{self._parser.get_http_version()}".encode()
        self._length_known = any(n.lower() in (b"content-length", b"transfer-encoding") for n, _v in self.headers)
        self.head_complete = True  # also if the body is refused: the status is worth telling
        self._check_encoding()

    def _check_encoding(self) -> None:
        encodings = [value for name, value in self.headers if name.lower() == b"content-encoding"]
        if any(value.strip().lower() not in (b"", b"identity") for value in encodings):
            raise httpx2.RemoteProtocolError(
                f"the body is compressed ({encodings[0]!r}), though identity was asked for"
            )

    def on_body(self, body: bytes) -> None:
        if self.complete:
            return
        self._queued_bytes += len(body)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            raise ResponseTooLarge(f"more than {MAX_QUEUED_BYTES // 2**20} MiB of body arrived before it was taken")
        self.queue.append((self._read, body))

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True

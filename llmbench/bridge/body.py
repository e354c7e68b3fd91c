"""Reading a body: JSON as it is, no longer than allowed, within its time; nothing is kept beyond the limit.

What is left of a body that was refused is thrown away as it comes, within the bounds of `llmbench.bridge.connection`:
closing the connection at once would take the answer away from a sender that is still writing.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio
from litestar.types import Receive

from llmbench.bridge.replies import Problem

Headers = Iterable[tuple[bytes, bytes]]


async def read_body(headers: Headers, receive: Receive, *, most: int, seconds: float) -> bytes:
    """Return a body of at most ``most`` bytes that comes within ``seconds``.

    Raises `Problem`: 400 (empty, or the sender left), 408, 413, 415.
    """
    declared = _declared_length(headers)
    if declared is not None and declared > most:
        raise _too_long(most)
    try:
        with anyio.fail_after(seconds):
            body = await _read(receive, most)
    except TimeoutError:
        raise Problem(408, f"body did not come within {seconds:g} s") from None
    if not body:
        raise Problem(400, "body is empty: send a JSON document")
    return body


async def _read(receive: Receive, most: int) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Problem(400, "the request ended before its body did")
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_long(most)
        more = message.get("more_body", False)
    return bytes(body)


def _too_long(most: int) -> Problem:
    return Problem(413, f"body is longer than {most} bytes: send less at a time")


def _declared_length(headers: Headers) -> int | None:
    """Return the length that the headers tell, if any. Raises `Problem` (415) for what is not plain JSON."""
    length: int | None = None
    kind = b""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            length = int(value[:19])
        elif name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Problem(415, "body is compressed: send it as it is, without Content-Encoding")
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise Problem(415, "body is encoded for its way: send it as it is, or in chunks")
    _check_type(kind)
    return length


def _check_type(value: bytes) -> None:
    kind, _, parameter = value.lower().partition(b";")
    charset = parameter.replace(b" ", b"").replace(b'"', b"")
    if kind.strip() != b"application/json" or charset not in (b"", b"charset=utf-8"):
        raise Problem(415, "content type must be application/json, in UTF-8")

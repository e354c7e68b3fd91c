"""What goes back for one request: a head, and steps to be written at their times."""

from __future__ import annotations

import http
import time
from collections.abc import Iterator
from email.utils import formatdate

import msgspec

from llmbench.simulator.flavours import Headers
from llmbench.simulator.record import RequestRecord
from llmbench.simulator.script import Ending, Step

_PADDING_LINES = 256
_PADDING_BYTES = 4096


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, complete. Header names are in lower case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    arrival_ns: int
    kernel: bool
    keep_alive: bool
    connection: int

    def header(self, name: str) -> str:
        """Return a header's value, empty if it is missing."""
        return next((value for key, value in self.headers if key == name), "")


class Reply(msgspec.Struct, kw_only=True):
    """An answer. Without a status nothing is said before the steps. ``fault`` marks what a fault word asked for."""

    status: int | None
    headers: Headers
    steps: Iterator[Step]
    chunked: bool = False
    late_head: bool = False
    big_head: bool = False
    fault: bool = False
    close: bool = False
    record: RequestRecord | None = None

    def head(self) -> bytes:
        """Return the response head."""
        if self.status is None:
            return b""
        reason = http.HTTPStatus(self.status).phrase if self.status in _PHRASES else "Overloaded"
        lines = [f"HTTP/1.1 {self.status} {reason}", f"date: {_date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunked:
            lines.append("transfer-encoding: chunked")
        if self.close:
            lines.append("connection: close")
        if self.big_head:
            lines += [f"x-padding-{number}: {'x' * _PADDING_BYTES}" for number in range(_PADDING_LINES)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


_PHRASES = {status.value for status in http.HTTPStatus}
_latest_date = (0, "")


def _date(now: int) -> str:
    global _latest_date
    if _latest_date[0] != now:
        _latest_date = (now, formatdate(now, usegmt=True))
    return _latest_date[1]


def whole(status: int, body: bytes, content_type: str, headers: Headers | None = None) -> Reply:
    """Return an answer that is written at once."""
    about = [] if status == http.HTTPStatus.NO_CONTENT else [("content-length", str(len(body)))]
    if body:
        about.append(("content-type", content_type))
    return Reply(
        status=status,
        headers=[*about, *(headers or [])],
        steps=iter([Step(0, body, ending=Ending.COMPLETE)]),
    )


def json_reply(status: int, body: object, headers: Headers | None = None) -> Reply:
    """Return an answer with a JSON body."""
    return whole(status, msgspec.json.encode(body), "application/json", headers)


def silence(ending: Ending) -> Reply:
    """Return an answer of no bytes."""
    return Reply(status=None, headers=[], steps=iter([Step(0, b"", ending=ending)]), fault=True)

"""What the bridge answers with: JSON, whatever happened, and a problem as an exception on its way there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from litestar import Response

JSON = "application/json"

ReplyBody = Response[bytes]


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of an answer that is about the request and not about a document."""

    reason: str
    status: Literal["error"] = "error"


class Problem(Exception):
    """Ends a request with this status. ``reason`` is a sentence for the sender; it must not quote a key."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def later(status: int, reason: str, seconds: float) -> Problem:
    """Return a problem that may be gone after so many seconds, which the answer tells in whole ones."""
    return Problem(status, reason, retry_after(seconds))


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to come again, in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> ReplyBody:
    """Return an answer with this body as JSON."""
    return Response(msgspec.json.encode(body), status_code=status, media_type=JSON, headers=dict(headers or {}))


def reply_to(problem: Problem) -> ReplyBody:
    return reply(ErrorAnswer(problem.reason), problem.status, problem.headers)

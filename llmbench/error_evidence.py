"""What is known of a failed run, gathered from the exception that ended it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from llmbench.error_bodies import ErrorBody, aws_code, is_html, parse_error_body, retry_after_from_headers
from llmbench.error_kinds import Fault, Limit, Phase
from llmbench.error_rules import UNROUTABLE_ERRNOS
from llmbench.error_text import clean

_CHAIN_LIMIT = 16
_LABEL_LIMIT = 200
_MESSAGE_LIMIT = 16_384
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid")
_ROOTS = frozenset({object, BaseException, Exception})


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a failure, free of any SDK's types.

    ``message`` is foreign text as it came (at most 16 Ki characters): redact and clean it before it is stored or
    shown. ``code`` and ``type`` are the provider's own words, escaped and short. ``exceptions`` are the class names
    along the chain of causes, outermost first, such as ``httpx2.ReadTimeout``; ``bases`` those of their base classes.
    ``limit`` names the limit of ours that fired, ``fault`` what our own checks of the answer found; ``html`` says
    that the body was a web page. ``profile`` is the name of what was asked. ``retry_after`` is in seconds.
    """

    provider: str
    phase: Phase
    message: str
    status: int | None = None
    code: str | None = None
    type: str | None = None
    exceptions: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    errno: int | None = None
    retry_after: float | None = None
    request_id: str | None = None
    limit: Limit | None = None
    fault: Fault | None = None
    html: bool = False
    profile: str = "default"


class _Reply(NamedTuple):
    """The part of an exception that is the provider's answer."""

    status: int | None
    code: str | None
    body: object
    headers: Mapping[str, str]
    request_id: str | None


_NO_REPLY = _Reply(None, None, None, {}, None)


def evidence_from_exception(
    provider: str, phase: Phase, error: BaseException, *, limit: Limit | None = None, fault: Fault | None = None
) -> Evidence:
    """Gather the evidence from an exception of any SDK, known by the attributes that it has.

    It follows ``__cause__``, ``__context__`` and the members of exception groups, at most 16 of them, through cycles.
    """
    chain = list(_chain(error))
    reply = next(filter(None, map(_reply, chain)), _NO_REPLY)
    body = parse_error_body(reply.body)
    names = tuple(_name(type(link)) for link in chain)
    return Evidence(
        provider=provider,
        phase=phase,
        status=reply.status,
        code=body.code or reply.code,
        type=body.type,
        message=_message(chain, reply, body),
        exceptions=names,
        bases=_bases(chain, names),
        errno=_errno(chain),
        retry_after=retry_after_from_headers(reply.headers),
        request_id=reply.request_id,
        limit=limit,
        fault=fault,
        html=is_html(reply.body),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and what led to it, each once, outermost first."""
    pending, seen = deque([error]), set[int]()
    while pending and len(seen) < _CHAIN_LIMIT:
        link = pending.popleft()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            pending.extend(link.exceptions[:_CHAIN_LIMIT])
        # httpcore hides the socket's own error by ``raise … from None``; the context still has it.
        if (origin := link.__cause__ or link.__context__) is not None:
            pending.append(origin)


def _name(cls: type[BaseException]) -> str:
    package = cls.__module__.partition(".")[0]
    return cls.__qualname__ if package == "builtins" else f"{package}.{cls.__qualname__}"


def _bases(chain: list[BaseException], names: tuple[str, ...]) -> tuple[str, ...]:
    classes = (cls for link in chain for cls in type(link).__mro__[1:] if cls not in _ROOTS)
    return tuple(name for name in dict.fromkeys(map(_name, classes)) if name not in names)


def _errno(chain: list[BaseException]) -> int | None:
    """Return the telling errno: of several addresses tried, one that was reached says more than one without a route.

    The numbers of name resolution and of TLS are of another sort and don't count.
    """
    numbers = [link.errno for link in chain if isinstance(link, OSError) and _is_os_error(link)]
    told = [number for number in numbers if number is not None and number > 0]
    return next((number for number in told if number not in UNROUTABLE_ERRNOS), next(iter(told), None))


def _is_os_error(error: OSError) -> bool:
    return not any(cls.__module__ in ("socket", "ssl") for cls in type(error).__mro__)


def _reply(error: BaseException) -> _Reply | None:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return _botocore_reply(response)
    status = _status(error, response)
    code, body = _own_code(error), _body(error)
    if not isinstance(error, Exception) or (status, code, body) == (None, None, None):
        return None
    headers = _headers(getattr(response, "headers", None))
    return _Reply(status, code or _aws_header(headers), body, headers, _request_id(error, headers))


def _botocore_reply(response: Mapping[str, Any]) -> _Reply:
    """Read botocore's ``ClientError.response``; an ``EventStreamError`` has no ``ResponseMetadata``."""
    metadata = response.get("ResponseMetadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    status = _as_status(metadata.get("HTTPStatusCode"))
    return _Reply(
        status,
        None,
        _botocore_body(response.get("Error"), status),
        _headers(metadata.get("HTTPHeaders")),
        _first_label([metadata.get("RequestId")]),
    )


def _botocore_body(error: object, status: int | None) -> object:
    """Return what the body said; botocore puts a page in place of the message, and the status in place of a code."""
    error = error if isinstance(error, Mapping) else {}
    code, message = error.get("Code"), error.get("Message")
    code = None if code == str(status) else code
    if code is None and (not message or is_html(message)):
        return message or ""
    return {"code": code, "message": message}


def _status(error: BaseException, response: object) -> int | None:
    """Return the HTTP status, wherever the SDK keeps it: openai, httpx, aiohttp, google-genai."""
    places = ((error, "status_code"), (response, "status_code"), (error, "status"), (error, "code"))
    return next(filter(None, (_as_status(getattr(owner, name, None)) for owner, name in places)), None)


def _as_status(value: object) -> int | None:
    return int(value) if isinstance(value, int) and 100 <= value <= 599 else None


def _own_code(error: BaseException) -> str | None:
    """Return a code that the exception has but its body may not: google-genai's status, the name of gRPC's."""
    grpc_name = getattr(getattr(error, "grpc_status_code", None), "name", None)
    status = None if _is_no_json(getattr(error, "details", None)) else getattr(error, "status", None)
    return _first_label((getattr(error, "code", None), status, grpc_name))


def _body(error: BaseException) -> object:
    """Return the body that the SDK kept: ``body`` in openai and anthropic, ``details`` in google-genai."""
    body = getattr(error, "body", None)
    details = getattr(error, "details", None)
    if body is not None or not isinstance(details, Mapping):
        return body
    return details["message"] if _is_no_json(details) else details


def _is_no_json(details: object) -> bool:
    """Say whether google-genai made this up of a body that is no JSON, and of the status line's words."""
    return isinstance(details, Mapping) and details.keys() == {"message", "status"}


def _headers(headers: object) -> Mapping[str, str]:
    if not isinstance(headers, Mapping):
        return {}
    return {str(name).lower(): value for name, value in headers.items() if isinstance(value, str)}


def _aws_header(headers: Mapping[str, str]) -> str | None:
    shape = headers.get("x-amzn-errortype")
    return None if shape is None else clean(aws_code(shape), _LABEL_LIMIT)


def _request_id(error: BaseException, headers: Mapping[str, str]) -> str | None:
    own = getattr(error, "request_id", None)
    candidates = (own, *(headers.get(name) for name in _REQUEST_ID_HEADERS))
    return _first_label(candidates)


def _first_label(candidates: Iterable[object]) -> str | None:
    return next((clean(value, _LABEL_LIMIT) for value in candidates if isinstance(value, str) and value), None)


def _message(chain: list[BaseException], reply: _Reply, body: ErrorBody) -> str:
    if body.message:
        return body.message
    if reply.status is not None and reply.body is not None and not reply.body:
        return f"HTTP {reply.status} with an empty body"
    return ": ".join(_texts(chain))[:_MESSAGE_LIMIT] or _name(type(chain[0]))


def _texts(chain: list[BaseException]) -> list[str]:
    """Return what the links say, without what one of those before has said already."""
    told: list[str] = []
    for link in chain:
        text = "" if _is_cancellation(link) else str(link).strip().rstrip(".")
        if text and not any(text in earlier for earlier in told):
            told.append(text)
    return told


def _is_cancellation(error: BaseException) -> bool:
    """Say whether this is how a time-out of anyio or asyncio looks inside; its text is an address in memory."""
    return type(error).__name__ == "CancelledError"

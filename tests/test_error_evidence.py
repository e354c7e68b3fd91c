"""Evidence from other libraries' exceptions, and from chains and groups of them."""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import anyio
import httpx
import httpx2
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench.errors import Phase, classify, evidence_from_exception
from llmbench.measure.response import ResponseTooLarge


def foreign(module: str, name: str, *args: Any, **kwargs: Any) -> Exception:
    """Return an exception of a library without type information."""
    error: Exception = getattr(importlib.import_module(module), name)(*args, **kwargs)
    return error


def client_error(code: str, status: int | None) -> Exception:
    """Return botocore's error as its parser makes it; inside a stream it has no metadata."""
    answer: dict[str, Any] = {"Error": {"Code": code, "Message": "said"}}
    if status is not None:
        headers = {"retry-after": "4"}
        answer["ResponseMetadata"] = {"HTTPStatusCode": status, "RequestId": "r-1", "HTTPHeaders": headers}
    name = "ClientError" if status is not None else "EventStreamError"
    return foreign("botocore.exceptions", name, answer, "ConverseStream")


def genai_error() -> Exception:
    """Return google-genai's error for a quota, as the client raises it."""
    body = {"error": {"code": 429, "message": "Resource exhausted.", "status": "RESOURCE_EXHAUSTED"}}
    headers = {"retry-after": "4"}
    return foreign("google.genai.errors", "ClientError", 429, body, httpx2.Response(429, json=body, headers=headers))


@pytest.mark.parametrize(
    ("make", "phase", "status", "code", "kind", "cause"),
    [
        (
            lambda: client_error("ThrottlingException", 429),
            "headers",
            429,
            "ThrottlingException",
            "rate_limit",
            "rate_limited",
        ),
        (
            lambda: client_error("throttlingException", None),
            "body",
            None,
            "throttlingException",
            "rate_limit",
            "stream_error",
        ),
        (lambda: client_error("503", 503), "headers", 503, None, "transient_provider", "server_error"),
        (genai_error, "headers", 429, "RESOURCE_EXHAUSTED", "rate_limit", "rate_limited"),
        (
            lambda: foreign("google.api_core.exceptions", "ResourceExhausted", "Quota exceeded"),
            "headers",
            429,
            "RESOURCE_EXHAUSTED",
            "rate_limit",
            "rate_limited",
        ),
    ],
    ids=["botocore", "botocore in stream", "botocore without JSON", "google-genai", "google.api_core"],
)
def test_other_sdks_refusals_are_read(
    make: Callable[[], Exception], phase: Phase, status: int | None, code: str | None, kind: str, cause: str
) -> None:
    """The refusals of botocore and Google's clients are known by their attributes; a status is no code."""
    evidence = evidence_from_exception("bedrock", phase, make())

    result = classify(evidence)

    assert (status, code) == (evidence.status, evidence.code)
    assert (kind, cause) == (result.kind, result.cause)


def test_botocores_metadata_is_kept() -> None:
    """Request id and delay come out of botocore's response dictionary."""
    evidence = evidence_from_exception("bedrock", "headers", client_error("ThrottlingException", 429))

    assert (evidence.request_id, evidence.retry_after, evidence.message) == ("r-1", 4.0, "said")


def connector_error(name: str, cause: Exception) -> Exception:
    """Return one of aiohttp's errors of connecting."""
    key = aiohttp.client_reqrep.ConnectionKey("h", 443, True, True, None, None, None)
    error: Exception = getattr(aiohttp, name)(key, cause)
    return error


class Stalled(httpx2.ReadTimeout):
    """A subclass that no rule knows by name."""


@pytest.mark.parametrize(
    ("error", "phase", "kind", "cause"),
    [
        (httpx.ReadTimeout(""), "body", "timeout", "idle_timeout"),
        (httpx.ConnectError("no"), "connect", "network", "unreachable"),
        (Stalled(""), "body", "timeout", "idle_timeout"),
        (aiohttp.ClientPayloadError("cut"), "body", "malformed_stream", "truncated"),
        (aiohttp.SocketTimeoutError("late"), "body", "timeout", "idle_timeout"),
        (connector_error("ClientConnectorDNSError", socket.gaierror(-2, "unknown")), "connect", "network", "dns"),
        (connector_error("ClientConnectorCertificateError", ssl.CertificateError("bad")), "connect", "network", "tls"),
        (connector_error("ClientConnectorError", OSError(5, "no")), "connect", "network", "unreachable"),
        (ResponseTooLarge("the response's headers are larger than 64 KiB"), "headers", "malformed_stream", "too_large"),
        (httpx2.ProxyError("503"), "connect", "network", "protocol"),
        (openai.APITimeoutError(httpx2.Request("POST", "http://h")), "headers", "timeout", "idle_timeout"),
        (openai.APIConnectionError(request=httpx2.Request("POST", "http://h")), "send", "network", "unreachable"),
        (aiohttp.ServerDisconnectedError(), "headers", "network", "reset"),
        (
            foreign("botocore.exceptions", "EndpointConnectionError", endpoint_url="u"),
            "connect",
            "network",
            "unreachable",
        ),
        (
            foreign("botocore.exceptions", "ConnectTimeoutError", endpoint_url="u"),
            "connect",
            "network",
            "connect_timeout",
        ),
        (foreign("botocore.exceptions", "ReadTimeoutError", endpoint_url="u"), "headers", "timeout", "idle_timeout"),
        (foreign("botocore.exceptions", "NoCredentialsError"), "send", "auth", "auth"),
        (foreign("botocore.exceptions", "ProfileNotFound", profile="p"), "send", "configuration", "bad_request"),
        (foreign("google.auth.exceptions", "DefaultCredentialsError", "none"), "send", "auth", "auth"),
        (foreign("httptools", "HttpParserInvalidStatusError", "?"), "headers", "network", "protocol"),
        (anyio.EndOfStream(), "body", "malformed_stream", "truncated"),
        (ssl.SSLEOFError(8, "EOF"), "body", "malformed_stream", "truncated"),
        (ssl.SSLEOFError(8, "EOF"), "tls", "network", "tls"),
        (TimeoutError(), "resolve", "network", "dns"),
        (TimeoutError(), "connect", "network", "connect_timeout"),
        (msgspec.ValidationError("Expected `str`"), "body", "malformed_stream", "malformed"),
        (FileNotFoundError(errno.ENOENT, "no ca.pem"), "connect", "configuration", "bad_request"),
        (MemoryError(), "body", "local", "local_resource"),
        (asyncio.CancelledError(), "body", "local", "cancelled"),
        (KeyError("choices"), "body", "internal", "internal"),
        (type("Unheard", (Exception,), {})("of"), "body", "unknown", "unknown"),
        (type("Foreign", (ValueError,), {})("value"), "body", "unknown", "unknown"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_exceptions_are_known_by_class(error: BaseException, phase: Phase, kind: str, cause: str) -> None:
    """Each library's exceptions, and subclasses of them, get their cause; strangers stay unknown."""
    evidence = evidence_from_exception("vertex", phase, error)

    result = classify(evidence)

    assert (kind, cause) == (result.kind, result.cause)
    assert evidence.message


def group(*numbers: int) -> OSError:
    """Return what anyio raises when no address of a host could be connected to."""
    errors = [OSError(number, os.strerror(number)) for number in numbers]
    failure = OSError("All connection attempts failed")
    failure.__cause__ = ExceptionGroup("multiple connection attempts failed", errors)
    return failure


@pytest.mark.parametrize(
    ("numbers", "cause"),
    [
        ((errno.ENETUNREACH, errno.ECONNREFUSED), "connect_refused"),
        ((errno.ECONNREFUSED, errno.ENETUNREACH), "connect_refused"),
        ((errno.ENETUNREACH, errno.ENETUNREACH), "local_resource"),
    ],
)
def test_the_address_that_was_reached_counts(numbers: tuple[int, ...], cause: str) -> None:
    """No route for IPv6 is no fault of this machine's if the IPv4 address refused."""
    assert cause == classify(evidence_from_exception("groq", "connect", group(*numbers))).cause


def test_nothing_is_said_twice() -> None:
    """A wrapper that quotes its cause has said it; what only the cause says is added."""
    failure = httpx2.ConnectError("resolve failed for h:443: [Errno -2] Name or service not known")
    failure.__cause__ = socket.gaierror(-2, "Name or service not known")
    failure.__cause__.__cause__ = OSError("no route to the name server")

    assert evidence_from_exception("groq", "resolve", failure).message == (
        "resolve failed for h:443: [Errno -2] Name or service not known: no route to the name server"
    )


@pytest.mark.parametrize(("number", "cause"), [(errno.ECONNREFUSED, "connect_refused"), (errno.EPIPE, "unreachable")])
def test_a_summary_of_failed_addresses_is_read(number: int, cause: str) -> None:
    """A connector that only lists in words what it met at each address still tells that one of them refused."""
    failure = httpx2.ConnectError("connect failed")
    failure.__cause__ = OSError(f"Multiple exceptions: [Errno {errno.ENETUNREACH}] no, [Errno {number}] no")

    assert cause == classify(evidence_from_exception("groq", "connect", failure)).cause


def test_a_wrapped_refusal_is_found_in_a_group() -> None:
    """A task group wraps what its tasks raise; the refusal inside still decides."""
    body = {"message": "m", "code": "insufficient_quota"}
    refusal = openai.RateLimitError(
        "m", response=httpx2.Response(429, request=httpx2.Request("POST", "http://h")), body=body
    )

    evidence = evidence_from_exception("groq", "headers", ExceptionGroup("unhandled errors in a TaskGroup", [refusal]))

    assert evidence.exceptions == ("ExceptionGroup", "openai.RateLimitError")
    assert (evidence.status, classify(evidence).kind) == (429, "billing")


@given(st.lists(st.builds(Exception, st.text(max_size=5)), min_size=1, max_size=40), st.data())
def test_any_chain_is_followed_to_an_end(errors: list[Exception], data: st.DataObject) -> None:
    """Chains that are long, branch, or bite their own tail give bounded evidence."""
    for error in errors:
        error.__cause__ = data.draw(st.none() | st.sampled_from(errors))
        error.__context__ = data.draw(st.none() | st.sampled_from(errors))

    evidence = evidence_from_exception("groq", "body", errors[0])

    assert 1 <= len(evidence.exceptions) <= 16
    assert evidence.message


def test_labels_are_fit_to_be_shown() -> None:
    """Codes and request ids are escaped and short when they come into the evidence."""
    body = {"code": "a\x1b[31m" + "b" * 500, "type": "t\n", "message": "m"}
    request = httpx2.Request("POST", "http://h")
    refusal = openai.BadRequestError("m", response=httpx2.Response(400, request=request), body=body)

    evidence = evidence_from_exception("groq", "headers", refusal)

    assert evidence.code is not None
    assert evidence.code.startswith("a\\x1b[31mbbb")
    assert len(evidence.code) == 200
    assert evidence.type == "t\\n"

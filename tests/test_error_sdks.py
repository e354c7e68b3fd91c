"""Evidence from the exceptions of the openai and anthropic SDKs, against a server on loopback."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import anyio
import httpx2
import msgspec
import openai
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener

from llmbench.errors import Classification, Evidence, Phase, classify, evidence_from_exception
from tests.test_errors import PROVIDERS, body_bytes, cases

Script = Callable[[SocketStream, bytes], Awaitable[None]]
Call = Callable[[str, httpx2.AsyncClient], Awaitable[None]]

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def ask_openai(url: str, http: httpx2.AsyncClient) -> None:
    """Make one streaming request with the openai SDK and read the raw body, as a run does."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="test", max_retries=0, http_client=http)
    request = client.chat.completions.with_streaming_response.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )
    async with request as response:
        async for _ in response.http_response.aiter_raw():
            pass


async def ask_anthropic(url: str, http: httpx2.AsyncClient) -> None:
    """Make one streaming request with the anthropic SDK and read the raw body, as a run does."""
    client = anthropic.AsyncAnthropic(base_url=url, api_key="test", max_retries=0, http_client=http)
    request = client.messages.with_streaming_response.create(
        model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}], stream=True
    )
    async with request as response:
        async for _ in response.http_response.aiter_raw():
            pass


BOTH = pytest.mark.parametrize("ask", [ask_openai, ask_anthropic])


async def error_of(awaitable: Awaitable[None]) -> Exception:
    """Return what the call raises; it must raise."""
    try:
        await awaitable
    except (openai.OpenAIError, anthropic.AnthropicError, httpx2.HTTPError, OSError, TypeError) as error:
        return error
    raise AssertionError("the call was expected to fail")


async def _handle(stream: SocketStream, script: Script) -> None:
    async with stream:
        head = b""
        while b"\r\n\r\n" not in head:
            try:
                head += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return
        await script(stream, head)


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server on loopback that lets ``script`` answer each request; yield its address."""
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    served = TLSListener(listener, tls) if tls else listener
    async with served, anyio.create_task_group() as tasks:
        tasks.start_soon(served.serve, lambda stream: _handle(stream, script))
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


def client(transport: httpx2.AsyncBaseTransport | None = None, timeout: float = 5.0) -> httpx2.AsyncClient:
    """Return an HTTP client that ignores the environment."""
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False)


async def close(stream: SocketStream, head: bytes) -> None:
    """Answer nothing; the connection is then closed in good order."""


async def reset(stream: SocketStream, head: bytes) -> None:
    """Answer nothing; closing then resets the connection."""
    stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def stall(stream: SocketStream, head: bytes) -> None:
    """Answer nothing and keep the connection."""
    await anyio.sleep_forever()


async def junk(stream: SocketStream, head: bytes) -> None:
    """Answer in another protocol."""
    await stream.send(b"SSH-2.0-OpenSSH_9.7\r\n\r\n")


def after_a_chunk(then: Script) -> Script:
    """Begin a good stream, then do something else."""

    async def script(stream: SocketStream, head: bytes) -> None:
        await stream.send(STREAM_HEAD + b"8\r\ndata: {}\r\n")
        await then(stream, head)

    return script


async def bad_chunk(stream: SocketStream, head: bytes) -> None:
    """Send a chunk whose size is not a number."""
    await stream.send(b"zz\r\n")


def response(case: dict[str, Any]) -> bytes:
    """Return the whole HTTP response of a fixture."""
    body = body_bytes(case)
    kind = "text/html" if isinstance(case["body"], str) else "application/json"
    headers = {"content-type": kind, "content-length": str(len(body)), **case.get("headers", {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {case['status']} Said\r\n{lines}\r\n".encode() + body


def summary(evidence: Evidence, result: Classification) -> dict[str, Any]:
    """Return what the fixtures lay down, in their words."""
    return {
        "status": evidence.status,
        "kind": result.kind,
        "cause": result.cause,
        "code": evidence.code,
        "type": evidence.type,
        "retry_after": evidence.retry_after,
    }


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_sdks_lose_nothing_of_a_refusal(provider: str) -> None:
    """A refusal that comes as the SDK's exception gives the same evidence and kind as its body read by hand."""
    refusals = [case for case in cases(provider) if case["status"] != 200]
    ask = ask_anthropic if provider == "anthropic" else ask_openai

    async def answer(stream: SocketStream, head: bytes) -> None:
        number = int(head.split(b"/")[1])
        await stream.send(response(refusals[number]))

    seen, expected = {}, {}
    async with client() as http, serving(answer) as url:
        for number, case in enumerate(refusals):
            error = await error_of(ask(f"{url}/{number}", http))
            evidence = evidence_from_exception(provider, "headers", error)
            seen[case["name"]] = summary(evidence, classify(evidence))
            wanted = {"retry_after": None, "status": case["status"], **case["expect"]}
            assert wanted.pop("message", "") in evidence.message
            wanted.pop("advice", None)
            expected[case["name"]] = wanted
            assert evidence.exceptions[0].startswith(("openai.", "anthropic."))

    assert expected == seen


@BOTH
@pytest.mark.parametrize(
    ("script", "phase", "kind", "cause", "stage"),
    [
        (close, "headers", "network", "protocol", "generate"),
        (reset, "headers", "network", "reset", "generate"),
        (junk, "headers", "network", "protocol", "generate"),
        (stall, "headers", "timeout", "idle_timeout", "timeout"),
        (after_a_chunk(stall), "body", "timeout", "idle_timeout", "timeout"),
        (after_a_chunk(close), "body", "malformed_stream", "truncated", "generate"),
        (after_a_chunk(reset), "body", "malformed_stream", "truncated", "generate"),
        (after_a_chunk(bad_chunk), "body", "network", "protocol", "generate"),
    ],
    ids=["close", "reset", "junk", "stall", "later stall", "later close", "later reset", "bad chunk"],
)
async def test_a_broken_connection_is_named(
    ask: Call, script: Script, phase: Phase, kind: str, cause: str, stage: str
) -> None:
    """What happens to a real connection gets its own cause, wrapped by the SDK or not."""
    async with client(timeout=0.2) as http, serving(script) as url:
        error = await error_of(ask(url, http))

    result = classify(evidence_from_exception("groq", phase, error))

    assert (kind, cause, stage) == (result.kind, result.cause, result.stage)


@BOTH
async def test_a_refused_connection_is_named(ask: Call, free_tcp_port: int) -> None:
    """Nothing listens: the cause is found under three wrappers, with its errno and a message that says where."""
    async with client() as http:
        error = await error_of(ask(f"http://127.0.0.1:{free_tcp_port}", http))

    evidence = evidence_from_exception("groq", "connect", error)

    result = classify(evidence)
    assert (result.kind, result.cause, result.stage) == ("network", "connect_refused", "connect")
    assert evidence.errno == errno.ECONNREFUSED
    assert "httpx2.ConnectError" in evidence.exceptions
    assert evidence.exceptions[-1] == "ConnectionRefusedError"
    assert str(free_tcp_port) in evidence.message


@BOTH
async def test_an_unknown_host_is_named(ask: Call) -> None:
    """A host that can't be resolved is `dns`; the resolver's number is no errno."""
    async with client() as http:
        error = await error_of(ask("http://llmbench.invalid", http))

    evidence = evidence_from_exception("groq", "resolve", error)

    result = classify(evidence)
    assert (result.kind, result.cause, result.stage) == ("network", "dns", "connect")
    assert "socket.gaierror" in evidence.exceptions
    assert evidence.errno is None


@BOTH
async def test_an_untrusted_certificate_is_named(ask: Call) -> None:
    """A certificate of an unknown authority is `tls`, and the message says what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with client() as http, serving(close, context) as url:
        error = await error_of(ask(url, http))

    evidence = evidence_from_exception("groq", "tls", error)

    result = classify(evidence)
    assert (result.kind, result.cause, result.stage) == ("network", "tls", "connect")
    assert "ssl.SSLCertVerificationError" in evidence.exceptions
    assert "certificate verify failed" in evidence.message
    assert "providers.groq.ca_file" in result.advice


@BOTH
async def test_a_handshake_cut_off_is_named(ask: Call) -> None:
    """A server that hangs up in the middle of the handshake is `tls` too."""

    async def hang_up(stream: SocketStream) -> None:
        await stream.receive(1)
        await stream.aclose()

    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with client() as http, listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hang_up)
        error = await error_of(ask(f"https://127.0.0.1:{port}", http))
        tasks.cancel_scope.cancel()

    result = classify(evidence_from_exception("groq", "tls", error))

    assert (result.kind, result.cause) == ("network", "tls")


@BOTH
@pytest.mark.parametrize(
    ("raised", "phase", "kind", "cause"),
    [
        (httpx2.ConnectTimeout(""), "connect", "network", "connect_timeout"),
        (httpx2.PoolTimeout(""), "connect", "local", "local_resource"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "connect", "local", "local_resource"),
        (OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)), "connect", "local", "local_resource"),
        (TypeError("'NoneType' object is not callable"), "send", "internal", "internal"),
        (httpx2.UnsupportedProtocol("ftp"), "connect", "configuration", "bad_request"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_what_a_transport_raises_is_named(
    ask: Call, raised: Exception, phase: Phase, kind: str, cause: str
) -> None:
    """An error out of the transport is found though one SDK wraps what the other lets through."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise raised

    async with client(httpx2.MockTransport(fail)) as http:
        error = await error_of(ask("http://127.0.0.1", http))

    result = classify(evidence_from_exception("groq", phase, error))

    assert (kind, cause) == (result.kind, result.cause)


async def test_the_limit_of_a_run_is_its_total_timeout() -> None:
    """A stream that our own total limit cut off is `total_timeout`, not whatever the cancelled read looked like."""
    async with client() as http, serving(after_a_chunk(stall)) as url:
        with pytest.raises(TimeoutError) as caught, anyio.fail_after(0.05):
            await ask_openai(url, http)

    evidence = evidence_from_exception("groq", "body", caught.value, limit="total")

    assert classify(evidence).cause == "total_timeout"
    assert classify(msgspec.structs.replace(evidence, limit=None)).cause == "total_timeout"


async def test_request_id_and_delay_are_kept() -> None:
    """A refusal's request id and the delay that it asks for are part of the evidence."""
    refusal = {"status": 429, "headers": {"X-Request-Id": "req_1", "Retry-After": "7"}, "body": "slow"}

    async def answer(stream: SocketStream, head: bytes) -> None:
        await stream.send(response(refusal))

    async with client() as http, serving(answer) as url:
        evidence = evidence_from_exception("groq", "headers", await error_of(ask_openai(url, http)))

    assert (evidence.request_id, evidence.retry_after) == ("req_1", 7.0)


async def test_the_sdks_own_stream_errors_are_in_stream() -> None:
    """An error object that the SDK's decoder met inside a 200 is classified by its code, as `stream_error`."""
    body = json.dumps({"error": {"message": "boom", "type": "insufficient_quota", "code": "insufficient_quota"}})

    async def answer(stream: SocketStream, head: bytes) -> None:
        data = f"data: {body}\n\n".encode()
        await stream.send(STREAM_HEAD + f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")

    async def decode(url: str, http: httpx2.AsyncClient) -> None:
        sdk = openai.AsyncOpenAI(base_url=url, api_key="test", max_retries=0, http_client=http)
        async for _ in await sdk.chat.completions.create(model="m", messages=[], stream=True):
            pass

    async with client() as http, serving(answer) as url:
        error = await error_of(decode(url, http))

    result = classify(evidence_from_exception("openai", "body", error))

    assert (result.kind, result.cause) == ("billing", "stream_error")

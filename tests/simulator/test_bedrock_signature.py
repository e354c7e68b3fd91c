"""The simulator's own reading of Signature Version 4, against botocore's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.sigv4 import EXPIRED_SESSION_TOKEN, Refusal, Signed, verify
from tests.simulator.bedrock import QUICK, UNSIGNED, conversation, converse, converse_path, signed_headers
from tests.simulator.support import ask, request_bytes

BODY = b'{"messages":[]}'
PATH = converse_path("arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3Ainference-profile%2Fus.sim")


def _signed(path: str = PATH, **more: Any) -> Signed:
    headers = {"host": "sim", **signed_headers(path, BODY, **more)}
    return Signed("POST", path, list(headers.items()), BODY)


def _with(request: Signed, **headers: str) -> Signed:
    fields = dict(request.headers) | {name.replace("_", "-"): value for name, value in headers.items()}
    return request._replace(headers=list(fields.items()))


def _verify(request: Signed, seconds: float = 0) -> Refusal | None:
    return verify(request, datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "path", [PATH, converse_path("sim-tok3-v1%3A0"), "/bedrock/x?b=2&a=1%2F&a=0&c", "/bedrock/a~b"]
)
def test_a_request_that_botocore_signed_is_let_in(path: str) -> None:
    """Encoded ids, and query strings in any order."""
    assert _verify(_signed(path)) is None


def test_session_tokens_and_other_headers_may_be_signed_too() -> None:
    """Values are compared with their spaces squeezed."""
    assert _verify(_signed(token="any-token", headers={"x-amz-note": "a   b "})) is None


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (290, None),
        (-290, None),
        (310, "Signature expired: "),
        (-310, "Signature not yet current: "),
    ],
)
def test_a_clock_may_be_five_minutes_off(seconds: int, message: str | None) -> None:
    """A signature of another time is refused, in words that say which way the clocks differ."""
    refusal = _verify(_signed(), seconds)
    if message is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.exception == "InvalidSignatureException"
        assert refusal.message.startswith(message)


def test_the_wording_of_an_expired_signature() -> None:
    """It names the three times, so that a person sees by how much the clock is off."""
    request = _with(_signed(), x_amz_date="20250101T000000Z")
    claim = dict(request.headers)["authorization"].split("/")[1]
    request = _with(request, authorization=dict(request.headers)["authorization"].replace(claim, "20250101"))
    refusal = verify(request, datetime(2025, 1, 1, 0, 10, tzinfo=UTC))
    assert refusal == Refusal(
        "InvalidSignatureException",
        "Signature expired: 20250101T000000Z is now earlier than 20250101T000500Z (20250101T001000Z - 5 min.)",
    )


Tamper = Callable[[Signed], Signed]


@pytest.mark.parametrize(
    ("tamper", "exception", "message"),
    [
        (lambda r: r._replace(body=b"other"), "InvalidSignatureException", "does not match the signature you provided"),
        (lambda r: r._replace(method="PUT"), "InvalidSignatureException", "does not match the signature you provided"),
        (lambda r: r._replace(target="/x"), "InvalidSignatureException", "does not match the signature you provided"),
        (
            lambda r: _with(r, x_amz_content_sha256=hashlib.sha256(b"other").hexdigest()),
            "InvalidSignatureException",
            "does not match the calculated hash",
        ),
        (lambda r: _with(r, x_amz_date="20250101T000000Z"), "InvalidSignatureException", "Date in Credential scope"),
        (lambda r: _with(r, x_amz_date="today"), "IncompleteSignatureException", "basic format"),
        (lambda r: _with(r, x_amz_security_token="t"), "InvalidSignatureException", "'x-amz-security-token' must be"),
        (lambda r: _with(r, authorization=""), "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (lambda r: _with(r, authorization="Basic abc"), "IncompleteSignatureException", "AWS4-HMAC-SHA256"),
        (
            lambda r: _with(r, authorization="AWS4-HMAC-SHA256 Credential=a/b"),
            "IncompleteSignatureException",
            "requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.",
        ),
        (
            lambda r: _with(r, authorization="AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0"),
            "IncompleteSignatureException",
            "5 slash-delimited elements",
        ),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_refused(tamper: Tamper, exception: str, message: str) -> None:
    """Each refusal has the name and the words that AWS has for it."""
    refusal = _verify(tamper(_signed()))
    assert refusal is not None
    assert refusal.exception == exception
    assert message in refusal.message


@pytest.mark.parametrize(
    ("credentials", "exception"),
    [
        ({"key": "AKIAOTHER"}, "UnrecognizedClientException"),
        ({"secret": "wrong"}, "InvalidSignatureException"),
        ({"service": "s3"}, "InvalidSignatureException"),
        ({"token": EXPIRED_SESSION_TOKEN}, "ExpiredTokenException"),
    ],
)
def test_wrong_credentials_are_refused(
    simulator: SpawnedSimulator, credentials: dict[str, str], exception: str
) -> None:
    """403 with the exception's name in the header, as over the wire."""
    path, body = converse_path("sim"), BODY
    response = ask(simulator, path, body, signed_headers(path, body, **credentials))  # type: ignore[arg-type] # all str
    assert response.status == 403
    assert response.headers["x-amzn-errortype"].partition(":")[0] == exception


def test_nobody_is_let_in_without_credentials(simulator: SpawnedSimulator) -> None:
    """Neither a signature nor a bearer token: 403."""
    response = converse(simulator, f"sim-{QUICK}", headers=UNSIGNED)
    assert (response.status, response.json()) == (403, {"message": "Missing Authentication Token"})


def test_a_signed_request_is_answered(simulator: SpawnedSimulator) -> None:
    """As the one with a bearer token is."""
    path = converse_path(f"us.anthropic.claude-sim-{QUICK}-v1%3A0")
    body = request_bytes(path, conversation()).partition(b"\r\n\r\n")[2]
    assert ask(simulator, path, body, signed_headers(path, body, token="session")).status == 200
    assert converse(simulator, f"sim-{QUICK}").status == 200

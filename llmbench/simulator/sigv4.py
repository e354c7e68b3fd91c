"""AWS Signature Version 4, the verifying side.

Source: AWS's "Signature Version 4 signing process" and the wording of its services' refusals. Nothing of an SDK is
used, so that clients are checked against the specification and not against themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

ACCESS_KEY_ID = "AKIASIMULATED000TEST"
SECRET_ACCESS_KEY = "simulated-secret-access-key-0123456789ab"  # noqa: S105 - it protects nothing
"""The one pair of keys that is accepted."""
EXPIRED_SESSION_TOKEN = "simulated-expired-session-token"  # noqa: S105 - it protects nothing
"""Any session token is accepted but this."""

MAX_SKEW = timedelta(minutes=5)
"""A signature may be this much older or newer than the simulator's clock says it is."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE = "bedrock"
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_CREDENTIAL = re.compile(r"([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
"""Key, date, region, service."""
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
    " and signing method. Consult the service documentation for details."
)


class Refusal(NamedTuple):
    """Why a request is not let in: the name of AWS's exception, and its message."""

    exception: str
    message: str


class Signed(NamedTuple):
    """A request as it came over the wire. Header names are in lower case; ``target`` is still percent-encoded."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str:
        return next(iter(self.values(name)), "")


class _Claim(NamedTuple):
    """What an Authorization header says."""

    key: str
    date: str
    region: str
    service: str
    signed_headers: list[str]
    signature: str

    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def verify(request: Signed, now: datetime) -> Refusal | None:
    """Return why the signature of ``request`` does not count at ``now``, None if it does."""
    authorization = request.header("authorization")
    if not authorization:
        return Refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
    claim = _claim(authorization)
    if isinstance(claim, Refusal):
        return claim
    return (
        _wrong_key(claim)
        or _wrong_time(request.header("x-amz-date"), claim, now)
        or _unsigned_header(request, claim)
        or _wrong_signature(request, claim)
        or _expired_token(request)
    )


def _claim(authorization: str) -> _Claim | Refusal:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM:
        return _incomplete(f"Authorization header requires the algorithm '{_ALGORITHM}'.")
    pairs = (part.strip().partition("=") for part in rest.split(","))
    fields = {name: value for name, _, value in pairs}
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name)]
    if missing:
        return _incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    credential = _CREDENTIAL.fullmatch(fields["Credential"])
    if credential is None:
        return _incomplete(f"Credential must have exactly 5 slash-delimited elements, got '{fields['Credential']}'.")
    key, date, region, service = credential.groups()
    return _Claim(key, date, region, service, fields["SignedHeaders"].split(";"), fields["Signature"])


def _incomplete(message: str) -> Refusal:
    return Refusal("IncompleteSignatureException", message)


def _invalid(message: str) -> Refusal:
    return Refusal("InvalidSignatureException", message)


def _wrong_key(claim: _Claim) -> Refusal | None:
    if claim.key != ACCESS_KEY_ID:
        return Refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
    if claim.service != _SERVICE:
        return _invalid(f"Credential should be scoped to correct service: '{_SERVICE}'.")
    return None


def _wrong_time(stamp: str, claim: _Claim, now: datetime) -> Refusal | None:
    try:
        signed_at = datetime.strptime(stamp, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{stamp}'.")
    if stamp[:8] != claim.date:
        return _invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
            f" '{claim.date}' != '{stamp[:8]}', from '{stamp}'."
        )
    clock, earliest, latest = (f"{time:{_TIME_FORMAT}}" for time in (now, now - MAX_SKEW, now + MAX_SKEW))
    if signed_at < now - MAX_SKEW:
        return _invalid(f"Signature expired: {stamp} is now earlier than {earliest} ({clock} - 5 min.)")
    if signed_at > now + MAX_SKEW:
        return _invalid(f"Signature not yet current: {stamp} is still later than {latest} ({clock} + 5 min.)")
    return None


def _unsigned_header(request: Signed, claim: _Claim) -> Refusal | None:
    sent = [name for name in ("x-amz-date", "x-amz-security-token") if request.header(name)]
    for name in ["host", *sent]:
        if name not in claim.signed_headers:
            return _invalid(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
    return None


def _wrong_signature(request: Signed, claim: _Claim) -> Refusal | None:
    payload_hash = hashlib.sha256(request.body).hexdigest()
    if request.header("x-amz-content-sha256") not in ("", payload_hash):
        return _invalid("The value of the 'X-Amz-Content-Sha256' header does not match the calculated hash.")
    canonical = _canonical_request(request, claim.signed_headers, payload_hash)
    expected = _signature(canonical, request.header("x-amz-date"), claim)
    return None if hmac.compare_digest(expected, claim.signature.encode()) else _invalid(_MISMATCH)


def _expired_token(request: Signed) -> Refusal | None:
    if request.header("x-amz-security-token") != EXPIRED_SESSION_TOKEN:
        return None
    return Refusal("ExpiredTokenException", "The security token included in the request is expired")


def _canonical_request(request: Signed, signed_headers: list[str], payload_hash: str) -> str:
    path, _, query = request.target.partition("?")
    pairs = sorted((_encode(name), _encode(value)) for name, value in parse_qsl(query, keep_blank_values=True))
    lines = [f"{name}:{','.join(_squeeze(value) for value in request.values(name))}" for name in signed_headers]
    return "\n".join(
        [
            request.method,
            quote(path, safe="/~"),  # what came is encoded already; all services but S3 sign it encoded twice
            "&".join(f"{name}={value}" for name, value in pairs),
            *lines,
            "",
            ";".join(signed_headers),
            payload_hash,
        ]
    )


def _encode(text: str) -> str:
    return quote(text, safe="~")


def _squeeze(value: str) -> str:
    return " ".join(value.split())


def _signature(canonical: str, stamp: str, claim: _Claim) -> bytes:
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join([_ALGORITHM, stamp, claim.scope(), hashed])
    key = b"AWS4" + SECRET_ACCESS_KEY.encode()
    for part in (claim.date, claim.region, claim.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, to_sign.encode(), "sha256").hexdigest().encode()

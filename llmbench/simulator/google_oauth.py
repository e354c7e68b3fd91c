"""Google's token endpoint, for service accounts. Source: RFC 7523 and Google's "Using OAuth 2.0 for Server to Server".

Signatures are not checked, for the simulator has no service account's public key.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from time import time
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from llmbench.simulator.reply import Reply, Request, json_reply

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_SECONDS = 3599
_CLAIMS = {"iss": str, "aud": str, "iat": int, "exp": int}


class _Refused(Exception):
    """The error's code, and Google's description of it."""


def issue_token(request: Request) -> Reply:
    """Return a new access token for a JWT that could be a service account's."""
    if request.method != "POST":
        return json_reply(405, {"error": "invalid_request", "error_description": "Use POST."}, [("allow", "POST")])
    try:
        _check(dict(parse_qsl(request.body.decode("latin-1"))))
    except _Refused as refused:
        code, description = refused.args
        return json_reply(400, {"error": code, "error_description": description})
    token = f"ya29.sim-{secrets.token_urlsafe(24)}"
    return json_reply(200, {"access_token": token, "expires_in": _LIFETIME_SECONDS, "token_type": "Bearer"})


def _check(form: dict[str, str]) -> None:
    grant = form.get("grant_type")
    if grant is None:
        raise _Refused("invalid_request", "Required parameter is missing: grant_type")
    if grant != _GRANT:
        raise _Refused("unsupported_grant_type", f"Invalid grant_type: {grant}")
    parts = form.get("assertion", "").split(".")
    if len(parts) != 3 or not all(parts):
        raise _Refused("invalid_grant", "Bad Request")
    if _decoded(parts[0]).get("alg") != "RS256":
        raise _Refused("invalid_grant", "Invalid JWT: the algorithm in its header must be RS256.")
    _check_claims(_decoded(parts[1]))


def _check_claims(claims: dict[str, Any]) -> None:
    for name, kind in _CLAIMS.items():
        if not isinstance(claims.get(name), kind):
            raise _Refused("invalid_grant", f"Invalid JWT: Failed audience check or missing claim: {name}")
    if not claims["iat"] - 300 <= time() <= claims["exp"] <= claims["iat"] + 3600:
        raise _Refused(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
            " Check your iat and exp values in the JWT claim.",
        )


def _decoded(part: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any])
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise _Refused(
            "invalid_grant", "Invalid JWT: its header or its claims are not base64url-encoded JSON."
        ) from error

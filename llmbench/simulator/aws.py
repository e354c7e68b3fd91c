"""What AWS has around its models: an instance's metadata with the role's keys, and the lists of models.

Sources: "Use the Instance Metadata Service to access instance metadata" of the EC2 guide, and the Bedrock API
reference, "ListFoundationModels" and "ListInferenceProfiles".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from llmbench.simulator import listings
from llmbench.simulator.auth import refusal
from llmbench.simulator.flavours import flavour_of
from llmbench.simulator.problems import Problem, Subject, error_body, error_headers, status_of
from llmbench.simulator.reply import Reply, Request, json_reply, whole
from llmbench.simulator.sigv4 import ACCESS_KEY_ID, SECRET_ACCESS_KEY

ROLE = "simulated-role"
SESSION_TOKEN = "simulated-session-token"  # noqa: S105 - it protects nothing
_METADATA_TOKEN = "simulated-metadata-token"  # noqa: S105 - nor does this
_TOKEN_HEADER = "x-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
_TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
_MAX_TTL = 21_600
_VALID_FOR = timedelta(hours=6)

_CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
METADATA = r"/latest/.*"
"""The paths of the metadata service, as a pattern."""

BEDROCK = flavour_of("bedrock")


def metadata(request: Request) -> Reply:
    """Answer as the metadata service does, version 2 only: nothing is told without a token."""
    path = request.target.partition("?")[0]
    if path == "/latest/api/token":
        return _metadata_token(request)
    if request.method != "GET":
        return _text(405, "")
    if request.header(_TOKEN_HEADER) != _METADATA_TOKEN:
        return _text(401, "")
    match path:
        case "/latest/meta-data/placement/region":
            return _text(200, "us-east-1")
        case _ if path in (_CREDENTIALS, _CREDENTIALS.rstrip("/")):
            return _text(200, ROLE)
        case _ if path == _CREDENTIALS + ROLE:
            return json_reply(200, _credentials())
        case _:
            return _text(404, "")


def _text(status: int, text: str) -> Reply:
    return whole(status, text.encode(), "text/plain")


def _metadata_token(request: Request) -> Reply:
    if request.method != "PUT":
        return _text(405, "")
    ttl = request.header(_TTL_HEADER)
    if not (ttl.isascii() and ttl.isdigit() and 1 <= int(ttl) <= _MAX_TTL):
        return _text(400, "")
    return whole(200, _METADATA_TOKEN.encode(), "text/plain", [(_TTL_HEADER, ttl)])


def _credentials() -> dict[str, str]:
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "Code": "Success",
        "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "Type": "AWS-HMAC",
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": SECRET_ACCESS_KEY,
        "Token": SESSION_TOKEN,
        "Expiration": f"{now + _VALID_FOR:%Y-%m-%dT%H:%M:%SZ}",
    }


def foundation_models(request: Request) -> Reply:
    """Answer ``GET …/foundation-models``; all of its filters are taken as met."""
    return _listed(request, listings.foundation_models)


def inference_profiles(request: Request) -> Reply:
    """Answer ``GET …/inference-profiles``, in one page."""
    return _listed(request, listings.inference_profiles)


def _listed(request: Request, listing: Callable[[], dict[str, object]]) -> Reply:
    problem = refusal(BEDROCK, request) or (None if request.method == "GET" else Problem("method"))
    if problem is None:
        return json_reply(200, listing())
    body = error_body(BEDROCK.errors, problem, Subject("", "", ""))
    return json_reply(status_of(BEDROCK.errors, problem), body, error_headers(BEDROCK.errors, problem))

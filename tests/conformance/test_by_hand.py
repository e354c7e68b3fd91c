"""Answers that the simulator does not give, written by hand for each SDK's way to the socket."""

# ruff: noqa: N802  a test of a fault is named after its row in the fault matrix

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from anyio.abc import ByteStream

from llmbench.messages import Failure
from tests.conformance.families import PATHS
from tests.conformance.scenario import names_of
from tests.faults.support import assert_clean, verdict
from tests.measure.support import read_request, serving
from tests.runs import Family, attempt, base_url, job, opened, profile

pytestmark = pytest.mark.usefixtures("clouds")

every_path = pytest.mark.parametrize("family", PATHS, ids=lambda family: names_of(family)[0])

# What each says of a model that this account may not use, at times with the status that a bad key has.
FORBIDDEN_MODEL: Mapping[str, tuple[int, dict[str, Any]]] = {
    "openai": (403, {"error": {"message": "Project `p` does not have access to model `m`", "code": "model_not_found"}}),
    "anthropic": (
        403,
        {
            "type": "error",
            "error": {"type": "permission_error", "message": "Your organization does not have access to this model."},
        },
    ),
    "bedrock": (403, {"message": "You don't have access to the model with the specified model ID."}),
    "vertex": (
        400,
        {
            "error": {
                "code": 400,
                "message": "Publisher Model `projects/p/locations/l/publishers/google/models/m` is not servable in l.",
                "status": "FAILED_PRECONDITION",
            }
        },
    ),
}


async def answered(family: Family, status: int, body: bytes, **headers: str) -> Failure:
    """Make one run whose request is answered so; it fails, having asked once."""
    asked: list[bytes] = []
    head = {"content-type": "application/json", "content-length": str(len(body))} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())

    async def script(stream: ByteStream) -> None:
        asked.append(await read_request(stream))
        await stream.send(f"HTTP/1.1 {status} No\r\n{lines}\r\n".encode() + body)

    async with serving(script) as url, opened(family.provider, base_url(url, family.provider)) as provider:
        outcome = await attempt(provider, job(family.provider, family.model("x"), profile())).run()
    assert isinstance(outcome, Failure)
    assert_clean(outcome)
    assert (len(asked), outcome.http_status) == (1, status)
    return outcome


@every_path
async def test_P24_a_forbidden_model_is_no_forbidden_key(family: Family) -> None:
    """A refusal of one model leaves the provider's others alone."""
    status, body = FORBIDDEN_MODEL[family.provider]
    failure = await answered(family, status, msgspec.json.encode(body), x_amzn_errortype="AccessDeniedException")
    assert verdict(failure) == ("hard_model", "model_gone", "generate")


@every_path
async def test_P16_a_compressed_refusal_is_still_that_refusal(family: Family) -> None:
    """Its body is not unpacked, but its status is what it is."""
    body = gzip.compress(b'{"error": {"message": "slow down"}}')
    failure = await answered(family, 429, body, content_encoding="gzip")
    assert verdict(failure) == ("rate_limit", "rate_limited", "generate")


@every_path
async def test_an_empty_refusal_is_told_by_its_status(family: Family) -> None:
    """No body, no content type, no id."""
    failure = await answered(family, 503, b"", content_type="")
    assert verdict(failure) == ("transient_provider", "server_error", "generate")

"""What the simulator has around Bedrock's models: an instance's metadata, and the lists of models."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.sigv4 import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from tests.simulator.bedrock import UNSIGNED, signed_headers
from tests.simulator.support import Response, ask

TTL = {"x-aws-ec2-metadata-token-ttl-seconds": "60"}
ROLES = "/latest/meta-data/iam/security-credentials/"


def _get(simulator: SpawnedSimulator, path: str, token: str = "") -> Response:
    return ask(simulator, path, headers={"x-aws-ec2-metadata-token": token}, method="GET")


def _token(simulator: SpawnedSimulator) -> str:
    return ask(simulator, "/latest/api/token", headers=TTL, method="PUT").body.decode()


def test_the_keys_of_an_instances_role(simulator: SpawnedSimulator) -> None:
    """A token, the role's name, its keys, which are those that signatures are checked against."""
    token = _token(simulator)
    role = _get(simulator, ROLES, token).body.decode()
    credentials = _get(simulator, ROLES + role, token).json()
    assert (role, credentials["Code"]) == ("simulated-role", "Success")
    assert (credentials["AccessKeyId"], credentials["SecretAccessKey"]) == (ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    assert datetime.fromisoformat(credentials["Expiration"]) > datetime.now(UTC)
    assert credentials["Token"]


def test_metadata_needs_a_token(simulator: SpawnedSimulator) -> None:
    """Version 1 of the service, which asked for none, is not there."""
    assert _get(simulator, ROLES).status == 401
    assert _get(simulator, ROLES, "another").status == 401


@pytest.mark.parametrize("ttl", [{}, {next(iter(TTL)): "0"}, {next(iter(TTL)): "21601"}, {next(iter(TTL)): "soon"}])
def test_a_token_needs_a_lifetime(simulator: SpawnedSimulator, ttl: dict[str, str]) -> None:
    """Seconds, six hours at most."""
    assert ask(simulator, "/latest/api/token", headers=ttl, method="PUT").status == 400


def test_other_metadata(simulator: SpawnedSimulator) -> None:
    """The region is there; anything else is not, nor is another method."""
    token = _token(simulator)
    assert _get(simulator, "/latest/meta-data/placement/region", token).body == b"us-east-1"
    assert _get(simulator, "/latest/meta-data/hostname", token).status == 404
    assert ask(simulator, ROLES, method="PUT").status == 405
    assert _get(simulator, "/latest/api/token").status == 405


def test_the_lists_of_models(simulator: SpawnedSimulator) -> None:
    """Each foundation model answers on demand, or has an inference profile that answers for it."""
    path = "/bedrock/foundation-models?byOutputModality=TEXT"
    models = ask(simulator, path, b"", signed_headers(path, b"", method="GET"), method="GET").json()["modelSummaries"]
    profiles = ask(simulator, "/bedrock/inference-profiles", method="GET").json()["inferenceProfileSummaries"]
    by_profile = {model["modelArn"] for model in models if model["inferenceTypesSupported"] == ["INFERENCE_PROFILE"]}
    assert by_profile == {model["modelArn"] for profile in profiles for model in profile["models"]}
    assert len(models) == len(by_profile) + 2


@pytest.mark.parametrize("page", ["foundation-models", "inference-profiles"])
def test_the_lists_are_not_for_everyone(simulator: SpawnedSimulator, page: str) -> None:
    """Credentials are checked, and they are only read."""
    refused = ask(simulator, f"/bedrock/{page}", headers=UNSIGNED, method="GET")
    assert refused.status == 403
    assert refused.headers["x-amzn-errortype"].startswith("MissingAuthenticationTokenException:")
    assert ask(simulator, f"/bedrock/{page}").status == 404

"""Credentials that the simulator takes, for the SDKs that look for theirs in the environment: AWS's and Google's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from llmbench.simulator.sigv4 import ACCESS_KEY_ID, SECRET_ACCESS_KEY

PROJECT = "simulated-project"
REGION = "us-east-1"

_FAMILIES = ("AWS_", "GOOGLE_", "CLOUDSDK_", "GCE_METADATA_", "GCLOUD_", "NO_GCE_CHECK")
_KEY_BITS = 2048


def environment(folder: Path, url: str) -> dict[str, str]:
    """Return the variables that give both SDKs simulated credentials, and keep them from looking anywhere else.

    ``url`` is the simulator's root. Writes a service account with a fresh key into ``folder``; it gets its tokens from
    the simulator.
    """
    nowhere = str(folder / "no-such-file")
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(service_account(folder, f"{url}/vertex/token")),
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "NO_GCE_CHECK": "true",
    }


def service_account(folder: Path, token_uri: str) -> Path:
    """Write the JSON file of a service account with a fresh key; return its path."""
    path = folder / "service-account.json"
    email = f"llmbench@{PROJECT}.iam.gserviceaccount.com"
    document = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "simulated",
        "private_key": _private_key(),
        "client_email": email,
        "client_id": "100000000000000000000",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@contextmanager
def in_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Put these variables in the place of all of this process's that AWS's and Google's SDKs read."""
    own = {name: value for name, value in os.environ.items() if name.startswith(_FAMILIES)}
    for name in own:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(own)


def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization  # takes a while, and few who simulate need it
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode("ascii")

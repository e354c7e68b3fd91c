"""Credentials of clouds for tests: those that the simulator takes, and nothing of the developer's own."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from llmbench.simulator.credentials import PROJECT, service_account
from llmbench.simulator.sigv4 import ACCESS_KEY_ID, SECRET_ACCESS_KEY

AWS_REGION = "us-east-1"
AWS_KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}

GOOGLE_PROJECT = PROJECT

_NO_FILE = "/nonexistent/llmbench"
_GOOGLES = ("GOOGLE_", "GCLOUD_", "GCE_METADATA_", "CLOUDSDK_", "ANTHROPIC_VERTEX_", "CLOUD_ML_")


def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this a machine that AWS has given nothing: no variables, no files, no metadata."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, _NO_FILE)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def aws_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Give this machine a region and these variables, else the simulator's keys; and nothing more of AWS."""
    no_aws(monkeypatch)
    monkeypatch.setenv("AWS_REGION", AWS_REGION)
    for name, value in (variables or AWS_KEYS).items():
        monkeypatch.setenv(name, value)


def no_google(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Make this a machine that Google has given nothing: no variables, no files.

    ``url``, the simulator's root, stands for the metadata server and answers what that would never answer.
    """
    for name in [name for name in os.environ if name.startswith(_GOOGLES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", _NO_FILE)
    monkeypatch.setenv("GCE_METADATA_IP", url.rpartition("/")[2])


def google_environment(monkeypatch: pytest.MonkeyPatch, url: str, **variables: str) -> None:
    """Give this machine these variables, else a service account of the simulator at ``url``; nothing more of Google."""
    no_google(monkeypatch, url)
    usual = {"GOOGLE_APPLICATION_CREDENTIALS": str(google_account(f"{url}/vertex/token"))}
    for name, value in (variables or usual).items():
        monkeypatch.setenv(name, value)


@functools.cache
def google_account(token_uri: str) -> Path:
    """Return the file of a service account that gets its tokens at ``token_uri``."""
    folder = tempfile.mkdtemp(prefix="llmbench-test-")
    atexit.register(shutil.rmtree, folder)
    return service_account(Path(folder), token_uri)

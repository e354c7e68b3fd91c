"""AWS credentials of this machine: found by the SDK's default chain, renewed ahead of time, never inside a request.

The chain (variables, shared files, a process, SSO, an assumed role, a container, an instance) reads files and makes
HTTP calls of its own. It runs in a worker thread on an event loop of its own, since even a TLS context that it makes
would keep the measuring loop from its sockets for 20 ms.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from llmbench.errors import clean
from llmbench.secrets import redact_patterns

BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
TROUBLE = (BotoCoreError, ClientError, OSError, ValueError, RuntimeError)
"""What the chain raises where it has credentials, but can't get at them."""

_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # the SDK takes the first that is set

_LIMIT_SECONDS = 10.0
_RENEW_SECONDS = 600.0
"""Credentials that expire sooner are renewed; an instance's metadata has the next ones five minutes ahead."""
_LAST_SECONDS = 60.0
"""Below this, they can't be used any more."""
_HOLD_OFF_SECONDS = 30.0
"""As long as the present ones are good, the next ones are asked for this often."""

logger = logging.getLogger(__name__)


class Keys(NamedTuple):
    """What a request is signed with."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Keys(***)"


class _Found(NamedTuple):
    """Keys, and botocore's object that knows when they expire, if ever."""

    keys: Keys
    source: Any

    def expire_within(self, seconds: float) -> bool:
        refresh_needed = getattr(self.source, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(seconds))


def bearer_token() -> str | None:
    """Return the API key that is used instead of a signature, None if there is none. White space is none."""
    return os.environ.get(BEARER_VARIABLE, "").strip() or None


def region_of_environment() -> str | None:
    """Return the region that the SDKs' variables name."""
    return next((value for name in _REGION_VARIABLES if (value := os.environ.get(name, "").strip())), None)


async def region_of_profile() -> str | None:
    """Return the region of the profile in the shared files. Raises botocore's ProfileNotFound and ConfigParseError."""
    return await anyio.to_thread.run_sync(_region_of_profile)


def _region_of_profile() -> str | None:
    region: str | None = AioSession().get_config_variable("region")
    return region


class CredentialChain:
    """The credentials of this machine. Belongs to one event loop."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._found: _Found | None = None
        self._asked = 0.0
        self._refused = False

    def refused(self) -> None:
        """Say that AWS did not accept the keys: they are looked up anew, since files may hold others by now."""
        self._refused = True

    async def keys(self, region: str | None) -> Keys:
        """Return keys that are good for a while; ``region`` is where an assumed role is asked for.

        Raises botocore's errors and the others in `TROUBLE`; NoCredentialsError if there are none at all.
        """
        async with self._turn:
            found = self._found
            if found is None or self._refused:
                found = await self._ask(region)
            elif found.expire_within(_RENEW_SECONDS) and monotonic() - self._asked >= _HOLD_OFF_SECONDS:
                found = await self._renewed(found, region)
            return found.keys

    async def _renewed(self, present: _Found, region: str | None) -> _Found:
        try:
            return await self._ask(region)
        except TROUBLE as error:
            if present.expire_within(_LAST_SECONDS):
                raise
            logger.warning("AWS credentials were not renewed, and the present ones are used on: %s", error)
            return present

    async def _ask(self, region: str | None) -> _Found:
        self._asked = monotonic()
        ask = partial(anyio.run, _from_chain, region)
        self._found = found = await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        self._refused = False
        return found


async def _from_chain(region: str | None) -> _Found:
    session = AioSession()
    if region is not None:
        session.set_config_variable("region", region)
    try:
        with anyio.fail_after(_LIMIT_SECONDS):
            source = await session.get_credentials()
            if source is None:
                raise NoCredentialsError
            frozen = await source.get_frozen_credentials()
    except TimeoutError as error:
        message = f"no answer within {_LIMIT_SECONDS:g} s"
        raise CredentialRetrievalError(provider="the default chain", error_msg=message) from error
    token = frozen.token.strip() if frozen.token else None
    return _Found(Keys(frozen.access_key.strip(), frozen.secret_key.strip(), token), source)


def why_unusable(error: Exception) -> str:
    """Return one clause that says why there are no credentials, and what to set or remove."""
    match error:
        case ProfileNotFound():
            name = next((name for name in _PROFILE_VARIABLES if name in os.environ), "AWS_PROFILE")
            profile = clean(str(error.kwargs["profile"]), 100)
            return f"{name} names the profile {profile!r}, which is in no file of this machine: unset {name}, or add it"
        case NoCredentialsError():
            return (
                "this machine has no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                f"or {BEARER_VARIABLE}, or give the machine a role"
            )
        case PartialCredentialsError():
            source, missing = error.kwargs["provider"], error.kwargs["cred_var"]
            return f"the AWS credentials of the source {source!r} lack {missing}: set that, too"
        case _:
            said = clean(redact_patterns(str(error)), 300)
            return (
                f"AWS credentials are set up, but can't be had ({said}): "
                "correct them, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )

"""AWS credentials of this machine: found by the SDK's default chain, renewed ahead of time, never inside a request.

The chain (variables, shared files, a process, SSO, an assumed role, a container, an instance) reads files and makes
HTTP calls of its own. It runs in a daemon thread on an event loop of its own, since even a TLS context that it makes
would keep the measuring loop from its sockets for 20 ms.
"""

from __future__ import annotations

import logging
import os
from time import monotonic
from typing import Any, NamedTuple

import anyio
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
from llmbench.providers.daemon_thread import run_in_daemon
from llmbench.secrets import redact_patterns

BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"

_PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # the SDK takes the first that is set

_LIMIT_SECONDS = 10.0
_OUTER_LIMIT_SECONDS = 12.0
"""What blocks the thread's own loop is not kept to the first limit."""
_LATE = f"no answer within {_LIMIT_SECONDS:g} s"
_RENEW_SECONDS = 600.0
"""Credentials that expire sooner are renewed; an instance's metadata has the next ones five minutes ahead."""
_LAST_SECONDS = 60.0
"""Below this, they can't be used any more."""
_HOLD_OFF_SECONDS = 30.0
"""As long as the present ones are good, the next ones are asked for this often."""

logger = logging.getLogger(__name__)


class CredentialsUnavailable(Exception):
    """No credentials can be had. The message is one clause that says why, and what to set or remove."""


class Keys(NamedTuple):
    """What a request is signed with."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Keys(***)"


class Bearer(NamedTuple):
    """An API key of Bedrock, which is sent with a request in the place of a signature."""

    token: str

    def __repr__(self) -> str:
        return "Bearer(***)"


class _Found(NamedTuple):
    """Keys, and botocore's object that knows when they expire, if ever."""

    keys: Keys
    source: Any

    def expire_within(self, seconds: float) -> bool:
        refresh_needed = getattr(self.source, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(seconds))


def bearer() -> Bearer | None:
    """Return the API key that the environment has, None if there is none. White space around it is no part of it.

    Raises `CredentialsUnavailable` for one that can't be sent.
    """
    token = os.environ.get(BEARER_VARIABLE, "").strip()
    if not token:
        return None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CredentialsUnavailable(f"{BEARER_VARIABLE} holds a character that no key has: copy the key again")
    return Bearer(token)


async def region_of_profile() -> str | None:
    """Return the region of the profile in the shared files. Raises `CredentialsUnavailable`."""
    try:
        return await run_in_daemon(_region_of_profile, seconds=_LIMIT_SECONDS)
    except (BotoCoreError, OSError, ValueError) as error:
        raise _unavailable(error) from error


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

        Raises `CredentialsUnavailable`.
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
        except CredentialsUnavailable as error:
            if present.expire_within(_LAST_SECONDS):
                raise
            logger.warning("AWS credentials were not renewed, and the present ones are used on: %s", error)
            return present

    async def _ask(self, region: str | None) -> _Found:
        self._asked = monotonic()
        try:
            found = await run_in_daemon(anyio.run, _from_chain, region, seconds=_OUTER_LIMIT_SECONDS)
        except TimeoutError as error:
            raise _unavailable(_chain_error(_LATE)) from error
        self._found, self._refused = found, False
        return found


async def _from_chain(region: str | None) -> _Found:
    """Raises `CredentialsUnavailable` alone: what comes from files and servers can make the SDK raise anything."""
    session = AioSession()
    if region is not None:
        session.set_config_variable("region", region)
    try:
        with anyio.fail_after(_LIMIT_SECONDS):
            source, frozen = await _asked(session)
    except TimeoutError as error:
        raise _unavailable(_chain_error(_LATE)) from error
    except Exception as error:
        raise _unavailable(error) from error
    return _Found(_keys(frozen.access_key, frozen.secret_key, frozen.token or ""), source)


async def _asked(session: AioSession) -> tuple[Any, Any]:
    source = await session.get_credentials()
    if source is None:
        raise NoCredentialsError
    return source, await source.get_frozen_credentials()


def _keys(*parts: object) -> Keys:
    access, secret, token = (part.strip() if isinstance(part, str) else None for part in parts)
    if not access or not secret or token is None:
        raise _unavailable(_chain_error("it gives keys that are empty or no text"))
    return Keys(access, secret, token or None)


def _chain_error(message: str) -> CredentialRetrievalError:
    return CredentialRetrievalError(provider="the default chain", error_msg=message)


def _unavailable(error: Exception) -> CredentialsUnavailable:
    return CredentialsUnavailable(_why(error))


def _words(error: Exception) -> str:
    """Return what an exception says, with its class where the words alone would mean nothing."""
    said = str(error)
    own = isinstance(error, BotoCoreError | ClientError | OSError)
    return said if said and own else f"{type(error).__name__}: {said}".removesuffix(": ")


def _why(error: Exception) -> str:
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
            said = clean(redact_patterns(_words(error)), 300)
            return (
                f"AWS credentials are set up, but can't be had ({said}): "
                "correct them, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )

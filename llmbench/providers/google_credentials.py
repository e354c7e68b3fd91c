"""Google's Application Default Credentials: found once, renewed in a thread ahead of their end, never in a request.

Source: Google Cloud's "How Application Default Credentials works". They are a file that GOOGLE_APPLICATION_CREDENTIALS
names, gcloud's own file, or what the metadata server of a machine at Google says.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import google.auth
import msgspec
from google.auth import compute_engine, external_account, identity_pool, impersonated_credentials
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials

from llmbench.providers.base import Unusable
from llmbench.providers.daemon_thread import run_in_daemon

FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
RENEWED_BEFORE_END = timedelta(minutes=6)
"""google-auth calls a token expired 3 min 45 s before its end; a run that has just begun must not see that."""
_LAST_MOMENT = timedelta(minutes=1)

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LOOK_UP_SECONDS = 12.0
_METADATA_SECONDS = 2.0
_RENEWAL_SECONDS = 20.0
_ANSWER_SECONDS = 10.0
_HOLD_OFF_SECONDS = 30.0
"""As long as the present token is good, an endpoint that gave none is asked this often."""

_IMPORTED_AHEAD = (compute_engine, external_account, identity_pool, impersonated_credentials, service_account)
"""google.auth imports these when it first needs them, which would stop the event loop."""

logger = logging.getLogger(__name__)


class TokenRefused(Exception):
    """The credentials give no access token any more. The message says what their issuer said."""


class TokenUnavailable(Exception):
    """No access token could be had for now: whoever issues it did not answer, or with a fault of its own."""


class _LimitedRequest(Request):
    """How google.auth asks for tokens: without proxies, and each answer within a limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.session.trust_env = False
        self._seconds = seconds

    def __call__(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        kwargs["timeout"] = self._seconds if timeout is None else min(timeout, self._seconds)
        return super().__call__(*args, **kwargs)  # type: ignore[no-untyped-call]  # as google.auth has it


class GoogleCredentials:
    """This machine's Google credentials; belongs to one event loop.

    ``bearer`` is for a client that wants credentials of its own: it has the token, and nothing to refresh it with.
    ``project`` is the one that the credentials name, if any. Nothing but `find` and `renew` touches file or network.
    """

    def __init__(self) -> None:
        self.bearer = Credentials(token=None)  # type: ignore[no-untyped-call]  # as google.auth has it
        self.project: str | None = None
        self._source: Any = None
        self._refused = False
        self._renewing = anyio.Lock()
        self._renewals = 0
        self._failure: TokenRefused | TokenUnavailable | None = None
        self._failed_at = 0.0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request made now."""
        headers = {"Authorization": f"Bearer {self.bearer.token}"}
        return headers | self.quota_headers

    @property
    def quota_headers(self) -> dict[str, str]:
        """The header that names the project to book the request on, which a person's own credentials need."""
        quota_project = getattr(self._source, "quota_project_id", None)
        return {"x-goog-user-project": quota_project} if quota_project and isinstance(quota_project, str) else {}

    async def find(self, *, ahead: bool = False) -> None:
        """Look for the credentials, without asking for a token. Raises `Unusable`.

        ``ahead``: only read the file that the variable names, for reading its key stops the event loop for 40 ms.
        """
        if ahead and not os.environ.get(FILE_VARIABLE):
            return
        try:
            found = await run_in_daemon(_look_up, seconds=_LOOK_UP_SECONDS)
        except TimeoutError as error:
            message = f"no Google credentials were found within {_LOOK_UP_SECONDS:g} s: {_WHAT_TO_SET}"
            raise Unusable(message) from error
        self._source, self.project = found
        self.bearer.token = self._source.token  # if it was read before, it may have one

    async def renew(self) -> None:
        """Get a new token if the present one ends soon; of many that need it at a time, one asks.

        Where no new one can be had, the present one serves until its last minute. It takes 20 s at most. Raises
        `TokenRefused` or `TokenUnavailable`.
        """
        if not self._lasts(RENEWED_BEFORE_END) and not (self._held_off and self._lasts(_LAST_MOMENT)):
            try:
                await self._renew_once()
            except (TokenRefused, TokenUnavailable):
                if not self._lasts(_LAST_MOMENT):
                    raise
        self.bearer.token = self._source.token

    @property
    def _held_off(self) -> bool:
        return self._failure is not None and monotonic() - self._failed_at < _HOLD_OFF_SECONDS

    async def _renew_once(self) -> None:
        before = self._renewals
        async with self._renewing:
            if self._renewals == before:
                await self._renew()
            elif self._failure is not None:
                raise type(self._failure)(str(self._failure)) from self._failure

    def refused(self) -> None:
        """Take note that the API refused the token: the next run gets another."""
        self._refused = True

    def _lasts(self, margin: timedelta) -> bool:
        assert self._source is not None, "find them first"
        if not self._source.token or self._refused:
            return False
        expiry = self._source.expiry  # naive, in UTC
        return expiry is None or expiry.replace(tzinfo=UTC) - datetime.now(UTC) > margin

    async def _renew(self) -> None:
        """Count what came of it, unless it is cut off: then whoever waits has to try."""
        failure = None
        try:
            await self._refresh()
        except (TokenRefused, TokenUnavailable) as error:
            failure = error
        self._failure = failure
        self._renewals += 1
        if failure is not None:
            self._failed_at = monotonic()
            if self._lasts(_LAST_MOMENT):
                logger.warning("Google's access token was not renewed, and the present one is used on: %s", failure)
            raise failure
        self._refused = False

    async def _refresh(self) -> None:
        try:
            await run_in_daemon(_refresh, self._source, seconds=_RENEWAL_SECONDS)
        except TimeoutError as error:
            raise TokenUnavailable(f"no access token came within {_RENEWAL_SECONDS:g} s") from error


_WHAT_TO_SET = (
    f"set {FILE_VARIABLE} to a file of credentials, run `gcloud auth application-default login`, "
    "or give the machine a service account"
)


def _look_up() -> tuple[Any, str | None]:
    """Return the credentials and their project. Raises `Unusable`. Blocks."""
    path = os.environ.get(FILE_VARIABLE)
    try:
        if path:
            status = Path(path).stat()
            return _read(path, status.st_mtime_ns, status.st_ino, os.environ.get("GOOGLE_CLOUD_PROJECT"))
        return _default()
    except Exception as error:  # what a malformed file makes google.auth stumble over is not documented
        raise Unusable(_trouble(path, error)) from error


@functools.lru_cache(maxsize=4)
def _read(path: str, *_what_it_depends_on: object) -> tuple[Any, str | None]:
    """Return the credentials of a file, which a lane that is restarted finds read, and with the token they have."""
    _check_form(path)
    return _default()


def _default() -> tuple[Any, str | None]:
    with _limited(_METADATA_SECONDS) as request:
        source, project = google.auth.default(scopes=_SCOPES, request=request)
    return source, project if isinstance(project, str) else None


def _check_form(path: str) -> None:
    """Refuse what google.auth would stumble over. Raises OSError or ValueError."""
    try:
        msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValueError("it is no JSON object") from error


def _trouble(path: str | None, error: Exception) -> str:
    reason = _reason(error)
    if path:
        return (
            f"{FILE_VARIABLE} names {path!r}, which can't be used ({reason}): "
            "correct it, or unset the variable to use other credentials"
        )
    if "were not found" in reason:
        return f"no Google credentials were found: {_WHAT_TO_SET}"
    return f"the Google credentials of this machine can't be used ({reason}): {_WHAT_TO_SET}"


def _reason(error: Exception) -> str:
    """Return what the exception says; google.auth's have the server's whole answer behind it."""
    if isinstance(error, GoogleAuthError) and error.args:
        return str(error.args[0]).rstrip(".")
    if isinstance(error, OSError | ValueError | GoogleAuthError):
        return str(error).rstrip(".")
    return f"a field is missing, of the wrong type or unknown: {type(error).__name__}: {error}".rstrip(".")


def _refresh(source: Any) -> None:
    """Get a new token from wherever the credentials come from. Blocks. Raises `TokenRefused` or `TokenUnavailable`."""
    try:
        with _limited(_ANSWER_SECONDS) as request:
            source.refresh(request)
    except RefreshError as error:
        kind = TokenUnavailable if error.retryable else TokenRefused
        raise kind(f"no access token was given: {_reason(error)}") from error
    except (GoogleAuthError, OSError) as error:
        raise TokenUnavailable(f"no access token could be had: {_reason(error)}") from error
    except Exception as error:  # as in `_look_up`: some fields of a file are read only now
        raise TokenRefused(f"no access token can be asked for: {_reason(error)}") from error


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[_LimitedRequest]:
    request = _LimitedRequest(seconds)
    try:
        yield request
    finally:
        request.session.close()

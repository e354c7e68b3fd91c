"""Who may come in: keys, what they allow, and how often.

The answer for no key, an unknown one and a wrong one is the same, and so is the work. Failures have a limit of their
own, by the address that they come from: whoever guesses takes nothing away from a key's own budget.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from typing import Protocol

from llmbench.bridge.keys import Grant, Scope
from llmbench.bridge.limits import Buckets
from llmbench.bridge.replies import Problem, later
from llmbench.bridge.sparingly import Sparingly

logger = logging.getLogger(__name__)

_FAILURES_PER_SECOND = 1.0
_FAILURES_AT_ONCE = 20.0

_BEARER = b"bearer "

Headers = Iterable[tuple[bytes, bytes]]


class Keys(Protocol):
    """What the door asks of `llmbench.bridge.keys.KeyRing`."""

    @property
    def problem(self) -> str | None: ...

    def find(self, presented: bytes) -> Grant | None: ...


def presented_key(headers: Headers) -> bytes:
    """Return the key that a request brings, nothing if it brings none; X-API-Key comes before a bearer token."""
    bearer = b""
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            bearer = value[len(_BEARER) :].strip()
    return bearer


class Door:
    """Lets requests in. ``rate`` is of one key, in requests a second."""

    def __init__(self, keys: Keys, rate: float) -> None:
        self._keys = keys
        self._requests = Buckets(rate, burst=rate)
        self._failures = Buckets(_FAILURES_PER_SECOND, _FAILURES_AT_ONCE)
        self._log = Sparingly(logger)

    def admit(self, headers: Headers, peer: str, scope: Scope) -> Grant:
        """Return what the request's key allows. Raises `Problem`: 401, 403, 429, or 503 if keys can't be looked up."""
        grant = self.identify(headers, peer)
        if scope not in grant.scopes:
            raise Problem(403, f"this key is not for this: it lacks the scope {scope!r}")
        return grant

    def identify(self, headers: Headers, peer: str) -> Grant:
        """Return what the request's key allows, whatever that is. Raises `Problem` as `admit` does."""
        grant = self._keys.find(presented_key(headers))
        if grant is None:
            raise self._refusal(peer)
        if wait := self._requests.take(grant.key_id):
            raise later(429, "this key has sent too many requests: send fewer, in larger batches", wait)
        return grant

    def _refusal(self, peer: str) -> Problem:
        if problem := self._keys.problem:
            self._log.warn("keys", problem)
            return later(503, "keys can't be looked up now: whoever runs this bridge finds the reason in its log", 60)
        self._log.warn("refused", f"a request from {peer} had no valid key")
        if wait := self._failures.take(_network(peer)):
            return later(429, "too many requests from this address had no valid key", wait)
        return Problem(
            401, "the key is missing or not known: send it as X-API-Key or as Authorization: Bearer", _CHALLENGE
        )


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def _network(peer: str) -> str:
    """Return what stands for a sender's address: of IPv6 the first half, since all of the rest is his."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    return peer if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))

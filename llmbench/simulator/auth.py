"""Who is let in: one check per provider, by the flavour's name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from llmbench.simulator.flavours import Flavour
from llmbench.simulator.problems import Problem
from llmbench.simulator.reply import Request
from llmbench.simulator.sigv4 import Signed, verify

Check = Callable[[Request], Problem | None]
"""Says what is wrong with the credentials of a request, if anything."""


def bearer_of(request: Request) -> str:
    """Return a request's bearer token, empty if it has none."""
    scheme, _, token = request.header("authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def key_of(request: Request) -> str:
    """Return the caller's key: Anthropic's header, or a bearer token."""
    return request.header("x-api-key").strip() or bearer_of(request)


def _key(request: Request) -> Problem | None:
    return None if key_of(request) else Problem("no_key")


def _bearer(request: Request) -> Problem | None:
    return None if bearer_of(request) else Problem("no_key")


def _bearer_or_signature(request: Request) -> Problem | None:
    if bearer_of(request):
        return None
    signed = Signed(request.method, request.target, request.headers, request.body)
    found = verify(signed, datetime.now(UTC))
    return Problem("bad_key", message=found.message, code=found.exception) if found else None


def _nothing(_request: Request) -> Problem | None:
    return None


_CHECKS: dict[str, Check] = {"local": _nothing, "vertex": _bearer, "bedrock": _bearer_or_signature}


def refusal(flavour: Flavour, request: Request) -> Problem | None:
    """Return what this provider has against the credentials of ``request``: any key will do, unless it is special."""
    return _CHECKS.get(flavour.name, _key)(request)

"""What the bridge says of its own health: a word for everybody, the rest for who has a key to read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from time import monotonic
from typing import Any, Literal

import anyio
import msgspec

from llmbench import __version__
from llmbench.messages import LaneStatus
from llmbench.stores.base import Store, StoreError

_KEPT_SECONDS = 5.0
_PATIENCE_SECONDS = 3.0

Verdict = Literal["ok", "failing"]


class StoreHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the store takes outcomes; ``reason`` is a sentence for a person."""

    status: Verdict
    description: str
    reason: str | None = None


class LaneHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One lane, as `llmbench.messages.LaneState` tells it."""

    lane: str
    status: LaneStatus
    reason: str | None = None
    until: datetime | None = None
    restarts: int = 0


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything. ``spool`` holds figures of the spool, for a program that has one; so with ``lanes``.

    ``intake`` says why nothing that is sent is taken, if nothing is.
    """

    status: Verdict
    version: str
    store: StoreHealth
    lanes: list[LaneHealth] = []
    spool: dict[str, Any] | None = None
    intake: str | None = None


class PublicHealth(msgspec.Struct, frozen=True):
    """What needs no key: it names nothing."""

    status: Verdict


HealthSource = Callable[[], Awaitable[HealthAnswer]]


class StoreProbe:
    """Health of a bridge alone: that of its store, asked at most every five seconds however many want to know."""

    def __init__(self, store: Store, *, kept: float = _KEPT_SECONDS, patience: float = _PATIENCE_SECONDS) -> None:
        self._store = store
        self._kept = kept
        self._patience = patience
        self._asking = anyio.Lock()
        self._asked = float("-inf")
        self._reason: str | None = None

    async def __call__(self) -> HealthAnswer:
        async with self._asking:
            if monotonic() - self._asked >= self._kept:
                self._reason = await self._ask()
                self._asked = monotonic()
        status: Verdict = "ok" if self._reason is None else "failing"
        store = StoreHealth(status=status, description=self._store.description, reason=self._reason)
        return HealthAnswer(status=status, version=__version__, store=store)

    async def _ask(self) -> str | None:
        """Return why the store can't be reached, None if it can; the question is one that costs nothing."""
        try:
            with anyio.fail_after(self._patience):
                await self._store.models(provider="-", enabled=True)
        except TimeoutError:
            return f"the store did not answer within {self._patience:g} s"
        except StoreError as error:
            return str(error)
        return None

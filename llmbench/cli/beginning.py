"""What the engine begins with: what to measure and what is known of it, also where the store is away at its start."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import anyio

from llmbench.actors.due import ModelClock, later_of
from llmbench.actors.leasing import Sharing
from llmbench.cli.selection import Runs, Selection
from llmbench.cli.waiting import reach
from llmbench.naming import Key, key_of
from llmbench.stores.base import ModelHistory, Store, StoreError, StoreUnusable
from llmbench.stores.spool import Spool

logger = logging.getLogger("llmbench.engine")

_FIRST = 0.5
_LONGEST = 10.0
"""Shorter than the delivery's: until it is known what to measure, nothing is measured."""


async def first_runs(selection: Selection, store: Store, *, reached: bool, wait: bool) -> tuple[Runs, bool]:
    """Return what to measure, and whether the store is open.

    Nothing is known of it without the store, unless this runner has read the catalogue before: then it is waited
    for, or, if it is not, `StoreError` is raised.
    """
    delay = _FIRST
    waited = False
    while True:
        try:
            return await selection.read(), reached
        except StoreUnusable:
            raise
        except StoreError as error:
            if not wait:
                raise
            if not waited:
                logger.error("waiting for the store: %s", error)  # noqa: TRY400  the sentence is all there is to it
            waited = True
        await anyio.sleep(delay)
        delay = min(_LONGEST, delay * 2)
        if not reached and (reached := await reach(store, quiet=True)):
            logger.info("the store answers: %s", store.description)


class Past:
    """What is known of each model's past: what the store has, and what this runner recorded itself."""

    def __init__(self, store: Store, spool: Spool, sharing: Sharing) -> None:
        self._store = store
        self._spool = spool
        self._sharing = sharing

    async def read(self, *, reached: bool) -> dict[Key, ModelClock]:
        """Return it; ``reached`` says whether the store can be asked. Of one region, if that alone counts."""
        stored = await self._stored() if reached else {}
        own = _clocks(await self._spool.history())
        return {key: later_of(stored.get(key), own.get(key)) for key in stored.keys() | own.keys()}

    async def _stored(self) -> dict[Key, ModelClock]:
        sharing = self._sharing
        if sharing.region and sharing.leases.shared:
            successes = await sharing.leases.successes(sharing.region)
            return {(key.provider, key.model_id): ModelClock(last_success=at) for key, at in successes.items()}
        return _clocks(await self._store.history())


def _clocks(history: Iterable[ModelHistory]) -> dict[Key, ModelClock]:
    return {key_of(past): ModelClock.from_history(past) for past in history}

"""Waiting for a store that is away."""

from __future__ import annotations

import logging

import anyio

from llmbench.stores.base import Store, StoreError, StoreUnusable

logger = logging.getLogger("llmbench.engine")

_FIRST = 0.5
_LONGEST = 10.0
"""Shorter than the delivery's: until the store is there, whoever waits for it does nothing."""


async def open_patiently(store: Store, *, quiet: bool = False) -> None:
    """Open the store, however long it takes to answer; say so if that is not at once. Raises `StoreUnusable`."""
    delay = _FIRST
    waited = False
    while not await reach(store, quiet=quiet or waited):
        waited = True
        await anyio.sleep(delay)
        delay = min(_LONGEST, delay * 2)
    if waited and not quiet:
        logger.info("the store answers: %s", store.description)


async def reach(store: Store, *, quiet: bool = False) -> bool:
    """Open the store and say whether it answered. Raises `StoreUnusable`."""
    try:
        await store.open()
    except StoreUnusable:
        raise
    except StoreError as error:
        if not quiet:
            logger.error("the store does not answer: %s", error)  # noqa: TRY400  the sentence is all there is to it
        return False
    return True

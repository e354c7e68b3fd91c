"""Waiting for a store that is away when the engine starts, as a running engine waits for it."""

from __future__ import annotations

import logging

import anyio

from llmbench.stores.base import Store, StoreError, StoreUnusable

logger = logging.getLogger("llmbench.engine")

_FIRST = 0.5
_LONGEST = 10.0
"""Shorter than the sink's: until the store is there, nothing is measured."""


async def open_patiently(store: Store) -> None:
    """Open the store, however long it takes to answer; say so if that is not at once. Raises `StoreUnusable`."""
    delay = _FIRST
    waited = False
    while True:
        try:
            await store.open()
        except StoreUnusable:
            raise
        except StoreError as error:
            if not waited:
                logger.error("waiting for the store: %s", error)  # noqa: TRY400  the sentence is all there is to it
            waited = True
            await anyio.sleep(delay)
            delay = min(_LONGEST, delay * 2)
        else:
            break
    if waited:
        logger.info("the store answers: %s", store.description)

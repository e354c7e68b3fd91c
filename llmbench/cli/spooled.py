"""The engine's spool: opened before anything is measured, and what is to be said of it at the start and at the end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio

from llmbench.actors.spool_desk import SpoolDesk
from llmbench.actors.supervisor import Companion, Supervisor
from llmbench.cli.context import store_errors
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.config import Config
from llmbench.messages import Failure
from llmbench.stores.spool import Limits, Spool, SpoolFailed, SpoolInUse

logger = logging.getLogger("llmbench.engine")

_IN_USE_SECONDS = 3.0


def make_spool(config: Config) -> Spool:
    """Return the configured spool, not open yet."""
    table = config.spool
    return Spool(
        config.spool_folder, limits=Limits(cap_bytes=table.cap_mb * 2**20, keep_seconds=table.keep_hours * 3600.0)
    )


@asynccontextmanager
async def open_spool(config: Config) -> AsyncIterator[Spool]:
    """Open the spool, and say what an earlier engine left. Raises CommandError if it can't be used."""
    spool = make_spool(config)
    try:
        with store_errors():
            interrupted = await _opened(spool)
    except SpoolFailed as error:
        raise CommandError(str(error), ExitCode.SPOOL) from error
    try:
        for damage in spool.damages:
            logger.error("%s; llmbench spool acknowledge, once you know of it", damage)
        if interrupted:
            names = ", ".join(sorted({f"{run.provider}/{run.model_name}" for run in interrupted}))
            logger.warning("%d runs were interrupted when llmbench last ended: %.500s", len(interrupted), names)
        yield spool
    except SpoolFailed as error:  # it failed when nothing ran that would have noticed
        raise CommandError(str(error), ExitCode.SPOOL) from error
    finally:
        await spool.close()


async def _opened(spool: Spool) -> list[Failure]:
    """Open it. ``llmbench spool`` may have it for a moment, which must not keep an engine from starting."""
    end = anyio.current_time() + _IN_USE_SECONDS
    while True:
        try:
            return await spool.open()
        except SpoolInUse:
            if anyio.current_time() >= end:
                raise
        await anyio.sleep(0.1)


def desk_of(config: Config, spool: Spool, supervisor: Supervisor) -> Companion:
    """Return what answers ``llmbench spool`` while the engine has the spool."""
    delivery = supervisor.delivery
    assert delivery is not None, "the engine has a spool"
    return Companion("spool_desk", SpoolDesk(spool, config.spool_folder, lambda: delivery.state).run)


class LeftOver(NamedTuple):
    """What is in the spool at the end."""

    waiting: int
    needs_somebody: bool


async def left_over(spool: Spool) -> LeftOver:
    """Say what is left in the spool, and whether a person has to see to it."""
    counts = await spool.counts()
    if counts.quarantined:
        told = ", ".join(f"{count} {reason}" for reason, count in counts.quarantined.items())
        logger.warning("outcomes in quarantine: %s; see llmbench spool list", told)
    return LeftOver(counts.waiting, bool(counts.quarantined or counts.damages))

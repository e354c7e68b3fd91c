"""The engine's HTTP side, if the configuration asks for one: the bridge, and figures of the engine itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio

from llmbench.actors.health import EngineHealth
from llmbench.actors.supervisor import Companion, Supervisor
from llmbench.bridge.metrics import Metrics
from llmbench.cli.serving import make_server, url
from llmbench.config import Config
from llmbench.stores.base import Store, StoreError
from llmbench.stores.spool import Spool, SpoolFailed

logger = logging.getLogger("llmbench.bridge")

_FIGURES_SECONDS = 5.0


def http_side(
    config: Config, env: Mapping[str, str], store: Store, spool: Spool, supervisor: Supervisor
) -> list[Companion]:
    """Return what is to run beside the engine. Raises CommandError if no key is let in."""
    delivery = supervisor.delivery
    assert delivery is not None, "the engine has a spool"
    metrics = Metrics()
    health = EngineHealth(supervisor.lanes, store, delivery, spool)
    server = make_server(config, env, store, metrics=metrics, health=health, bus=supervisor.bus)

    async def follow() -> None:
        bus = supervisor.bus
        with bus.subscribe(progress=False) as for_metrics, bus.subscribe(progress=False) as for_health:
            async with anyio.create_task_group() as group:
                group.start_soon(metrics.follow, for_metrics)
                group.start_soon(health.follow, for_health)

    async def look() -> None:
        told = 0
        while True:
            try:
                metrics.spool(await spool.counts())
            except (SpoolFailed, StoreError):
                metrics.spool(None)
            if delivery.stored > told:
                metrics.delivered(delivery.stored - told)
                told = delivery.stored
            await anyio.sleep(_FIGURES_SECONDS)

    async def serve() -> None:
        logger.info("the HTTP side listens on %s", url(await server.listen()))
        await server.run()

    return [Companion("figures", follow), Companion("spool_figures", look), Companion("server", serve)]

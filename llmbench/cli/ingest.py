"""`llmbench ingest`: the bridge alone, which takes outcomes over HTTP and puts them into the store."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping

from llmbench import __version__
from llmbench.actors.supervision import ActorDown
from llmbench.bridge.health import StoreProbe
from llmbench.bridge.metrics import Metrics
from llmbench.cli.context import load_config, open_store, seed_if_allowed, store_errors
from llmbench.cli.engine import environment, run_measuring, run_until_signal, runner_of
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.serving import key_ring, make_server, url
from llmbench.config import Config
from llmbench.logs import logging_to

logger = logging.getLogger("llmbench.bridge")


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    env = environment()
    if config.store.kind == "http":
        raise CommandError(
            "a bridge can't put what it takes into another bridge: set kind under [store], or LLMBENCH_STORE, to mongo "
            "or sqlite"
        )
    key_ring(config, env)  # what is wrong with keys is told before a store is waited for
    with logging_to(sys.stdout, json=not sys.stdout.isatty(), redact=runner_of(config, env).redactor.redact):
        return run_measuring(lambda: _serve(config, env, options.listen))


async def _serve(config: Config, env: Mapping[str, str], listen: str | None) -> int:
    async with open_store(config, wait=True) as store:
        with store_errors():
            await seed_if_allowed(config, store)
        server = make_server(config, env, store, metrics=Metrics(), health=StoreProbe(store), listen=listen)
        try:
            address = await server.listen()
        except ActorDown as error:
            raise CommandError(str(error), ExitCode.UNREACHABLE) from error
        logger.info("llmbench %s, %s into %s", __version__, url(address), store.description)
        _first, second = await run_until_signal(server, logger.info, "requests under way")
    logger.info("ended")
    return 128 + second if second is not None else ExitCode.OK

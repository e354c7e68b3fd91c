"""Putting the HTTP side together, for the commands that have one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from llmbench.actors.bus import Bus
from llmbench.actors.server import Address, Server, parse_listen
from llmbench.bridge.app import Bridge, make_app
from llmbench.bridge.health import HealthSource
from llmbench.bridge.keys import SHARED, KeyRing, shared_keys
from llmbench.bridge.keys_file import KeysUnusable, read
from llmbench.bridge.metrics import Metrics
from llmbench.bridge.streaming import LiveStreams
from llmbench.cli.exits import CommandError
from llmbench.cli.taking import taker_for
from llmbench.config import Config
from llmbench.hosts import is_loopback
from llmbench.secrets import SecretError, Secrets
from llmbench.stores.base import Store

logger = logging.getLogger("llmbench.bridge")

DEFAULT_LISTEN = "127.0.0.1:8787"


def make_server(
    config: Config,
    env: Mapping[str, str],
    store: Store,
    *,
    metrics: Metrics,
    health: HealthSource,
    bus: Bus | None = None,
    listen: str | None = None,
) -> Server:
    """Return the HTTP side of a program, to be run; ``bus`` is the engine's, if it is one.

    ``listen`` counts more than the configuration. Raises CommandError if no key is let in.
    """
    address = listen or config.server.listen or DEFAULT_LISTEN
    live = LiveStreams(bus.watch, metrics.dropped) if bus is not None else None
    bridge = Bridge(
        store=store,
        taker=taker_for(config, measuring=bus is not None),
        keys=key_ring(config, env),
        server=config.server,
        fresh_minutes=config.schedule.fresh_minutes,
        health=health,
        metrics=metrics,
        live=live,
    )
    _warn_of_plain_http(address)
    return Server(
        make_app(bridge),
        address,
        max_body=config.server.max_body_kb * 1024,
        on_ending=live.close if live is not None else _nothing,
    )


def url(address: Address) -> str:
    """Return where a server listens as a URL."""
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _nothing() -> None:
    return None


def _warn_of_plain_http(listen: str) -> None:
    host, _port = parse_listen(listen)
    if not is_loopback(host):
        logger.warning(
            "%s can be reached from other machines, and keys come over it in the clear: put a proxy with TLS in front",
            listen,
        )


def key_ring(config: Config, env: Mapping[str, str]) -> KeyRing:
    """Return the keys that are let in. Raises CommandError if there are none, or they can't be read.

    A runner that sends to a bridge has a key of that in its environment, which is nobody's key here.
    """
    path = Path(config.server.keys_file)
    try:
        shared = shared_keys(Secrets(env)) if config.store.kind != "http" else {}
        kept = read(path)
    except (KeysUnusable, SecretError) as error:
        raise CommandError(str(error)) from error
    if not shared and all(key.revoked_at is not None for key in kept):
        raise CommandError(
            f"no key is let in: make one with 'llmbench keys new RUNNER' (it is kept in '{path}'), or set "
            f"{' or '.join(SHARED)}, which all runners share"
        )
    return KeyRing(path, shared)

"""`llmbench demo --tui`: an engine that measures simulated providers on and on, watched. All of it ends together.

One provider refuses its key, another is far slower than the hours before, and the others are as ever.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio

from llmbench.actors.engine_requests import ENGINE_SOCKET
from llmbench.cli import child
from llmbench.cli.context import load_config, open_store, profile_for, seed_catalogue
from llmbench.cli.demo import KEY_VARIABLE, MODELS, configuration
from llmbench.cli.demo_past import usual_runs
from llmbench.cli.exits import CommandError
from llmbench.cli.past import past_of
from llmbench.cli.signals import Signals
from llmbench.cli.watching import Window, check_terminal, give_way, watch
from llmbench.clock import SystemClock
from llmbench.config import Config
from llmbench.simulator import SpawnedSimulator, credentials, spawn_simulator
from llmbench.tui.connection import SocketWay
from llmbench.tui.feed import LiveFeed

_BEGINNING: Final = """\
[schedule]
fresh_minutes = 0.15
grace_seconds = 5

[profiles.default]
max_tokens = 160

"""
"""Every model is due again after nine seconds, and streams are long enough to be seen filling."""

_FAILING: Final = dict.fromkeys(MODELS["groq"], "sim-401")
_SLOW: Final = {
    "llama-70b-sim-ttft210-gap9": "sim-ttft1300-gap9",
    "mixtral-sim-ttft190-gap10": "sim-ttft1200-gap10",
    "qwen-32b-sim-ttft200-gap8": "sim-ttft1250-gap8",
}
"""How models behave from now on, whatever their names say."""

_WATCHED: Final = MODELS | {"together": tuple(_SLOW)}

_KEPT: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TERM", "TMPDIR", "TZ", "VIRTUAL_ENV")
"""Of a person's environment; anything else might lead the demo to the person's own store, keys or providers."""


def run(options: argparse.Namespace) -> int:
    if options.json or options.db is not None:
        raise CommandError("--tui shows runs and keeps none: leave --json and --db out")
    check_terminal()
    with (
        Signals() as signals,
        spawn_simulator() as simulator,
        tempfile.TemporaryDirectory(prefix="llmbench-demo-") as folder,
    ):
        env = _environment(Path(folder), simulator.url)
        config = _configured(Path(folder), simulator.url, env)
        anyio.run(_fill, config)
        _make_trouble(simulator)
        return anyio.run(_watch, config, env, signals)


def _environment(folder: Path, url: str) -> dict[str, str]:
    """Return the environment of the engine: keys of the simulator, nothing of the person's that has to do with any."""
    own = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("PYTHON")}
    return own | {KEY_VARIABLE: "demo-key-for-the-simulator"} | credentials.environment(folder, url)


def _configured(folder: Path, url: str, env: Mapping[str, str]) -> Config:
    path = folder / "config.toml"
    spool = f'[spool]\nfolder = "spool"\n\n{_BEGINNING}'
    path.write_text(spool + configuration(url, folder / "llmbench.db", _WATCHED), encoding="utf-8")
    return load_config(path, env)


async def _fill(config: Config) -> None:
    """Put the past into the store."""
    async with open_store(config) as store:
        models = await seed_catalogue(config, store)
        runs = [(model, profile_for(config, model)) for model in models]
        await store.put(list(usual_runs(runs, SystemClock().now(), config.runner.id)))


def _make_trouble(simulator: SpawnedSimulator) -> None:
    for model, becomes in (_FAILING | _SLOW).items():
        simulator.alias(model, becomes)


async def _watch(config: Config, env: Mapping[str, str], signals: Signals) -> int:
    way = SocketWay(config.spool_folder / ENGINE_SOCKET)
    engine = child.start(config, env, ends_with_us=True)
    try:
        async with past_of(config, env, way, ours=True) as history:
            feed = LiveFeed(way, explain=engine.explain)
            window = Window(feed=feed, history=history, settings=config.tui, child=engine, ends_with_us=True)
            give_way()
            return await watch(window, signals)
    finally:
        engine.terminate()  # nothing, if all went well

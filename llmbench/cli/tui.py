"""`llmbench tui`: watches the engine that runs here, or one that it starts, or one elsewhere."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio

from llmbench.actors.engine_requests import ENGINE_SOCKET
from llmbench.cli import child as children
from llmbench.cli.child import LOG, AlreadyStarted, Child
from llmbench.cli.context import load_config
from llmbench.cli.exits import CommandError, end_now
from llmbench.cli.past import past_of
from llmbench.cli.signals import Signals
from llmbench.cli.watching import Window, check_terminal, give_way, watch
from llmbench.config import Config
from llmbench.error_text import clean
from llmbench.secrets import SecretError, Secrets
from llmbench.tui.connection import HttpWay, SocketWay, Way, url_problem
from llmbench.tui.feed import LiveFeed, lost

KEY_VARIABLE: Final = "LLMBENCH_ATTACH_KEY"

_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.2
_SUFFIX: Final = Path(ENGINE_SOCKET).suffix


def run(options: argparse.Namespace) -> int:
    check_terminal()
    config = load_config(options.config)
    with Signals() as signals:
        code, store_hangs = anyio.run(_watch, config, options, signals)
    if store_hangs:
        end_now(code)
    return code


async def _watch(config: Config, options: argparse.Namespace, signals: Signals) -> tuple[int, bool]:
    """Watch until that is left; return the exit code, and whether a thread still waits for the store."""
    way = _way(config, options, os.environ)
    child = await _started(config, way, os.environ) if options.attach is None else None
    async with past_of(config, os.environ, way, ours=options.attach is None) as history:
        feed = LiveFeed(way, explain=lost if child is None else child.explain)
        give_way()
        code = await watch(Window(feed=feed, history=history, settings=config.tui, child=child), signals)
    return code, history.hangs


def _way(config: Config, options: argparse.Namespace, env: Mapping[str, str]) -> Way:
    """Return the way to the engine that is asked for. Raises CommandError."""
    attach: str | None = options.attach
    if attach is not None and "://" in attach:
        return _over_http(attach, options.key_env or KEY_VARIABLE, env)
    if options.key_env is not None:
        raise CommandError("--key-env names the key for --attach URL: no other way needs one")
    return SocketWay(config.spool_folder / ENGINE_SOCKET if attach is None else _socket(attach))


def _over_http(url: str, variable: str, env: Mapping[str, str]) -> HttpWay:
    if (problem := url_problem(url)) is not None:
        raise CommandError(f"--attach {_without_secrets(url)!r} {problem}")
    try:
        key = Secrets(env).require(variable, "a key of that engine with the scope read (llmbench keys new)")
    except SecretError as error:
        raise CommandError(str(error)) from error
    return HttpWay(url, key, variable)


def _socket(text: str) -> Path:
    path = Path(text).absolute()
    if not path.exists() and re.fullmatch(r"[^/]+:[0-9]+", text):
        raise CommandError(f"--attach {text!r} is no socket: write a URL as http://{text}")
    named = path.suffix == _SUFFIX or path.is_socket()
    return path if named else path / ENGINE_SOCKET  # of a folder, which need not be there yet


def _without_secrets(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return clean(f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}", 200)


async def _started(config: Config, way: Way, env: Mapping[str, str]) -> Child | None:
    """Start an engine, unless one answers, or another window has started one that will. Raises CommandError."""
    assert isinstance(way, SocketWay), "an engine elsewhere is not ours to start"
    with anyio.move_on_after(_PATIENCE_SECONDS):
        while not await way.answers():
            try:
                return children.start(config, env)
            except AlreadyStarted:
                await anyio.sleep(_LOOK_SECONDS)
            except OSError as error:
                raise CommandError(f"no engine can be started: {error}") from error
        return None
    log = config.spool_folder / LOG
    raise CommandError(f"the engine that another window started neither answers nor ends; its log: {log}")

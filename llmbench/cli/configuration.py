"""`llmbench config`: check the configuration, or show it as it takes effect."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from llmbench.cli import output
from llmbench.cli.context import load_config, store_errors
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.config import Config, show


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    if options.action == "show":
        output.line(show(config, os.environ).rstrip("\n"))
    else:
        output.line(check(config, os.environ))
    return ExitCode.OK


def check(config: Config, env: Mapping[str, str]) -> str:
    """Return a sentence that says what the configuration amounts to.

    Raises CommandError with everything that would keep the engine from measuring with it, a line each.
    """
    store_problems = config.store_problems or _database_problems(config.database)
    if problems := [*store_problems, *config.start_problems(env)]:
        raise CommandError("\n".join(problems))
    source = "the built-in defaults" if config.source is None else str(config.source)
    return f"OK: {source}: {_providers(config)}, {_models(config)}, {config.store.kind} store in {config.database}"


def _database_problems(path: Path) -> tuple[str, ...]:
    """Return why the store can't be in this file; nothing is created. Raises CommandError if it only can't be now."""
    from llmbench.stores import sqlite_schema
    from llmbench.stores.base import StoreUnusable

    with store_errors():
        try:
            sqlite_schema.check(path)
        except StoreUnusable as error:
            return (str(error),)
    return ()


def _providers(config: Config) -> str:
    names = [provider.name for provider in config.enabled_providers()]
    return f"{_count(len(names), 'provider')} enabled ({', '.join(names)})"


def _models(config: Config) -> str:
    if config.worklist:
        return f"{_count(len(config.worklist), 'model')} listed in BENCHMARK_MODELS"
    return f"{_count(sum(len(provider.models) for provider in config.enabled_providers()), 'model')} listed"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""`llmbench config`: check the configuration, or show it as it takes effect."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

import anyio

from llmbench.cli import output
from llmbench.cli.context import (
    http_settings,
    listed_models,
    load_config,
    make_store,
    mongo_address,
    new_model,
    store_errors,
)
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.models_common import finding_of, sentence
from llmbench.config import Config, show


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    if options.action == "show":
        output.line(show(config, os.environ).rstrip("\n"))
    else:
        output.line(check(config, os.environ))
        for warning in warnings(config, os.environ):
            output.note(f"warning: {warning}")
    return ExitCode.OK


def check(config: Config, env: Mapping[str, str]) -> str:
    """Return a sentence that says what the configuration amounts to.

    Raises CommandError with everything that would keep the engine from measuring with it, a line each.
    """
    store_problems = config.store_problems or _store_problems(config, env)
    if problems := [*store_problems, *config.start_problems(env), *_credential_problems(config)]:
        raise CommandError("\n".join(problems))
    source = "the built-in defaults" if config.source is None else str(config.source)
    return f"OK: {source}: {_providers(config)}, {_models(config)}, {_store(config, env)}"


def _credential_problems(config: Config) -> list[str]:
    """Return a sentence for each provider that would find no credentials on this machine."""
    from llmbench.cli.engine import missing_credentials  # all that an engine needs: too much to show a file

    way_out = "or take the provider out with enabled = false"
    prefix = f"{config.source}: " if config.source else ""
    missing = anyio.run(missing_credentials, config.enabled_providers())
    return [f"{prefix}providers.{problem}, {way_out}" for problem in missing]


def warnings(config: Config, env: Mapping[str, str]) -> list[str]:
    """Return a sentence for each model of an enabled provider whose id the rules are against.

    Nothing is kept from being measured: what the file lists was written by hand.
    """
    enabled = {provider.name for provider in config.enabled_providers()}
    named = [new_model(ref.provider, ref.model_id, source="BENCHMARK_MODELS") for ref in config.worklist]
    models = [model for model in named or listed_models(config) if model.provider in enabled]
    return [sentence(model, found) for model in models if (found := finding_of(config, model, env)) is not None]


def _store_problems(config: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return why the store can't be used, as far as that shows without asking a server."""
    match config.store.kind:
        case "mongo":
            return _uri_problems(config, env)
        case "http":
            return _bridge_problems(config, env)
        case _:
            return _database_problems(config.database)


def _bridge_problems(config: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    from llmbench.stores import http_client
    from llmbench.stores.base import StoreUnusable

    try:
        http_client.check(http_settings(config, env))
    except (StoreUnusable, CommandError) as error:
        return (str(error),)
    return ()


def _uri_problems(config: Config, env: Mapping[str, str]) -> tuple[str, ...]:
    from llmbench.stores import mongo_client
    from llmbench.stores.base import StoreUnusable

    try:
        mongo_client.check(mongo_address(config, env))
    except StoreUnusable as error:
        return (str(error),)
    return ()


def _store(config: Config, env: Mapping[str, str]) -> str:
    if config.store.kind == "mongo":
        return f"mongo store in {mongo_address(config, env)}"
    if config.store.kind == "http":
        return f"http store, {make_store(config, env).description}"
    return f"sqlite store in {config.database}"


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
    return f"{counted(len(names), 'provider')} enabled ({', '.join(names)})"


def _models(config: Config) -> str:
    if config.worklist:
        return f"{counted(len(config.worklist), 'model')} listed in BENCHMARK_MODELS"
    return f"{counted(sum(len(provider.models) for provider in config.enabled_providers()), 'model')} listed"


def counted(number: int, noun: str) -> str:
    """Return a number of things, the noun in the plural unless it is one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

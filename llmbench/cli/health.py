"""`llmbench health`: does every provider deliver? Ends with 1 if one had no success in the window."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from llmbench.cli import output
from llmbench.cli.context import listed_models, load_config, with_store
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_common import age
from llmbench.cli.results import since, spelled
from llmbench.config import Config
from llmbench.error_text import visible
from llmbench.naming import fold, key_of
from llmbench.reports.health import Health, ProviderHealth, health_of
from llmbench.stores.base import Store


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    health = with_store(config, lambda store: _ask(config, store, options))
    if options.json:
        output.json_line(health)
    elif health.providers:
        _print(health)
    if not health.providers:
        output.note("no provider has a model to be measured, and no run is stored from this window; see config check")
    elif not health.healthy:
        output.note(visible(_complaint(health, options)))
    return ExitCode.OK if health.healthy else ExitCode.UNHEALTHY


async def _ask(config: Config, store: Store, options: argparse.Namespace) -> Health:
    start = since(options.since)
    return health_of(await store.tallies(since=start), await _expected(config, store), start)


async def _expected(config: Config, store: Store) -> set[str]:
    """Return the enabled providers that have models to be measured, as the engine would find them; nothing is stored.

    A model that config.toml lists counts unless the catalogue has it disabled.
    """
    catalogue = await store.models()
    known = {key_of(model) for model in catalogue}
    listed = [model for model in listed_models(config) if key_of(model) not in known]
    measured = {fold(model.provider) for model in [*catalogue, *listed] if model.enabled}
    if config.worklist:
        measured = {reference.provider for reference in config.worklist}
    return measured & {provider.name for provider in config.enabled_providers()}


def _print(health: Health) -> None:
    columns = ("provider", "state", "ok", "errors", "rate", "models", "last success")
    output.table(columns, map(_row, health.providers), right=(2, 3, 4, 5), wrap=0)
    failing = [
        (f"{one.provider}/{model.model_name}", str(model.errors), age(model.last_success))
        for one in health.providers
        for model in one.only_errors
    ]
    if failing:
        output.line("\nmodels with errors only\n")
        output.table(("model", "errors", "last success"), failing, right=(1,), wrap=0)


def _row(one: ProviderHealth) -> Sequence[str]:
    rate = "-" if one.error_rate is None else f"{100 * one.error_rate:.1f}%"
    counts = (str(one.successes), str(one.errors), rate, str(one.models))
    return (one.provider, one.state, *counts, age(one.last_success))


def _complaint(health: Health, options: argparse.Namespace) -> str:
    named = ", ".join(f"{one.provider} ({one.state})" for one in health.providers if one.state != "ok")
    return (
        f"no success in the last {spelled(options.since)}: {named}; llmbench errors --since {spelled(options.since)} "
        "says why, or is the engine not running?"
    )

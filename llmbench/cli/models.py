"""`llmbench models`: the catalogue of what to measure. The list is here, the other actions in modules beside it."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from llmbench.cli import models_change, models_check, models_lines, models_show, output
from llmbench.cli.context import load_config, seed_if_allowed, with_store
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_common import age, check_provider, effective_profile, no_past, tell_idle_providers
from llmbench.config import Config
from llmbench.messages import Model
from llmbench.naming import key_of
from llmbench.stores.base import ModelHistory, Store

_EMPTY = """\
the catalogue is empty
  add a model:  llmbench models add openai/gpt-4o-mini
  or list some in config.toml:  models = ["gpt-4o-mini"] under [providers.openai]"""


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    return with_store(config, lambda store: _ACTIONS[options.action](config, store, options))


async def _list(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_if_allowed(config, store)
    enabled = True if options.enabled else False if options.disabled else None
    models = await store.models(provider=options.provider, enabled=enabled)
    if not models:
        sentence = await _nothing(config, store, options)
        if options.count:
            _print_count(options, 0)
        output.note(sentence)
        return ExitCode.OK
    if options.count:
        _print_count(options, len(models))
        return ExitCode.OK
    pasts = {key_of(past): past for past in await store.history()}
    listed = [(model, pasts.get(key_of(model), no_past(model))) for model in models]
    if options.json:
        for model, past in listed:
            output.json_line(_listed_document(config, model, past))
    else:
        columns = ("provider", "model", "state", "profile", "scheduled success")
        output.table(columns, (_listed_row(config, model, past) for model, past in listed), wrap=(1, 2))
        tell_idle_providers(config, models)
    return ExitCode.OK


def _print_count(options: argparse.Namespace, count: int) -> None:
    if options.json:
        output.json_line({"count": count})
    else:
        output.line(str(count))


async def _nothing(config: Config, store: Store, options: argparse.Namespace) -> str:
    """Return the sentence for a list without models. Raises CommandError if nobody knows the provider."""
    if options.provider is not None and not await store.models(provider=options.provider):
        check_provider(config, options.provider)
    if not await store.models():
        return _EMPTY
    state = "enabled " if options.enabled else "disabled " if options.disabled else ""
    of = f" of {options.provider!r}" if options.provider is not None else ""
    return f"the catalogue has no {state}model{of}; llmbench models list shows what it has"


def _listed_document(config: Config, model: Model, past: ModelHistory) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(model)
    return document | {
        "effective_profile": effective_profile(config, model),
        "last_success": past.last_success,
        "failures_in_a_row": past.failures_in_a_row,
    }


def _listed_row(config: Config, model: Model, past: ModelHistory) -> tuple[str, ...]:
    state = "enabled" if model.enabled else f"disabled: {model.disabled_reason or 'no reason given'}"
    profile = effective_profile(config, model) or "-"
    return model.provider, model.model_id, state, profile, age(past.last_success)


_ACTIONS: dict[str, Callable[[Config, Store, argparse.Namespace], Awaitable[int]]] = {
    "list": _list,
    "show": models_show.show,
    "check": models_check.check,
    "add": models_change.add,
    "set": models_change.change,
    "enable": models_change.enable,
    "disable": models_change.disable,
    "export": models_lines.export,
    "import": models_lines.take,
}

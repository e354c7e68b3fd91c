"""What the actions of `llmbench models` share: finding a row, judging its id, telling its state."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from llmbench.catalog import Finding, judge, reserved
from llmbench.cli import output
from llmbench.cli.context import profile_name, unknown_model_error
from llmbench.cli.exits import CommandError
from llmbench.config import Config, UnknownProfile, UnknownProvider
from llmbench.messages import Model
from llmbench.naming import fold
from llmbench.providers.presets import AWS_REGION_VARIABLES, first_set
from llmbench.stores.base import ModelHistory, Store, UnknownModel


async def find_model(config: Config, store: Store, options: argparse.Namespace) -> Model:
    """Return the catalogue's row. Raises CommandError if there is none."""
    try:
        return await store.model(*options.model)
    except UnknownModel as error:
        if not await store.models(provider=error.provider):
            check_provider(config, error.provider)
        raise unknown_model_error(error) from error


def check_provider(config: Config, name: str) -> None:
    """Raise CommandError if no provider has this name."""
    try:
        config.provider(name)
    except UnknownProvider as error:
        raise CommandError(str(error)) from error


def check_profile(config: Config, name: str) -> None:
    """Raise CommandError if no profile has this name."""
    try:
        config.profile(name)
    except UnknownProfile as error:
        raise CommandError(f"{error}, or add a table [profiles.{name}] to config.toml") from error


def finding_of(config: Config, model: Model, env: Mapping[str, str] | None = None) -> Finding | None:
    """Return what the rules say against a model's id, in the region that it would be called in."""
    provider = config.providers.get(fold(model.provider))
    if provider is None:
        return judge(None, model.model_id)
    env = os.environ if env is None else env
    region = provider.region_of(model)
    if region is None and provider.kind == "bedrock":
        found = first_set(AWS_REGION_VARIABLES, env)
        region = found[1] if found is not None else None
    return judge(provider.kind, model.model_id, region, model.request)


def sentence(model: Model, finding: Finding) -> str:
    """Return what is wrong with a model's id and what to do about it, without the last word on --force."""
    return f"{model.provider}/{model.model_id} {finding.reason}: {advice(model, finding)}"


def findings_of(config: Config, model: Model, env: Mapping[str, str] | None = None) -> list[Finding]:
    """Return all that is wrong with a row: with its id, and with what it says of itself."""
    return [*([found] if (found := finding_of(config, model, env)) else []), *own_findings(config, model)]


def own_findings(config: Config, model: Model) -> list[Finding]:
    """Return what is wrong with what a row says of itself, its profile and its request."""
    return [found for found in (profile_finding(config, model), request_finding(model)) if found is not None]


def profile_finding(config: Config, model: Model) -> Finding | None:
    """Return why a model can't be measured with the profile of its row, None if it can."""
    if model.profile is None or model.profile in config.profiles:
        return None
    return Finding(problem="profile", reason=f"has the profile {model.profile!r:.80}, which is not known")


def request_finding(model: Model) -> Finding | None:
    """Return which fields of a row's own request are not sent, None if all are."""
    names = reserved(model.request)
    if not names:
        return None
    return Finding(problem="request", reason=f"has a request with {', '.join(names)}, which llmbench alone sets")


def advice(model: Model, finding: Finding) -> str:
    if finding.problem == "profile":
        name = f"{model.provider}/{model.model_id}"
        table = f"add a table [profiles.{model.profile:.80}] to config.toml"
        return f"llmbench models set {name} --profile none takes it away, or {table}"
    if finding.problem == "request":
        return "take it out of the row's request; it is not sent"
    if finding.right is not None:
        return f"use {model.provider}/{finding.right}"
    return "choose one that chats" if finding.problem == "unfit" else "choose another"


def effective_profile(config: Config, model: Model) -> str | None:
    """Return the name of the profile that the model is measured with, None if its provider is not configured."""
    if model.profile is not None:
        return model.profile
    provider = config.providers.get(fold(model.provider))
    return None if provider is None else profile_name(provider, model.model_id)


def tell_idle_providers(config: Config, models: Sequence[Model]) -> None:
    """Say whose models are not measured although they are enabled."""
    on = {provider.name for provider in config.enabled_providers()}
    for name in dict.fromkeys(fold(model.provider) for model in models if model.enabled):
        if name not in on:
            output.note(f"{name} is not enabled in the configuration, so its models are not measured")


def no_past(model: Model) -> ModelHistory:
    return ModelHistory(provider=model.provider, model_id=model.model_id)


def age(when: datetime | None) -> str:
    """Return how long ago it was, in the largest unit that gives a whole number."""
    if when is None:
        return "never"
    seconds = max(0, int((datetime.now(UTC) - when).total_seconds()))
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    unit, size = next((unit, size) for unit, size in sizes.items() if seconds >= size or size == 1)
    return f"{seconds // size} {unit} ago"

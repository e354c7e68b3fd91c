"""`llmbench models add`, `set`, `enable` and `disable`: changes of the catalogue."""

from __future__ import annotations

import argparse
import getpass
import os
from datetime import UTC, datetime

import msgspec

from llmbench.cli import output
from llmbench.cli.context import new_model, seed_catalogue
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.models_common import (
    check_profile,
    check_provider,
    find_model,
    finding_of,
    sentence,
    tell_idle_providers,
)
from llmbench.config import Config
from llmbench.config.check import check_text
from llmbench.config.tables import CloudRegion, ModelId
from llmbench.error_text import visible
from llmbench.messages import Model
from llmbench.naming import fold
from llmbench.providers.presets import CLOUD_KINDS
from llmbench.stores.base import ModelChanges, ModelExists, Store, UnknownModel

FORCED = "added with --force: "
"""What the notes of a model begin with whose id is known to be against the rules."""

_NONE = "none"


async def add(config: Config, store: Store, options: argparse.Namespace) -> int:
    """Add a model, or enable it again. Raises CommandError if it is there, or the rules are against its id."""
    provider, model_id = options.model
    check_provider(config, provider)
    _check_new(config, options)
    new = new_model(
        provider, model_id, source="cli", profile=options.profile, display_name=options.display_name or None
    )
    new = _judged(config, new, force=options.force)
    try:
        known = await store.model(provider, model_id)
    except UnknownModel:
        known = None
    try:
        added = await store.add_model(new)
    except ModelExists as error:
        raise CommandError(_there_already(error.existing, options.profile)) from error
    _tell(options, added, "added" if known is None else "was disabled and is enabled again")
    tell_idle_providers(config, [added])
    return ExitCode.OK


def _check_new(config: Config, options: argparse.Namespace) -> None:
    provider, model_id = options.model
    _, wrong = check_text(model_id, ModelId)
    if wrong is not None:
        raise CommandError(f"the id of {provider}/{model_id!r} {wrong}")
    if options.profile is not None:
        check_profile(config, options.profile)


def _judged(config: Config, new: Model, *, force: bool) -> Model:
    """Return the model, with a note if it is added against the rules. Raises CommandError if it must not be."""
    finding = finding_of(config, new)
    if finding is None:
        return new
    if not force:
        raise CommandError(f"{sentence(new, finding)}, or add it all the same with --force")
    output.note(f"against the rules: {sentence(new, finding)}")
    return msgspec.structs.replace(new, notes=f"{FORCED}{finding.reason}")


def _there_already(existing: Model, profile: str | None) -> str:
    name = f"{existing.provider}/{existing.model_id}"
    next_step = f"llmbench models show {name} shows it"
    if profile not in (None, existing.profile):
        next_step = f"llmbench models set {name} --profile {profile} changes its profile"
    return f"{name} is in the catalogue already, enabled; {next_step}"


async def change(config: Config, store: Store, options: argparse.Namespace) -> int:
    """Change a row's own fields, whether it is enabled or not."""
    changes = _changes(options)
    if not changes:
        raise CommandError("nothing to change: give --profile, --region or --display-name")
    await seed_catalogue(config, store)
    model = await find_model(config, store, options)
    _check_changes(config, model, changes)
    changed = await store.change_model(model.provider, model.model_id, **changes)
    _tell(options, changed, "is as it was" if changed == model else "changed")
    return ExitCode.OK


def _changes(options: argparse.Namespace) -> ModelChanges:
    """Return what the options ask for; ``none`` takes a value away. Raises CommandError for an empty one."""
    for name in ("profile", "region", "display_name"):
        if getattr(options, name) == "":
            raise CommandError(
                f"--{name.replace('_', '-')} is empty: give a value, or '{_NONE}' to take the present one away"
            )
    changes = ModelChanges()
    if options.profile is not None:
        changes["profile"] = _value(options.profile)
    if options.region is not None:
        changes["region"] = _value(options.region)
    if options.display_name is not None:
        changes["display_name"] = _value(options.display_name)
    return changes


def _value(text: str) -> str | None:
    return None if text == _NONE else text


def _check_changes(config: Config, model: Model, changes: ModelChanges) -> None:
    if (profile := changes.get("profile")) is not None:
        check_profile(config, profile)
    if "region" in changes:
        if (region := changes["region"]) is not None:
            _check_region(config, model, region)
        _check_id(config, model, region)


def _check_region(config: Config, model: Model, region: str) -> None:
    provider = fold(model.provider)
    check_provider(config, provider)
    kind = config.provider(provider).kind
    if kind not in CLOUD_KINDS:
        raise CommandError(f"--region is of use with Bedrock and Vertex only: {model.provider!r} is of kind {kind!r}")
    _, wrong = check_text(region, CloudRegion)
    if wrong is not None:
        raise CommandError(f"--region {wrong}")


def _check_id(config: Config, model: Model, region: str | None) -> None:
    """Raise CommandError if the id is wrong where the model would be called now, unless it was forced in."""
    moved = msgspec.structs.replace(model, region=region)
    finding = finding_of(config, moved)
    forced = (model.notes or "").startswith(FORCED)
    if finding is not None and finding.problem == "wrong_id" and not forced:
        raise CommandError(sentence(moved, finding))


async def enable(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_catalogue(config, store)
    model = await find_model(config, store, options)
    enabled = await store.enable_model(model.provider, model.model_id)
    _tell(options, enabled, "was enabled already" if model.enabled else "enabled")
    tell_idle_providers(config, [enabled])
    return ExitCode.OK


async def disable(config: Config, store: Store, options: argparse.Namespace) -> int:
    if not (why := visible(options.reason.strip())):
        raise CommandError("--reason is empty: say why the model is disabled, for whoever wonders later")
    await seed_catalogue(config, store)
    model = await find_model(config, store, options)
    disabled = await store.disable_model(
        model.provider, model.model_id, reason=why, by=f"cli:{_user()}", at=datetime.now(UTC)
    )
    _tell(options, disabled, "disabled" if model.enabled else "was disabled already; the reason is new")
    return ExitCode.OK


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return str(os.getuid())


def _tell(options: argparse.Namespace, model: Model, what: str) -> None:
    if options.json:
        output.json_line(model)
    else:
        output.line(visible(f"{model.provider}/{model.model_id} {what}"))

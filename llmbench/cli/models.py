"""`llmbench models`: the catalogue of what to measure, and what is known of each model."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from llmbench.cli import output
from llmbench.cli.context import (
    load_config,
    new_model,
    profile_name,
    seed_catalogue,
    unknown_model_error,
    with_store,
)
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.results import print_outcomes
from llmbench.config import Config, UnknownProfile, UnknownProvider
from llmbench.config.check import check_text
from llmbench.config.tables import ModelId
from llmbench.error_kinds import KIND_ADVICE
from llmbench.messages import Failure, Model, Outcome
from llmbench.stores.base import ErrorRollup, ModelExists, ModelHistory, OutcomeQuery, Store, UnknownModel

_EMPTY = """\
the catalogue is empty
  add a model:  llmbench models add openai/gpt-4o-mini
  or list some in config.toml:  models = ["gpt-4o-mini"] under [providers.openai]"""

_LAST = 5
_ADVISED = 200
"""How many of a model's last failures are searched for the advice that was given with them."""


class KnownError(msgspec.Struct, frozen=True, kw_only=True):
    """An error of one model, counted, with what to do about it."""

    error: ErrorRollup
    advice: str


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """All that `models show` tells. ``effective_profile`` is None if the model's provider is configured no more."""

    model: Model
    effective_profile: str | None
    history: ModelHistory
    outcomes: list[Outcome]
    errors: list[KnownError]


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    return with_store(config, lambda store: _ACTIONS[options.action](config, store, options))


# list


async def _list(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_catalogue(config, store)
    enabled = True if options.enabled else False if options.disabled else None
    models = await store.models(provider=options.provider, enabled=enabled)
    if not models:
        output.note(await _nothing(config, store, options))
        return ExitCode.OK
    pasts = {_key(past): past for past in await store.history()}
    listed = [(model, pasts.get(_key(model), _no_past(model))) for model in models]
    if options.json:
        for model, past in listed:
            output.json_line(_listed_document(config, model, past))
    else:
        columns = ("provider", "model", "state", "profile", "scheduled success")
        output.table(columns, (_listed_row(config, model, past) for model, past in listed), wrap=(1, 2))
        _tell_idle_providers(config, models)
    return ExitCode.OK


async def _nothing(config: Config, store: Store, options: argparse.Namespace) -> str:
    """Return the sentence for a list without models. Raises CommandError if nobody knows the provider."""
    if options.provider is not None and not await store.models(provider=options.provider):
        _check_provider(config, options.provider)
    if not await store.models():
        return _EMPTY
    state = "enabled " if options.enabled else "disabled " if options.disabled else ""
    of = f" of {options.provider!r}" if options.provider is not None else ""
    return f"the catalogue has no {state}model{of}; llmbench models list shows what it has"


def _listed_document(config: Config, model: Model, past: ModelHistory) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(model)
    return document | {
        "effective_profile": _effective_profile(config, model),
        "last_success": past.last_success,
        "failures_in_a_row": past.failures_in_a_row,
    }


def _listed_row(config: Config, model: Model, past: ModelHistory) -> tuple[str, ...]:
    state = "enabled" if model.enabled else f"disabled: {model.disabled_reason or 'no reason given'}"
    profile = _effective_profile(config, model) or "-"
    return model.provider, model.model_id, state, profile, _age(past.last_success)


def _tell_idle_providers(config: Config, models: Sequence[Model]) -> None:
    """Say whose models are not measured although they are enabled."""
    on = {provider.name for provider in config.enabled_providers()}
    for name in dict.fromkeys(model.provider for model in models if model.enabled and model.provider not in on):
        output.note(f"{name} is not enabled in the configuration, so its models are not measured")


# show


async def _show(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_catalogue(config, store)
    detail = await _detail(config, store, await _model(config, store, options))
    if options.json:
        output.json_line(detail)
    else:
        _print_detail(detail)
    return ExitCode.OK


async def _detail(config: Config, store: Store, model: Model) -> Detail:
    own = OutcomeQuery(provider=model.provider, model=model.model_id, limit=_LAST)
    pasts = {_key(past): past for past in await store.history()}
    return Detail(
        model=model,
        effective_profile=_effective_profile(config, model),
        history=pasts.get(_key(model), _no_past(model)),
        outcomes=await store.outcomes(own),
        errors=await _errors(store, model),
    )


async def _errors(store: Store, model: Model) -> list[KnownError]:
    query = OutcomeQuery(provider=model.provider, model=model.model_id, kind="failures", limit=_ADVISED)
    failures = [failure for failure in await store.outcomes(query) if isinstance(failure, Failure)]
    given = {failure.fingerprint: failure.advice for failure in reversed(failures)}
    return [
        KnownError(error=error, advice=given.get(error.fingerprint) or _advice(error))
        for error in await store.rollups()
        if (error.provider.lower(), error.model_name.lower()) == _key(model)
    ]


def _advice(error: ErrorRollup) -> str:
    """Return the general advice for an error that is too old for its failures to be looked through."""
    general = (advice for kind, advice in KIND_ADVICE.items() if kind == error.error_kind)
    return next(general, KIND_ADVICE["unknown"]).replace("{provider}", error.provider)


def _print_detail(detail: Detail) -> None:
    model = detail.model
    name = f"{model.provider}/{model.model_id}"
    output.table(("field", "value"), [("model", name), *_facts(detail)], wrap=1)
    if detail.outcomes:
        output.line("\nlast outcomes\n")
        print_outcomes(detail.outcomes)
    if detail.errors:
        output.line("\nerrors\n")
        output.table(
            ("count", "kind", "last", "message, and what to do"), _error_rows(detail.errors), right=(0,), wrap=3
        )


def _facts(detail: Detail) -> list[tuple[str, str]]:
    """Return what the catalogue says of a model, and its past; what is not said is left out."""
    model, past = detail.model, detail.history
    own = {name: value for name, value in msgspec.structs.asdict(model).items() if value is not None}
    for name in ("provider", "model_id", "enabled", "deprecated", "created_at", "profile"):
        own.pop(name, None)
    profile = detail.effective_profile
    return [
        ("state", "enabled" if model.enabled else "disabled"),
        ("profile", "-" if profile is None else profile if model.profile else f"{profile} (by its provider and id)"),
        *((name.replace("_", " "), _shown(value)) for name, value in own.items()),
        *([("deprecated", "yes")] if model.deprecated else []),
        ("added", _shown(model.created_at)),
        ("last scheduled success", _age(past.last_success)),
        ("failures since", _failures(past)),
    ]


def _failures(past: ModelHistory) -> str:
    if past.last_failure is None:
        return "none"
    return f"{past.failures_in_a_row} in a row, the last {_age(past.last_failure)}: {past.last_failure_kind}"


def _error_rows(errors: Sequence[KnownError]) -> list[tuple[str, str, str, str]]:
    rows = []
    for known in errors:
        error = known.error
        rows += [
            (str(error.count), error.error_kind, _age(error.last_seen), next(iter(error.sample_messages), "-")),
            ("", "", "", f"-> {known.advice}"),
        ]
    return rows


# add, enable, disable


async def _add(config: Config, store: Store, options: argparse.Namespace) -> int:
    provider, model_id = options.model
    _check_provider(config, provider)
    _check_new(config, options)
    try:
        known = await store.model(provider, model_id)
    except UnknownModel:
        known = None
    new = new_model(
        provider, model_id, source="cli", profile=options.profile, display_name=options.display_name or None
    )
    try:
        added = await store.add_model(new)
    except ModelExists as error:
        name = f"{error.existing.provider}/{error.existing.model_id}"
        raise CommandError(f"{error}, enabled; llmbench models show {name} shows it") from error
    _tell(options, added, "added" if known is None else "was disabled and is enabled again")
    _tell_idle_providers(config, [added])
    return ExitCode.OK


def _check_new(config: Config, options: argparse.Namespace) -> None:
    provider, model_id = options.model
    _, wrong = check_text(model_id, ModelId)
    if wrong is not None:
        raise CommandError(f"the id of {provider}/{model_id!r} {wrong}")
    if options.profile is not None:
        try:
            config.profile(options.profile)
        except UnknownProfile as error:
            raise CommandError(f"{error}, or add a table [profiles.{options.profile}] to config.toml") from error


async def _enable(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_catalogue(config, store)
    model = await _model(config, store, options)
    enabled = await store.enable_model(model.provider, model.model_id)
    _tell(options, enabled, "was enabled already" if model.enabled else "enabled")
    _tell_idle_providers(config, [enabled])
    return ExitCode.OK


async def _disable(config: Config, store: Store, options: argparse.Namespace) -> int:
    if not options.reason.strip():
        raise CommandError("--reason is empty: say why the model is disabled, for whoever wonders later")
    await seed_catalogue(config, store)
    model = await _model(config, store, options)
    disabled = await store.disable_model(
        model.provider, model.model_id, reason=options.reason.strip(), by=f"cli:{_user()}", at=datetime.now(UTC)
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
        output.line(f"{model.provider}/{model.model_id} {what}")


# what the actions share


async def _model(config: Config, store: Store, options: argparse.Namespace) -> Model:
    """Return the catalogue's row. Raises CommandError if there is none."""
    try:
        return await store.model(*options.model)
    except UnknownModel as error:
        if not await store.models(provider=error.provider):
            _check_provider(config, error.provider)
        raise unknown_model_error(error) from error


def _check_provider(config: Config, name: str) -> None:
    """Raise CommandError if no provider has this name."""
    try:
        config.provider(name)
    except UnknownProvider as error:
        raise CommandError(str(error)) from error


def _key(named: Model | ModelHistory) -> tuple[str, str]:
    """Return what names a model, the same however it is spelled."""
    return named.provider.lower(), named.model_id.lower()


def _no_past(model: Model) -> ModelHistory:
    return ModelHistory(provider=model.provider, model_id=model.model_id)


def _effective_profile(config: Config, model: Model) -> str | None:
    """Return the name of the profile that the model is measured with, None if its provider is not configured."""
    if model.profile is not None:
        return model.profile
    provider = config.providers.get(model.provider)
    return None if provider is None else profile_name(provider, model.model_id)


def _shown(value: object) -> str:
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)


def _age(when: datetime | None) -> str:
    """Return how long ago it was, in the largest unit that gives a whole number."""
    if when is None:
        return "never"
    seconds = max(0, int((datetime.now(UTC) - when).total_seconds()))
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    unit, size = next((unit, size) for unit, size in sizes.items() if seconds >= size or size == 1)
    return f"{seconds // size} {unit} ago"


_ACTIONS: dict[str, Callable[[Config, Store, argparse.Namespace], Awaitable[int]]] = {
    "list": _list,
    "show": _show,
    "add": _add,
    "enable": _enable,
    "disable": _disable,
}

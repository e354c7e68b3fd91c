"""`llmbench models show`: one model, its last runs, and its errors with what to do about them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime

import msgspec

from llmbench.cli import output
from llmbench.cli.context import seed_catalogue
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_common import age, effective_profile, find_model, no_past
from llmbench.cli.results import print_outcomes
from llmbench.config import Config
from llmbench.messages import Failure, Model, Outcome
from llmbench.naming import folded, key_of
from llmbench.reports.errors import general_advice
from llmbench.stores.base import ErrorRollup, ModelHistory, OutcomeQuery, Store

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


async def show(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_catalogue(config, store)
    detail = await _detail(config, store, await find_model(config, store, options))
    if options.json:
        output.json_line(detail)
    else:
        _print_detail(detail)
    return ExitCode.OK


async def _detail(config: Config, store: Store, model: Model) -> Detail:
    own = OutcomeQuery(provider=model.provider, model=model.model_id, limit=_LAST)
    profile = effective_profile(config, model)
    pasts = {key_of(past): past for past in await store.history()}
    return Detail(
        model=model,
        effective_profile=profile,
        history=pasts.get(key_of(model), no_past(model)),
        outcomes=await store.outcomes(own),
        errors=await _errors(store, model, profile or "default"),
    )


async def _errors(store: Store, model: Model, profile: str) -> list[KnownError]:
    query = OutcomeQuery(provider=model.provider, model=model.model_id, kind="failures", limit=_ADVISED)
    failures = [failure for failure in await store.outcomes(query) if isinstance(failure, Failure)]
    given = {failure.fingerprint: failure.advice for failure in reversed(failures)}
    return [
        KnownError(
            error=error,
            advice=given.get(error.fingerprint) or general_advice(error.error_kind, error.provider, profile),
        )
        for error in await store.rollups()
        if folded(error.provider, error.model_name) == key_of(model)
    ]


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
        ("last scheduled success", age(past.last_success)),
        ("failures since", _failures(past)),
    ]


def _failures(past: ModelHistory) -> str:
    if past.last_failure is None:
        return "none"
    return f"{past.failures_in_a_row} in a row, the last {age(past.last_failure)}: {past.last_failure_kind}"


def _error_rows(errors: Sequence[KnownError]) -> list[tuple[str, str, str, str]]:
    rows = []
    for known in errors:
        error = known.error
        rows += [
            (str(error.count), error.error_kind, age(error.last_seen), next(iter(error.sample_messages), "-")),
            ("", "", "", f"-> {known.advice}"),
        ]
    return rows


def _shown(value: object) -> str:
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)

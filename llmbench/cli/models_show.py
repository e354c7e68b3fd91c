"""`llmbench models show`: one model, its last runs, and its errors with what to do about them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from llmbench.cli import output
from llmbench.cli.context import seed_if_allowed
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_common import age, effective_profile, find_model, no_past
from llmbench.cli.results import print_outcomes
from llmbench.config import Config
from llmbench.lifecycle import CatalogEntry, DeprecationSnapshot, DiscoveryRun, ModelStatus
from llmbench.messages import Failure, Model, Outcome
from llmbench.naming import folded, key_of
from llmbench.reports.errors import general_advice
from llmbench.stores.base import ErrorRollup, ModelHistory, OutcomeQuery, Store

_LAST = 5
_ADVISED = 200
"""How many of a model's last failures are searched for the advice that was given with them."""

_RUNS = 100
"""How many of a provider's last discoveries are searched for a complete one."""


class KnownError(msgspec.Struct, frozen=True, kw_only=True):
    """An error of one model, counted, with what to do about it."""

    error: ErrorRollup
    advice: str


class InCatalog(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the catalogue of its provider says of a model.

    ``listed`` says whether the provider's last complete listing had it, None if there was none.
    """

    listed: bool | None
    first_seen_at: datetime
    last_seen_at: datetime
    name: str | None = None
    chat: bool | None = None
    unfit_reason: str | None = None


class Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that `models show` tells. ``effective_profile`` is None if the model's provider is configured no more.

    The last three are left out if nobody has stored them.
    """

    model: Model
    effective_profile: str | None
    history: ModelHistory
    outcomes: list[Outcome]
    errors: list[KnownError]
    status: ModelStatus | None = None
    catalog: InCatalog | None = None
    snapshots: list[DeprecationSnapshot] = []


async def show(config: Config, store: Store, options: argparse.Namespace) -> int:
    await seed_if_allowed(config, store)
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
        status=next(iter(await store.records(ModelStatus, provider=model.provider, model_id=model.model_id)), None),
        catalog=await _in_catalog(store, model),
        snapshots=await store.records(DeprecationSnapshot, provider=model.provider, model_id=model.model_id),
    )


async def _in_catalog(store: Store, model: Model) -> InCatalog | None:
    entries = await store.records(CatalogEntry, provider=model.provider, model_id=model.model_id)
    if not entries:
        return None
    entry = max(entries, key=lambda entry: entry.last_seen_at)
    runs = await store.records(DiscoveryRun, provider=model.provider, limit=_RUNS)
    complete = next((run for run in runs if run.complete), None)
    return InCatalog(
        listed=None if complete is None else entry.last_seen_at >= complete.started_at,
        first_seen_at=entry.first_seen_at,
        last_seen_at=entry.last_seen_at,
        name=entry.name,
        chat=entry.chat,
        unfit_reason=entry.unfit_reason,
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
        *_kept(detail),
    ]


def _kept(detail: Detail) -> Iterator[tuple[str, str]]:
    """Yield what others have stored about a model."""
    if status := detail.status:
        yield "judged", f"{status.status or 'unknown'}{_confidence(status)}, {age(status.computed_at)}"
        yield from (("because", reason) for reason in status.reasons)
        yield from (("to do", action) for action in status.recommended_actions)
    if entry := detail.catalog:
        yield "in its provider's list", f"{_listed(entry)}, last seen {age(entry.last_seen_at)}"
        if entry.chat is False:
            yield "unfit", entry.unfit_reason or "yes"
    for snapshot in detail.snapshots:
        yield "before it ends", _speeds(snapshot)


def _confidence(status: ModelStatus) -> str:
    return "" if status.confidence is None else f" (confidence {status.confidence})"


def _listed(entry: InCatalog) -> str:
    return {True: "yes", False: "no more", None: "unknown"}[entry.listed]


def _speeds(snapshot: DeprecationSnapshot) -> str:
    figures = {
        "mean": snapshot.snapshot_mean,
        "p10": snapshot.snapshot_p10,
        "p50": snapshot.snapshot_p50,
        "p90": snapshot.snapshot_p90,
    }
    told = ", ".join(f"{name} {value:.1f}" for name, value in figures.items() if value is not None)
    samples = "" if snapshot.sample_size is None else f" of {snapshot.sample_size} samples"
    successor = "" if snapshot.successor_model is None else f"; successor: {snapshot.successor_model}"
    speeds = f"{told} tokens/s{samples}" if told else "no speeds"
    return f"{snapshot.deprecation_date:%Y-%m-%d}: {speeds}{successor}"


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
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S %Z}" if isinstance(value, datetime) else str(value)

"""`llmbench results`: the stored outcomes, newest first, or what they came to."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from llmbench.cli import output
from llmbench.cli.context import load_config, with_store
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.results_summary import print_summaries
from llmbench.config import Config
from llmbench.config.check import NEAR
from llmbench.messages import Failure, Outcome, Sample
from llmbench.naming import fold
from llmbench.stores.base import ModelSummary, OutcomeQuery, Store

T = TypeVar("T")

Name = tuple[str, str]
"""A provider and a model id, as spelled."""


def run(options: argparse.Namespace) -> int:
    if options.summary:
        return _run(options, _sum_up, print_summaries)
    return _run(options, lambda store, query: store.outcomes(query), print_outcomes)


def _run(
    options: argparse.Namespace,
    ask: Callable[[Store, OutcomeQuery], Awaitable[list[T]]],
    show: Callable[[list[T]], None],
) -> int:
    config = load_config(options.config)
    found = with_store(config, lambda store: _find(config, store, options, ask))
    if not found:
        output.note(_nothing(options))
    elif options.json:
        for one in found:
            output.json_line(one)
    else:
        show(found)
    return ExitCode.OK


async def _sum_up(store: Store, query: OutcomeQuery) -> list[ModelSummary]:
    return await store.summary(since=query.since, provider=query.provider, model=query.model)


def print_outcomes(outcomes: Iterable[Outcome]) -> None:
    """Print a table of outcomes; times of day are this machine's."""
    columns = (f"time {datetime.now().astimezone():%Z}", "model", "outcome", "TTFT ms", "tok/s", "tokens", "flags")
    output.table(columns, map(_row, outcomes), right=(3, 4, 5), wrap=(1, 6))


def _row(outcome: Outcome) -> tuple[str, ...]:
    time = f"{outcome.run_ts.astimezone():%m-%d %H:%M}"
    name = f"{outcome.provider}/{outcome.model_name}"
    if isinstance(outcome, Failure):
        return time, name, outcome.error_kind, "-", "-", "-", ""
    return (
        time,
        name,
        outcome.outcome,
        output.milliseconds(outcome.time_to_first_token),
        output.number(outcome.tokens_per_second),
        output.number(outcome.output_tokens, 0),
        ", ".join(_flags(outcome)),
    )


def _flags(sample: Sample) -> list[str]:
    """Return what makes a sample's figures less sharp than the others'; ``results --help`` explains each."""
    found = {
        "coarse": sample.resolution == "coarse",
        "user clock": sample.clock == "user",
        "no usage": "usage_missing" in (sample.warnings or ()),
    }
    return [flag for flag, holds in found.items() if holds]


# asking


async def _find(
    config: Config,
    store: Store,
    options: argparse.Namespace,
    ask: Callable[[Store, OutcomeQuery], Awaitable[list[T]]],
) -> list[T]:
    """Return what was asked for. Raises CommandError if nobody knows the provider or the model."""
    queries = _readings(options)
    for query in queries:
        if found := await ask(store, query):
            return found
    if not await _ever_stored(store, queries):
        await _refuse_unknown(config, store, options)
    return []


def _readings(options: argparse.Namespace) -> list[OutcomeQuery]:
    """Return what the options may mean, likeliest first: a model id may contain slashes itself."""
    asked = OutcomeQuery(since=since(options.since), provider=options.provider, model=options.model, limit=options.most)
    provider, _, model_id = (options.model or "").partition("/")
    if not model_id or options.provider not in (None, provider):
        return [asked]
    return [msgspec.structs.replace(asked, provider=provider, model=model_id), asked]


def since(seconds: int) -> datetime | None:
    """Return the time so long ago; None for a time before all outcomes, which a date could not hold."""
    now = datetime.now(UTC)
    return None if seconds > now.timestamp() else now - timedelta(seconds=seconds)


async def _ever_stored(store: Store, queries: Sequence[OutcomeQuery]) -> bool:
    whenever = [msgspec.structs.replace(query, since=None, limit=1) for query in queries]
    return any([bool(await store.outcomes(query)) for query in whenever])


async def _refuse_unknown(config: Config, store: Store, options: argparse.Namespace) -> None:
    """Raise CommandError for a name that is neither in the configuration nor in the store."""
    names = await _known_names(config, store)
    if options.provider is not None:
        await _check_provider(config, store, options.provider, names)
    if options.model is not None:
        _check_model(options, names)


async def refuse_unknown_provider(config: Config, store: Store, provider: str) -> None:
    """Raise CommandError for a provider that is neither in the configuration nor in the store."""
    await _check_provider(config, store, provider, await _known_names(config, store))


async def _known_names(config: Config, store: Store) -> list[Name]:
    listed = [(provider.name, model) for provider in config.providers.values() for model in provider.models]
    catalogue = [(model.provider, model.model_id) for model in await store.models()]
    return listed + catalogue + [(past.provider, past.model_id) for past in await store.history()]


async def _check_provider(config: Config, store: Store, provider: str, names: Sequence[Name]) -> None:
    known = [*config.providers, *(name for name, _model in names)]
    if _among(provider, known) or await store.outcomes(OutcomeQuery(provider=provider, limit=1)):
        return
    raise CommandError(
        f"provider {provider!r} is neither in the configuration nor in the store{_meant(provider, known)}"
    )


def _check_model(options: argparse.Namespace, names: Sequence[Name]) -> None:
    """Check a model by its id alone and with its provider in front, as it may be written either way."""
    near = [name for name in names if options.provider is None or _among(name[0], [options.provider])]
    known = [model for _provider, model in near] + [f"{provider}/{model}" for provider, model in near]
    if not _among(options.model, known):
        raise CommandError(
            f"model {options.model!r} is neither in the catalogue (llmbench models list) nor in the store"
            f"{_meant(options.model, known)}"
        )


def _among(name: str, known: Iterable[str]) -> bool:
    return fold(name) in {fold(other) for other in known}


def _meant(name: str, known: Iterable[str]) -> str:
    spelled = {fold(other): other for other in known}
    found = difflib.get_close_matches(fold(name), spelled, n=1, cutoff=NEAR)
    return f": did you mean {spelled[found[0]]!r}?" if found else ""


def _nothing(options: argparse.Namespace) -> str:
    """Return the sentence for an answer without outcomes: what was asked, and what else could be."""
    asked = {"provider": options.provider, "model": options.model}
    names = " and ".join(f"{what} {name!r}" for what, name in asked.items() if name is not None)
    of = f" of {names}" if names else ""
    return f"no outcome{of} is stored from the last {spelled(options.since)}; a longer --since looks further back"


def spelled(seconds: int) -> str:
    """Return a duration as ``--since`` takes it, in the largest unit that it is a multiple of; a day is 24h."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    unit = next(unit for unit, size in units.items() if seconds % size == 0 and seconds != size * (unit == "d"))
    return f"{seconds // units[unit]}{unit}"

"""`llmbench --headless`: the engine. For ever, or with ``--once`` what is due now."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from llmbench import __version__
from llmbench.actors.due import ModelClock, due_at, stalest_first
from llmbench.actors.leasing import Sharing
from llmbench.actors.plans import Batch, Plan, Rotation
from llmbench.actors.supervisor import Supervisor
from llmbench.cli.configuration import counted
from llmbench.cli.context import load_config, open_store, store_errors
from llmbench.cli.engine import (
    STORE_PATIENCE_SECONDS,
    choose_providers,
    environment,
    make_lane,
    run_measuring,
    run_until_signal,
    runner_of,
    warm_up,
    working_lanes,
)
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.selection import Runs, Selection
from llmbench.config import Config, ResolvedProvider
from llmbench.logs import logging_to
from llmbench.naming import Key, key_of
from llmbench.stores.base import Store, StoreError

logger = logging.getLogger("llmbench.engine")

_HOW_TO_FILL = """\
there is nothing to measure: the catalogue has no enabled model of {providers}
  add one:  llmbench models add PROVIDER/MODEL
  or list them in config.toml:  models = ["…"] under [providers.PROVIDER]"""

_NAMED_AT_MOST = 10

Refresh = Callable[[], Awaitable[None]]


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    env = environment()
    providers = choose_providers(config, options.providers)
    if not providers:
        raise CommandError("\n".join(config.start_problems(env)))
    with logging_to(sys.stdout, json=not sys.stdout.isatty(), redact=runner_of(config, env).redactor.redact):
        return run_measuring(lambda: _measure(config, env, providers, options))


async def _measure(
    config: Config, env: Mapping[str, str], providers: list[ResolvedProvider], options: argparse.Namespace
) -> int:
    lanes = [make_lane(settings, env) for settings in providers]
    working = working_lanes(lanes)
    # What ends by itself does not wait for a store that may never come: whoever started it will do so again.
    async with open_store(config, wait=not options.once) as store:
        with store_errors():
            selection = Selection(config, store, providers)
            runs = await selection.read()
            sharing = _sharing(config, store)
            past = await _past(store, sharing)
            await _warn_of_unreadable(store)
        if not runs:
            names = ", ".join(settings.name for settings in providers)
            raise CommandError("\n".join(selection.left_out) or _HOW_TO_FILL.format(providers=names))
        await warm_up(working)
        plan = _plan(config, runs, past, options)
        supervisor = Supervisor(
            lanes,
            plan,
            store,
            runner_of(config, env),
            grace_seconds=config.schedule.grace_seconds,
            refresh=_refresher(selection, plan),
            store_patience=STORE_PATIENCE_SECONDS if options.once else None,
            sharing=sharing,
        )
        _announce(store, runs, providers, plan)
        if sharing.leases.shared:
            logger.info(
                "runner %s shares the models with those of %s", config.runner.id, sharing.region or "all regions"
            )
        _first, second = await run_until_signal(supervisor, logger.info)
    if second is not None:
        return 128 + second
    return _verdict(supervisor, plan)


async def _warn_of_unreadable(store: Store) -> None:
    if unreadable := await store.unreadable_models():
        named = ", ".join(unreadable[:_NAMED_AT_MOST]) + (", …" if len(unreadable) > _NAMED_AT_MOST else "")
        logger.warning("%d rows of the catalogue name no model that can be measured: %s", len(unreadable), named)


def _plan(config: Config, runs: Runs, clocks: dict[Key, ModelClock], options: argparse.Namespace) -> Plan:
    fresh = timedelta(minutes=config.schedule.fresh_minutes)
    if not options.once:
        return Rotation(runs, clocks, fresh)
    by_key = {key_of(model): (model, profile) for model, profile in runs}
    now = datetime.now(UTC)
    due = [key for key in by_key if due_at(key, clocks.get(key, ModelClock()).as_of(now), fresh) <= now]
    return Batch([by_key[key] for key in stalest_first(due, clocks)], "scheduled", limit=options.limit)


async def _past(store: Store, sharing: Sharing) -> dict[Key, ModelClock]:
    """Return what is known of each model's past: of its past in this region, if that alone counts."""
    if sharing.region and sharing.leases.shared:
        successes = await sharing.leases.successes(sharing.region)
        return {(key.provider, key.model_id): ModelClock(last_success=at) for key, at in successes.items()}
    return {key_of(past): ModelClock.from_history(past) for past in await store.history()}


def _sharing(config: Config, store: Store) -> Sharing:
    schedule, runner = config.schedule, config.runner
    return Sharing(
        leases=store.leases(runner.id, schedule.lease_seconds),
        fresh=timedelta(minutes=schedule.fresh_minutes),
        term=schedule.lease_seconds,
        region=runner.region if schedule.claim == "region" else None,
    )


def _refresher(selection: Selection, plan: Plan) -> Refresh | None:
    """Return what takes over changes of the catalogue while the engine runs."""
    if not isinstance(plan, Rotation):
        return None

    async def refresh() -> None:
        try:
            plan.replace_models(await selection.read())
        except StoreError as error:
            logger.error("the catalogue could not be read again, the old one stays: %s", error)  # noqa: TRY400

    return refresh


def _announce(store: Store, runs: Runs, providers: list[ResolvedProvider], plan: Plan) -> None:
    names = ", ".join(settings.name for settings in providers)
    logger.info("llmbench %s, %s", __version__, store.description)
    if isinstance(plan, Batch):
        logger.info("%d of %d models are due (%s)", plan.total, len(runs), names)
    else:
        logger.info("%s of %s (%s)", counted(len(runs), "model"), counted(len(providers), "provider"), names)


def _verdict(supervisor: Supervisor, plan: Plan) -> ExitCode:
    """Say how it ended, and return the exit code for it."""
    for name, lane in supervisor.lanes.items():
        if lane.down is not None:
            logger.error("%s ended down: %s", name, lane.down)
    sink = supervisor.sink
    if isinstance(plan, Batch):
        for provider, (count, reason) in plan.given_up.items():
            logger.error("%s: %d runs were not made: %s", provider, count, reason)
        if plan.elsewhere:
            logger.info("%d models were left to other runners", plan.elsewhere)
    logger.info("ended: %d outcomes stored, %d refused, %d not stored", sink.stored, sink.refused, sink.waiting)
    healthy = not (supervisor.anything_down or sink.refused or sink.waiting)
    complete = not (isinstance(plan, Batch) and plan.given_up)
    return ExitCode.OK if healthy and complete else ExitCode.UNHEALTHY

"""`llmbench --headless`: the engine. For ever, or with ``--once`` what is due now."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio

from llmbench import __version__
from llmbench.actors.due import ModelClock, due_at, stalest_first
from llmbench.actors.figures import About
from llmbench.actors.leasing import Sharing
from llmbench.actors.plans import Batch, Plan, Rotation
from llmbench.actors.supervisor import Buffer, Supervisor
from llmbench.cli.beginning import Past, first_runs
from llmbench.cli.configuration import counted
from llmbench.cli.context import load_config, make_store, store_errors
from llmbench.cli.engine import (
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
from llmbench.cli.local_side import local_side
from llmbench.cli.parent import end_with_parent
from llmbench.cli.remembered import Catalogue, Outdated
from llmbench.cli.selection import Runs, Selection
from llmbench.cli.spooled import desk_of, left_over, open_spool
from llmbench.cli.waiting import reach
from llmbench.config import Config, ResolvedProvider
from llmbench.log_file import LogFile
from llmbench.logs import logging_to
from llmbench.naming import Key, key_of
from llmbench.stores.base import Store, StoreError, StoreUnusable
from llmbench.stores.spool import Spool

logger = logging.getLogger("llmbench.engine")

_HOW_TO_FILL = """\
there is nothing to measure: the catalogue has no enabled model of {providers}
  add one:  llmbench models add PROVIDER/MODEL
  or list them in config.toml:  models = ["…"] under [providers.PROVIDER]"""
_HOW_TO_BE_TOLD = """\
there is nothing to measure: the bridge that RUNNER_CONFIG_URL names has no enabled model of {providers}
  add one where its database is:  llmbench models add PROVIDER/MODEL"""

_NAMED_AT_MOST = 10

Refresh = Callable[[], Awaitable[None]]

DELIVERY_PATIENCE_SECONDS = 10.0
"""How long what ends by itself waits for a store that takes nothing; the rest stays in the spool."""


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    env = environment()
    providers = choose_providers(config, options.providers)
    if not providers:
        raise CommandError("\n".join(config.start_problems(env)))
    redact = runner_of(config, env).redactor.redact
    with logging_to(sys.stdout, json=not sys.stdout.isatty(), redact=redact, make_room=_make_room(options.log_file)):
        if options.until_stdin_closes:
            end_with_parent()
        return run_measuring(lambda: _measure(config, env, providers, options))


def _make_room(log: Path | None) -> Callable[[], None]:
    return LogFile(log).make_room if log is not None else lambda: None


async def _measure(
    config: Config, env: Mapping[str, str], providers: list[ResolvedProvider], options: argparse.Namespace
) -> int:
    lanes = [make_lane(settings, env) for settings in providers]
    working = working_lanes(lanes)
    names = [settings.name for settings in providers]
    async with open_spool(config) as spool, closing(make_store(config, env, names)) as store:
        with store_errors():
            reached = await reach(store)
            selection = Selection(config, Catalogue(config, store).enabled, providers)
            # What ends by itself does not wait for a store that may never come: whoever started it will do so again.
            runs, reached = await first_runs(selection, store, reached=reached, wait=not options.once)
            sharing = _sharing(config, store)
            past = await Past(store, spool, sharing).read(reached=reached)
            if reached:
                await _warn_of_unreadable(store)
        if not runs:
            raise CommandError("\n".join(selection.left_out) or _how_to_fill(config).format(providers=", ".join(names)))
        await warm_up(working)
        plan = _plan(config, runs, past, options)
        refresh = _refresher(selection, plan, worklist=config.store.kind == "http")
        runner = runner_of(config, env)
        supervisor = Supervisor(
            lanes,
            plan,
            store,
            runner,
            grace_seconds=config.schedule.grace_seconds,
            refresh=refresh,
            sharing=sharing,
            buffer=Buffer(
                spool=spool, store_open=reached, patience=DELIVERY_PATIENCE_SECONDS if options.once else None
            ),
        )
        supervisor.accompany(desk_of(config, spool, supervisor))
        about = About(runner.id, store.description)
        for companion in local_side(config, spool, store, supervisor, plan=plan, refresh=refresh, about=about):
            supervisor.accompany(companion)
        if config.server.listen is not None:
            from llmbench.cli.http_side import http_side  # which takes a while, and most engines have none

            for companion in http_side(config, env, store, spool, supervisor):
                supervisor.accompany(companion)
        _announce(store, runs, providers, plan)
        if sharing.leases.shared:
            logger.info(
                "runner %s shares the models with those of %s", config.runner.id, sharing.region or "all regions"
            )
        _first, second = await run_until_signal(supervisor, logger.info)
        code = await _verdict(supervisor, plan, spool)
    return 128 + second if second is not None and code != ExitCode.SPOOL else code


def _how_to_fill(config: Config) -> str:
    told = config.store.kind == "http" and config.store.http.worklist_url is not None and not config.worklist
    return _HOW_TO_BE_TOLD if told else _HOW_TO_FILL


@asynccontextmanager
async def closing(store: Store) -> AsyncIterator[Store]:
    """Close the store at the end, whether it was opened or not."""
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


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


def _sharing(config: Config, store: Store) -> Sharing:
    schedule, runner = config.schedule, config.runner
    return Sharing(
        leases=store.leases(runner.id, schedule.lease_seconds),
        fresh=timedelta(minutes=schedule.fresh_minutes),
        term=schedule.lease_seconds,
        region=runner.region if schedule.claim == "region" else None,
    )


def _refresher(selection: Selection, plan: Plan, *, worklist: bool) -> Refresh | None:
    """Return what takes over changes of the catalogue while the engine runs.

    What a ``worklist`` told is not gone by once it is too old, or whoever gives it refuses us.
    """
    if not isinstance(plan, Rotation):
        return None
    over: tuple[type[StoreError], ...] = (Outdated, StoreUnusable) if worklist else ()

    turn = anyio.Lock()

    async def refresh() -> None:
        async with turn:  # what was read first must not be taken over last
            await read()

    async def read() -> None:
        try:
            plan.replace_models(await selection.read())
        except over as error:
            plan.replace_models([])
            logger.error("nothing is measured until the worklist can be read again: %s", error)  # noqa: TRY400
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


async def _verdict(supervisor: Supervisor, plan: Plan, spool: Spool) -> ExitCode:
    """Say how it ended, and return the exit code for it."""
    for name, lane in supervisor.lanes.items():
        if lane.down is not None:
            logger.error("%s ended down: %s", name, lane.down)
    sink, delivery = supervisor.sink, supervisor.delivery
    assert delivery is not None, "the engine has a spool"
    if isinstance(plan, Batch):
        for provider, (count, reason) in plan.given_up.items():
            logger.error("%s: %d runs were not made: %s", provider, count, reason)
        if plan.elsewhere:
            logger.info("%d models were left to other runners", plan.elsewhere)
    if supervisor.spool_failure is not None:
        logger.error("ended, since what is measured can't be recorded: %s", supervisor.spool_failure)
        return ExitCode.SPOOL
    told = await left_over(spool)
    lost = sink.refused + sink.waiting
    logger.info(
        "ended: %d outcomes recorded, %d stored, %d wait in the spool, %d lost",
        sink.recorded,
        delivery.stored,
        told.waiting,
        lost,
    )
    healthy = not (supervisor.anything_down or lost or told.needs_somebody or delivery.status != "ok")
    complete = not (isinstance(plan, Batch) and plan.given_up)
    return ExitCode.OK if healthy and complete else ExitCode.UNHEALTHY

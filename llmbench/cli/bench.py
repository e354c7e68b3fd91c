"""`llmbench bench`: measure some models now, and say which is faster and how certain that is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import msgspec

from llmbench.actors.plans import Batch
from llmbench.actors.supervisor import Lane, Supervisor
from llmbench.cli import output
from llmbench.cli.context import as_measured, load_config, new_model, open_store, profile_for, store_errors
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
from llmbench.cli.models_common import profile_finding, sentence
from llmbench.config import Config, UnknownProfile
from llmbench.logs import current_stderr, describe_run, logging_to
from llmbench.messages import Failure, Model, Outcome, Profile
from llmbench.reports.compare import Median, ModelResult, summarize, verdicts
from llmbench.stores.base import Store, UnknownModel


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    env = environment()
    names = [provider for provider, _model in options.models]
    settings = [
        msgspec.structs.replace(
            provider, concurrency=min(options.concurrency, options.runs * names.count(provider.name))
        )
        for provider in choose_providers(config, names)
    ]
    lanes = [make_lane(provider, env, named=True) for provider in settings]
    if broken := [f"{lane.settings.name}: {lane.problem}" for lane in lanes if lane.problem is not None]:
        raise CommandError("\n".join(broken))
    redact = runner_of(config, env).redactor.redact
    with logging_to(current_stderr(), json=False, level=logging.WARNING, redact=redact):
        return run_measuring(lambda: _bench(config, env, lanes, options))


async def _bench(config: Config, env: Mapping[str, str], lanes: Sequence[Lane], options: argparse.Namespace) -> int:
    await warm_up(working_lanes(lanes))
    async with open_store(config) as store:
        with store_errors():
            models = [await _model(store, provider, model_id) for provider, model_id in options.models]
        runs = [(model, _profile(config, model, options.profile)) for model in models]
        batch = Batch(runs * options.runs, "bench", overlap=options.concurrency > 1)
        outcomes, signalled = await run_batch(config, env, lanes, store, batch, as_json=options.json)
    if not options.json:
        print_comparison(summarize(outcomes, [(model.provider, model.model_id) for model in models]))
    for failure in first_of_each_kind(outcomes):
        output.note(f"{failure.provider}/{failure.model_name}: {failure.error_kind}: {failure.message[:300]}")
        output.note(f"  {failure.advice}")
    for provider, (count, reason) in batch.given_up.items():
        output.note(f"{provider}: {count} runs were not made: {reason}")
    return batch_exit(batch, outcomes, signalled)


def batch_exit(batch: Batch, outcomes: Sequence[Outcome], signalled: int | None) -> int:
    """Say what is missing, and return the exit code: of the signal that ended it early, or of what failed."""
    missing = batch.total - len(outcomes)
    if missing:
        output.note(f"{len(outcomes)} of {batch.total} runs were made and stored")
    if signalled is not None and missing:
        return 128 + signalled
    failed = any(isinstance(outcome, Failure) for outcome in outcomes)
    return ExitCode.UNHEALTHY if failed or missing else ExitCode.OK


def first_of_each_kind(outcomes: Iterable[Outcome]) -> list[Failure]:
    """Return the first failure of each model and kind: one says as much as ten."""
    found: dict[tuple[str, str, str], Failure] = {}
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            found.setdefault((outcome.provider, outcome.model_name, outcome.error_kind), outcome)
    return list(found.values())


async def run_batch(
    config: Config, env: Mapping[str, str], lanes: Sequence[Lane], store: Store, batch: Batch, *, as_json: bool
) -> tuple[list[Outcome], int | None]:
    """Run a batch with progress on stderr; return what was stored, and the signal that cut it off, if one did.

    Raises the OSError of an output that can't be written any more; what streams then is finished and stored first.
    """
    outcomes: list[Outcome] = []
    with progress(batch.total) as advance:

        def show(outcome: Outcome) -> None:
            if as_json:
                output.json_line(outcome)
            advance(outcome)

        def stored(outcome: Outcome) -> None:
            outcomes.append(outcome)
            display.show(outcome)

        supervisor = Supervisor(
            lanes,
            batch,
            store,
            runner_of(config, env),
            grace_seconds=config.schedule.grace_seconds,
            on_stored=stored,
            store_patience=STORE_PATIENCE_SECONDS,
        )
        with Display(show, on_unread=supervisor.stop) as display:
            first, second = await run_until_signal(supervisor, output.note)
    return outcomes, second or first


class Display:
    """Shows outcomes from a thread of its own: a reader that pauses must not stop the event loop that measures.

    Leaving it waits until all has been shown, and raises the OSError of an output that could not be written, such as
    BrokenPipeError where nobody read it any more; ``on_unread`` was called, on the event loop, when that was found.
    """

    def __init__(self, show: Callable[[Outcome], None], on_unread: Callable[[], None]) -> None:
        self._show = show
        self._on_unread = on_unread
        self._waiting: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._unread: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="display", daemon=True)

    def show(self, outcome: Outcome) -> None:
        self._waiting.put(outcome)

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._unread is not None:
            raise self._unread

    def _run(self) -> None:
        while (outcome := self._waiting.get()) is not None:
            if self._unread is None:
                try:
                    self._show(outcome)
                except OSError as error:
                    self._unread = error
                    self._loop.call_soon_threadsafe(self._on_unread)


async def _model(store: Store, provider: str, model_id: str) -> Model:
    """Return the catalogue's row, with its name and its request, or a row of the moment for a model not in it."""
    try:
        return as_measured(await store.model(provider, model_id))
    except UnknownModel:
        return new_model(provider, model_id, source="bench")


def _profile(config: Config, model: Model, name: str | None) -> Profile:
    if name is None:
        if found := profile_finding(config, model):
            raise CommandError(f"{sentence(model, found)}, or choose one with --profile")
        return profile_for(config, model)
    try:
        return config.profile(name)
    except UnknownProfile as error:
        raise CommandError(str(error)) from error


@contextmanager
def progress(total: int) -> Iterator[Callable[[Outcome], None]]:
    """Show progress on stderr: a bar on a terminal, a line for each run otherwise."""
    if not sys.stderr.isatty():
        count = 0

        def advance(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            output.note(f"{count}/{total}  {describe_run(outcome)}")

        yield advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("measuring", total=total)
        bar.refresh()

        def show(_outcome: Outcome) -> None:
            bar.advance(task)
            bar.refresh()

        yield show


def print_comparison(results: Sequence[ModelResult]) -> None:
    """Print a table of the models, and a verdict for each figure."""
    rows = [
        (
            f"{result.provider}/{result.model}",
            f"{result.runs - result.failed}/{result.runs}",
            _interval(result.time_to_first_token, 1000),
            _interval(result.tokens_per_second, 1),
            _remarks(result),
        )
        for result in results
    ]
    output.table(("model", "ok", "TTFT ms", "tok/s", "remarks"), rows, right=(1, 2, 3), wrap=(0, 4))
    if any(median and median.certain for r in results for median in (r.time_to_first_token, r.tokens_per_second)):
        output.line("medians with their 95 % intervals")
    for verdict in verdicts(results):
        output.line(verdict.sentence)


def _interval(median: Median | None, factor: float) -> str:
    if median is None:
        return "-"
    value, low, high = (_significant(number * factor) for number in (median.value, median.low, median.high))
    return f"{value} [{low}, {high}]" if median.n > 1 else value


def _significant(value: float) -> str:
    """Return three significant digits, or all before the point."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _remarks(result: ModelResult) -> str:
    remarks = [f"{count} {kind}" for kind, count in result.failures.items()]
    if not result.runs:
        remarks.append("not run")
    counts = (
        (result.budget_exhausted, "budget_exhausted"),
        (result.counted_by_chunks, "counted by chunks"),
        (result.coarse, "coarse"),
    )
    remarks += [f"{count} {what}" for count, what in counts if count]
    return ", ".join(remarks)

"""`llmbench calibrate`: the measuring path's own error, against a server on this machine whose timing is known.

What is measured is what the engine measures with: a provider through its real SDK, `Attempt`, `StampedTransport`. The
server is a process of its own, for what it does on this program's time would show as this program's error.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from llmbench import __version__
from llmbench.actors.attempt import Attempt
from llmbench.actors.record import Runner
from llmbench.cli import output
from llmbench.cli.context import new_model
from llmbench.cli.engine import run_measuring
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.clock import SystemClock
from llmbench.config import ResolvedProvider
from llmbench.ids import new_outcome_id
from llmbench.measure.calibrate import Calibration, Spread, Truth, calibration, mismatch
from llmbench.measure.quiet import QuietCollector
from llmbench.measure.stamps import kernel_stamps_available
from llmbench.measure.transport import StartGate
from llmbench.messages import Clock, Failure, Job, Outcome, Profile, Sample
from llmbench.providers.base import Provider
from llmbench.providers.registry import load_sdks, open_provider
from llmbench.secrets import Redactor
from llmbench.simulator import SimulatorError, SpawnedSimulator, spawn_simulator

_PROVIDER = "local"
"""The simulator's one provider that wants no key."""

_TTFT_MS = 200
_GAP_MS = 20
_TOKENS = 140
_MODEL = f"calibrate-sim-stamp-ttft{_TTFT_MS}-gap{_GAP_MS}-tok{_TOKENS}"

CLOCKS: tuple[Clock, ...] = ("kernel", "user")
_REASONS = 5
"""So many streams' problems are told one by one."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and on what machine. ``problems`` has a sentence for each stream that could not be compared."""

    at: datetime
    llmbench_version: str
    system: str
    cpus: int | None
    python: str
    monotonic_clock: str
    streams: int
    tokens: int
    ttft_ms: int
    gap_ms: int
    calibrations: list[Calibration]
    problems: list[str]


def run(options: argparse.Namespace) -> int:
    try:
        with spawn_simulator() as simulator:
            return run_measuring(lambda: _calibrate(simulator, options))
    except SimulatorError as error:
        raise CommandError(f"the server with known timing failed: {error}", ExitCode.UNHEALTHY) from error


async def _calibrate(simulator: SpawnedSimulator, options: argparse.Namespace) -> int:
    load_sdks([_settings(simulator).kind])
    found, problems = [], []
    for clock in CLOCKS if kernel_stamps_available() else CLOCKS[1:]:
        output.note(f"measuring {options.streams} streams for {_seconds():.0f} s, stamped by the {clock} clock")
        pairs, troubles = await _measure(simulator, clock, options.streams)
        found += [calibration(clock, pairs)] if pairs else []
        problems += [f"{clock} clock: {trouble}" for trouble in troubles]
    report = _report(options.streams, found, problems)
    if options.json:
        output.json_line(report)
    else:
        _print(report)
    _tell(problems)
    return ExitCode.UNHEALTHY if problems else ExitCode.OK


def _seconds() -> float:
    return (_TTFT_MS + _TOKENS * _GAP_MS) / 1000


def _settings(simulator: SpawnedSimulator) -> ResolvedProvider:
    return ResolvedProvider(
        name=_PROVIDER,
        kind="openai-compatible",
        enabled=True,
        configured=True,
        base_url=f"{simulator.url}/{_PROVIDER}/v1",
        api_key_env=None,
        requests_per_minute=60,
        concurrency=1,
    )


# measuring


async def _measure(
    simulator: SpawnedSimulator, clock: Clock, streams: int
) -> tuple[list[tuple[Sample, Truth]], list[str]]:
    """Run the streams; return those that can be compared, and why the others can't."""
    await anyio.to_thread.run_sync(simulator.reset)
    provider = open_provider(_settings(simulator), None, kernel=clock == "kernel")
    quiet = QuietCollector()
    try:
        await provider.warm_up()
        quiet.freeze()
        outcomes = await _stream(provider, streams)
    finally:
        quiet.release()
        await provider.close()
    truths = await anyio.to_thread.run_sync(partial(_truths, simulator))
    return _paired(outcomes, truths, clock)


async def _stream(provider: Provider, streams: int) -> dict[str, Outcome]:
    """Return the outcome of each stream by its prompt. All run at the same time, as in a busy engine."""
    gate = StartGate()
    runner = Runner(id="calibrate", region=None, redactor=Redactor([]))
    outcomes: dict[str, Outcome] = {}

    async def measure(prompt: str) -> None:
        attempt = Attempt(_job(prompt), provider, gate=gate, runner=runner, clock=SystemClock())
        outcomes[prompt] = await attempt.run()

    async with anyio.create_task_group() as group:
        for number in range(1, streams + 1):
            group.start_soon(measure, f"stream {number}")
    return outcomes


def _job(prompt: str) -> Job:
    profile = Profile(id="calibrate", prompt=prompt, max_tokens=_TOKENS, validation_policy="none", publish=False)
    return Job(
        outcome_id=new_outcome_id(),
        model=new_model(_PROVIDER, _MODEL, source="calibrate"),
        profile=profile,
        role="bench",
    )


# comparing


def _truths(simulator: SpawnedSimulator) -> dict[str, Truth]:
    """Return what the server knows of each stream, by the prompt without its nonce."""
    return {
        record.body["messages"][0]["content"].partition("] ")[2]: Truth(
            arrival_ns=record.arrival_ns, writes_ns=record.writes_ns
        )
        for record in simulator.requests(provider=_PROVIDER, model=_MODEL)
    }


def _paired(
    outcomes: dict[str, Outcome], truths: dict[str, Truth], clock: Clock
) -> tuple[list[tuple[Sample, Truth]], list[str]]:
    pairs, problems = [], []
    for prompt, outcome in outcomes.items():
        truth = truths.get(prompt)
        if isinstance(outcome, Failure):
            problems.append(f"{prompt} failed: {outcome.error_kind}: {outcome.message}; {outcome.advice}")
        elif truth is None:
            problems.append(f"{prompt} is not among those that the server still knows: use fewer streams")
        elif (reason := mismatch(outcome, truth, clock)) is not None:
            problems.append(f"{prompt} {reason}")
        else:
            pairs.append((outcome, truth))
    return pairs, problems


# reporting


def _report(streams: int, found: list[Calibration], problems: list[str]) -> Report:
    clock = time.get_clock_info("perf_counter")
    return Report(
        at=datetime.now(UTC),
        llmbench_version=__version__,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=os.cpu_count(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        monotonic_clock=f"{clock.implementation}, resolution {clock.resolution * 1e9:g} ns",
        streams=streams,
        tokens=_TOKENS,
        ttft_ms=_TTFT_MS,
        gap_ms=_GAP_MS,
        calibrations=found,
        problems=problems,
    )


def _print(report: Report) -> None:
    output.line(f"llmbench {report.llmbench_version}, {report.python}, {report.system}, {report.cpus} CPUs")
    output.line(f"clock: {report.monotonic_clock}")
    output.line(
        f"{report.streams} streams at a time, {report.tokens} tokens each, "
        f"first after {report.ttft_ms} ms, then every {report.gap_ms} ms"
    )
    output.line("absolute error, against the stamps that the server took itself:\n")
    rows = [row for found in report.calibrations for row in _rows(found)]
    output.table(("clock", "figure", "n", "p50 µs", "p99 µs", "max µs"), rows, right=(2, 3, 4, 5))
    for found in report.calibrations:
        output.line(
            f"\n{found.clock} clock: {found.coarse_streams} of {found.streams} streams coarse, "
            f"{found.coalesced_reads} reads with several tokens,\n"
            f"the event loop away for {found.client_lag_max_us / 1000:.1f} ms at most"
        )


def _rows(found: Calibration) -> list[tuple[str, ...]]:
    return [_row(found.clock, "TTFT", found.ttft_error), _row(found.clock, "gap", found.gap_error)]


def _row(clock: Clock, figure: str, spread: Spread) -> tuple[str, ...]:
    return clock, figure, str(spread.count), *(f"{us:.1f}" for us in (spread.p50_us, spread.p99_us, spread.max_us))


def _tell(problems: Sequence[str]) -> None:
    for problem in problems[:_REASONS]:
        output.note(problem)
    if len(problems) > _REASONS:
        output.note(f"{len(problems) - _REASONS} more streams could not be compared")

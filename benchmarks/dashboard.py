"""What watching costs: an engine's stamps with the dashboard attached and without, and how late its screen is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from benchmarks import flooding
from benchmarks.bridge import Lane, lane_of
from benchmarks.programs import running_base
from benchmarks.report import Figure, Unit, heading, show
from benchmarks.storage import a_mongod
from benchmarks.watching import Viewer, watching
from llmbench.quantiles import quantile
from llmbench.simulator.spawn import SpawnedSimulator, spawn_simulator

_STREAMS = 32
_FLOOD = 5_000.0
_SOME = 200.0
_WAIT_SECONDS = 20.0
_LAST_FRAME_SECONDS = 1.0
_MEGABYTE = 2**20


def run(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Measure all of it; yield each figure once it is known."""
    seconds = 6.0 if quick else 12.0
    yield from _screen(rounds, seconds)
    with a_mongod() as uri:
        if uri is None:
            heading("what watching costs: not measured, for lack of a mongod for this machine")
            return
        with spawn_simulator(cpu=1) as simulator:
            yield from _cost(uri, simulator, rounds, seconds)


def _cost(uri: str, simulator: SpawnedSimulator, rounds: int, seconds: float) -> Iterator[Figure]:
    """The same engine, side by side: nobody watches; a dashboard draws; one is frozen after a while."""
    heading(f"an engine with {_STREAMS} streams × 50 tokens/s, and a dashboard of 120×36 that shows them (Live)")
    quiet: list[Lane] = []
    watched: list[Lane] = []
    frozen: list[Lane] = []
    drawn: list[float] = []
    for _ in range(rounds):
        quiet.append(_measured(uri, simulator, seconds, None))
        watched.append(_measured(uri, simulator, seconds, lambda viewer: drawn.append(_draws(viewer, seconds))))
        frozen.append(_measured(uri, simulator, seconds, lambda viewer: _freezes(viewer, seconds)))
    yield _figure("dashboard draws, kB/s", drawn)
    yield _figure("error of chunk stamps in the rows, p99, nobody watches", [one.p99 for one in quiet], "µs")
    yield _figure("  somebody watches", [one.p99 for one in watched], "µs", at_most=100)
    yield _figure("  with / without", _ratios([one.p99 for one in watched], [one.p99 for one in quiet]), "×")
    yield _figure("  the dashboard is frozen", [one.p99 for one in frozen], "µs", at_most=100)
    yield _figure("event loop away, p99 of the rows' worst, nobody watches", [one.lag * 1e3 for one in quiet], "ms")
    yield _figure("  somebody watches", [one.lag * 1e3 for one in watched], "ms")
    yield _figure("  with / without", _ratios([one.lag for one in watched], [one.lag for one in quiet]), "×")
    for name, lanes in (("nobody watches", quiet), ("somebody watches", watched), ("it is frozen", frozen)):
        yield _figure(f"rows flagged coarse, {name}", [100 * one.coarse / one.rows for one in lanes], "%")
    untrue = [float(sum(one.untrue for one in lanes)) for lanes in zip(quiet, watched, frozen, strict=True)]
    yield _figure("rows whose gaps are wrong, not flagged", untrue, at_most=0)


def _measured(uri: str, simulator: SpawnedSimulator, seconds: float, watch: Callable[[Viewer], None] | None) -> Lane:
    simulator.reset()
    with running_base(uri, simulator, streams=_STREAMS) as base:
        base.until_measuring()
        if watch is None:
            base.rest(seconds)
        else:
            with watching(base.socket, base.environment) as viewer:
                viewer.press("2")
                watch(viewer)
        base.stop()
        return lane_of(uri, base.database, simulator.requests())


def _draws(viewer: Viewer, seconds: float) -> float:
    """Let it draw for so long; return how much it does, in kB/s."""
    before = viewer.written
    time.sleep(seconds)
    return (viewer.written - before) / seconds / 1000


def _freezes(viewer: Viewer, seconds: float) -> None:
    time.sleep(1.0)
    viewer.freeze()
    time.sleep(seconds - 1.0)


def _screen(rounds: int, seconds: float) -> Iterator[Figure]:
    for rate in (_SOME, _FLOOD):
        heading(f"a dashboard of 200×50, and {rate:,.0f} live events/s of 256 streams")
        done = [_flooded(rate, seconds) for _ in range(rounds)]
        yield _figure("from an event to the screen, p50", [one.p50 for one in done], "ms")
        yield _figure("from an event to the screen, p95", [one.p95 for one in done], "ms", at_most=250)
        yield _figure("marks of which a later one was drawn instead", [one.missed for one in done], "%")
        yield _figure("memory of the dashboard grows by", [one.growth for one in done], "MB", at_most=16)
        yield _figure("CPU of the dashboard, of one core", [one.cpu for one in done], "%")


class _Flooded(msgspec.Struct, frozen=True):
    p50: float
    p95: float
    missed: float
    growth: float
    cpu: float


def _flooded(rate: float, seconds: float) -> _Flooded:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.flooding", "--folder", folder]
        command += ["--rate", str(rate), "--seconds", str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as flood:
            socket = Path(folder) / "engine.sock"
            _until(socket.exists)
            environment = {"HOME": folder, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
            environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
            with watching(socket, environment, columns=200, rows=50) as viewer:
                time.sleep(seconds / 3)  # what it takes at first is no growth
                memory, busy = viewer.resident(), viewer.processor_seconds()
                time.sleep(seconds / 2)
                growth = (viewer.resident() - memory) / _MEGABYTE
                cpu = 100 * (viewer.processor_seconds() - busy) / (seconds / 2)
                output, _ = flood.communicate(timeout=seconds + _WAIT_SECONDS)
                time.sleep(_LAST_FRAME_SECONDS)
                seen = list(viewer.seen)
    result = msgspec.json.decode(output, type=flooding.Result)
    late = sorted((one.at_ns - result.marks[one.number]) / 1e6 for one in seen if one.number in result.marks)
    if not late:
        raise SystemExit("the dashboard has drawn none of the marks")
    missed = 100 * (1 - len(late) / len(result.marks))
    return _Flooded(quantile(late, 0.5), quantile(late, 0.95), missed, growth, cpu)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("the desk did not open")
        time.sleep(0.02)


def _ratios(ones: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


def _figure(
    what: str, rounds: list[float], unit: Unit = "", *, at_most: float | None = None, at_least: float | None = None
) -> Figure:
    figure = Figure(what=what, rounds=rounds, unit=unit, at_most=at_most, at_least=at_least)
    show(figure)
    return figure

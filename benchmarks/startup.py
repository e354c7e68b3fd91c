"""How soon the program answers, and how soon the engine measures."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Figure, heading, show
from llmbench.simulator.spawn import SpawnedSimulator, spawn_simulator

_BARE = [sys.executable, "-c", "import msgspec, anyio"]
_EIGHT = ("openai", "anthropic", "groq", "together", "fireworks", "deepinfra", "cerebras", "openrouter")


def run(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Measure start-up; yield each figure once it is known. ``quick`` makes no difference but for the rounds."""
    heading("start-up")
    for option in ("--version", "--help"):
        yield from _against_bare(option, max(rounds, 5))
    with spawn_simulator() as simulator:
        found = [_until_measuring(simulator) for _ in range(rounds)]
    yield _shown("--headless with eight lanes: first request after", [first for first, _last in found], "s")
    yield _shown("--headless with eight lanes: all eight measuring after", [last for _first, last in found], "s", 3.0)


def _against_bare(option: str, rounds: int) -> Iterator[Figure]:
    command = [sys.executable, "-m", "llmbench", option]
    pairs = [(_seconds(command), _seconds(_BARE)) for _ in range(rounds)]
    yield _shown(f"llmbench {option}", [mine * 1000 for mine, _bare in pairs], "ms")
    over = [1000 * (mine - 1.5 * bare) for mine, bare in pairs]
    yield _shown("  over 1.5 × python -c 'import msgspec, anyio'", over, "ms", 100.0)


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _until_measuring(simulator: SpawnedSimulator) -> tuple[float, float]:
    """Start the engine; return after how many seconds the first and the last lane's first request arrived."""
    simulator.reset()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(_configuration(simulator.url, folder))
        start = time.perf_counter_ns()
        engine = subprocess.Popen(
            [sys.executable, "-m", "llmbench", "--headless", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            env={"SIMULATOR_KEY": "key-of-the-simulator", "PATH": "", "HOME": folder},
        )
        try:
            arrivals = _first_arrivals(simulator, engine)
        finally:
            engine.terminate()
            engine.wait(60)
    return (min(arrivals) - start) / 1e9, (max(arrivals) - start) / 1e9


def _first_arrivals(simulator: SpawnedSimulator, engine: subprocess.Popen[bytes]) -> list[int]:
    until = time.monotonic() + 60
    first: dict[str, int] = {}
    while len(first) < len(_EIGHT) and time.monotonic() < until and engine.poll() is None:
        for record in simulator.requests():
            if record.provider is not None:
                first.setdefault(record.provider, record.arrival_ns)
        time.sleep(0.02)
    if len(first) < len(_EIGHT):
        raise SystemExit(f"only {sorted(first)} were measured within a minute")
    return list(first.values())


def _configuration(url: str, folder: str) -> str:
    parts = [f'[store.sqlite]\npath = "{folder}/engine.db"\n']
    for name in _EIGHT:
        path = name if name == "anthropic" else f"{name}/v1"
        parts.append(
            f'[providers.{name}]\nbase_url = "{url}/{path}"\napi_key_env = "SIMULATOR_KEY"\n'
            'models = ["sim-ttft50-gap5"]\n'
        )
    return "\n".join(parts)


def _shown(what: str, rounds: list[float], unit: str, at_most: float | None = None) -> Figure:
    figure = Figure(what=what, rounds=rounds, unit=unit, at_most=at_most)  # type: ignore[arg-type]  # a unit of ours
    show(figure)
    return figure

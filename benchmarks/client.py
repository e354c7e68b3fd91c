"""One load in a process of its own, pinned to one CPU: our measuring path, or the loop that everybody writes.

The simulator writes its own `perf_counter_ns` into each token, right before the write; every process of a machine
shares that clock on Linux, so a stamp's error is simply the difference. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import time
from datetime import UTC, datetime

import anyio
import msgspec

from benchmarks.apis import APIS, PROMPT, simulated_credentials
from llmbench.actors.attempt import Attempt
from llmbench.actors.record import Runner
from llmbench.clock import SystemClock
from llmbench.ids import new_outcome_id
from llmbench.measure.loopwatch import BACKEND_OPTIONS
from llmbench.measure.quiet import QuietCollector
from llmbench.measure.timer import StreamTimer
from llmbench.measure.transport import StartGate
from llmbench.messages import Failure, Job, Model, Profile
from llmbench.providers.base import Provider
from llmbench.providers.registry import load_sdks, open_provider
from llmbench.quantiles import quantile
from llmbench.secrets import Redactor

HOG_EVERY_SECONDS = 0.100
HOG_FOR_SECONDS = 0.008
WRONG_NS = 5_000_000
WRONG_SHARE = 0.01
"""A row with more stamps than this share off by more than that tells wrong gaps."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One load's figures: errors of chunk stamps in microseconds, CPU in microseconds a chunk.

    ``first_tokens`` pairs the id of a request, or of its response, with the measured time to first token in seconds.
    ``suspects`` are rows that were not flagged coarse although more than 1 % of their stamps seem to be off by more
    than 5 ms: their ids, as in ``first_tokens``, and their stamps (`time.perf_counter_ns`).
    """

    streams: int
    chunks: int
    expected: int
    failures: list[str]
    error_p50: float
    error_p99: float
    error_max: float
    cpu_per_chunk: float
    coarse: int = 0
    suspects: list[tuple[str, list[int]]] = []
    user_clock: int = 0
    first_tokens: list[tuple[str, float]] = []


class Options(msgspec.Struct, frozen=True, kw_only=True):
    mode: str
    api: str
    url: str
    streams: int
    tokens: int
    model: str
    hog: bool
    ca_file: str | None


async def hog() -> None:
    """Keep the event loop busy 8 ms of every 100, as some part of an engine might."""
    while True:
        await anyio.sleep(HOG_EVERY_SECONDS - HOG_FOR_SECONDS)
        until = time.perf_counter() + HOG_FOR_SECONDS
        while time.perf_counter() < until:
            pass


async def ours(options: Options) -> Result:
    """Measure with the engine's own parts: provider, gate, attempt, timer."""
    settings = APIS[options.api].settings(options.url, options.streams, options.ca_file)
    load_sdks([settings.kind])
    provider = open_provider(settings, None)
    await provider.warm_up()
    await provider.check()
    load = _OurLoad(options, provider)
    quiet = QuietCollector()
    quiet.freeze()
    cpu = await _together(load.one, options)
    await provider.close()
    return load.result(cpu)


class _OurLoad:
    def __init__(self, options: Options, provider: Provider) -> None:
        self._options = options
        self._provider = provider
        self._gate = StartGate()
        self._runner = Runner(id="bench", region=None, redactor=Redactor([]))
        self._errors: list[float] = []
        self._failures: list[str] = []
        self._first: list[tuple[str, float]] = []
        self._suspects: list[tuple[str, list[int]]] = []
        self._coarse = self._user = 0
        api, now = APIS[options.api], datetime.now(UTC)
        model_id = api.prefix + options.model
        self._model = Model(provider=api.provider, model_id=model_id, enabled=True, deprecated=False, created_at=now)
        self._profile = Profile(id="default", prompt=PROMPT, max_tokens=options.tokens, temperature=0.0)

    async def one(self) -> None:
        errors: list[float] = []
        stamps: list[int] = []

        def on_text(timer: StreamTimer, text: str) -> None:
            stamps.append(timer.visible_ns[-1])
            errors.append((timer.visible_ns[-1] - int(text.strip()[1:])) / 1000)

        job = Job(outcome_id=new_outcome_id(), model=self._model, profile=self._profile, role="bench")
        attempt = Attempt(
            job,
            self._provider,
            gate=self._gate,
            runner=self._runner,
            clock=SystemClock(),
            on_text=on_text,
        )
        outcome = await attempt.run()
        self._errors += errors
        if isinstance(outcome, Failure):
            self._failures.append(f"{outcome.error_kind}: {outcome.message}")
            return
        identity = outcome.request_id or outcome.response_id or ""
        self._first.append((identity, outcome.time_to_first_token or 0.0))
        self._coarse += outcome.resolution == "coarse"
        self._user += outcome.clock == "user"
        off = sum(abs(error) > WRONG_NS / 1000 for error in errors) > WRONG_SHARE * len(errors)
        if off and outcome.resolution != "coarse":
            self._suspects.append((identity, stamps))

    def result(self, cpu: float) -> Result:
        extra = {"coarse": self._coarse, "suspects": self._suspects, "user_clock": self._user}
        return _result(self._options, self._errors, self._failures, cpu, first_tokens=self._first, **extra)


async def sdk(options: Options) -> Result:
    """Measure as most programs do: iterate the SDK's stream and look at the clock for each chunk."""
    api = APIS[options.api]
    errors: list[float] = []
    failures: list[str] = []
    async with api.plain(f"{options.url}/{api.path}") as ask:

        async def one() -> None:
            try:
                async for now, text in ask(api.prefix + options.model, options.tokens):
                    if text:
                        errors.append((now - int(text.strip()[1:])) / 1000)
            except Exception as error:  # noqa: BLE001  each SDK has its own; a load with failures is reported as such
                failures.append(repr(error))

        gc.collect()
        gc.freeze()
        cpu = await _together(one, options)
    return _result(options, errors, failures, cpu)


async def _together(one: object, options: Options) -> float:
    """Run all streams at a time; return the CPU seconds that it took, the hog's left out."""
    async with anyio.create_task_group() as around:
        if options.hog:
            around.start_soon(hog)
        before = time.process_time()
        async with anyio.create_task_group() as group:
            for _ in range(options.streams):
                group.start_soon(one)  # type: ignore[arg-type]
        cpu = time.process_time() - before
        around.cancel_scope.cancel()
    return cpu


def _result(options: Options, errors: list[float], failures: list[str], cpu: float, **extra: object) -> Result:
    ordered = sorted(map(abs, errors)) or [float("inf")]
    return msgspec.convert(
        {
            "streams": options.streams,
            "chunks": len(errors),
            "expected": options.streams * options.tokens,
            "failures": failures[:3],
            "error_p50": quantile(ordered, 0.5),
            "error_p99": quantile(ordered, 0.99),
            "error_max": ordered[-1],
            "cpu_per_chunk": cpu / max(len(errors), 1) * 1e6,
            **extra,
        },
        Result,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=("ours", "sdk"), required=True)
    parser.add_argument("--api", choices=tuple(APIS), required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--hog", action="store_true")
    parser.add_argument("--ca-file")
    parser.add_argument("--cpu", type=int)
    arguments = vars(parser.parse_args())
    if (cpu := arguments.pop("cpu")) is not None:
        os.sched_setaffinity(0, {cpu})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8192, hard)), hard))
    options = Options(**arguments)
    main_task = ours if options.mode == "ours" else sdk
    with simulated_credentials(options.url):
        result = anyio.run(main_task, options, backend_options=BACKEND_OPTIONS)
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()

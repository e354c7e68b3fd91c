"""Accuracy and cost of the measuring path, beside the plain SDK loop, against a server that stamps its own tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import trustme

from benchmarks.client import WRONG_NS, WRONG_SHARE, Result
from benchmarks.report import Figure, heading, show
from llmbench.quantiles import quantile
from llmbench.simulator.flavours import sequence_of
from llmbench.simulator.record import RequestRecord
from llmbench.simulator.spawn import SpawnedSimulator, spawn_simulator

CLIENT_CPU, SERVER_CPU = 0, 1
_TIMEOUT_SECONDS = 180
_FIRST_TOKEN = "first token: error against the server's own, p99 of all rounds"
_LEAN = ("bedrock",)
"""APIs whose SDK makes no models of its events, and reads several at once when it is late: its loop costs little more
than the system calls of one that looks at the clock for each. So ours is held against openai's instead."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One load: so many streams at a time, each of so many tokens with such a gap; ``hog`` keeps the loop busy."""

    streams: int
    tokens: int
    gap_ms: int = 20
    hog: bool = False
    api: str = "chat"

    @property
    def model(self) -> str:
        return f"sim-ttft200-gap{self.gap_ms}-stamp"


def run(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Measure everything about streams; yield each figure once it is known."""
    with spawn_simulator(cpu=_server_cpu()) as simulator:
        yield from _with_a_hog(simulator, rounds)
        yield from _many(simulator, rounds, tokens=150 if quick else 300)
        yield from _the_program(simulator, rounds)
        yield from _very_many(simulator, 1 if quick else rounds)
        for api in ("bedrock", "gemini", "claude on vertex"):
            yield from _with_a_hog(simulator, rounds, api)
            yield from _many(simulator, rounds, api, tokens=100)
        yield from _beside_openai(simulator, rounds)
    with _tls_simulator() as (simulator, ca_file):
        yield from _over_tls(simulator, rounds, ca_file)


def _with_a_hog(simulator: SpawnedSimulator, rounds: int, api: str = "chat") -> Iterator[Figure]:
    load = Load(streams=32, tokens=150, hog=True, api=api)
    heading(f"{api}: 32 streams × 50 tokens/s, a task hogs the event loop 8 ms of every 100")
    pairs = [(_client(simulator, load), _client(simulator, load, mode="sdk")) for _ in range(rounds)]
    ours = [mine for mine, _theirs in pairs]
    yield from _chunk_errors(ours, at_most=100)
    yield _figure(_FIRST_TOKEN, [_first_error(ours)], "µs", at_most=200)
    yield _figure("plain SDK loop: error of chunk stamps, p99", [theirs.error_p99 for _mine, theirs in pairs], "µs")
    ratios = [theirs.error_p99 / mine.error_p99 for mine, theirs in pairs]
    yield _figure("plain SDK loop's error / ours, p99", ratios, "×", at_least=50)


def _many(simulator: SpawnedSimulator, rounds: int, api: str = "chat", *, tokens: int) -> Iterator[Figure]:
    load = Load(streams=256, tokens=tokens, api=api)
    heading(f"{api}: 256 streams × 50 tokens/s, on one core")
    pairs = [(_client(simulator, load), _client(simulator, load, mode="sdk")) for _ in range(rounds)]
    ours = [mine for mine, _theirs in pairs]
    yield from _chunk_errors(ours, at_most=100)
    yield _figure(
        "plain SDK loop: error of chunk stamps, p99", [theirs.error_p99 / 1e6 for _mine, theirs in pairs], "s"
    )
    yield _figure("CPU a chunk", [mine.cpu_per_chunk for mine in ours], "µs")
    yield _figure("plain SDK loop: CPU a chunk", [theirs.cpu_per_chunk for _mine, theirs in pairs], "µs")
    ratios = [mine.cpu_per_chunk / theirs.cpu_per_chunk for mine, theirs in pairs]
    at_most = None if api in _LEAN else 1 / 3
    yield _figure("our CPU a chunk / the plain SDK loop's", ratios, "×", at_most=at_most)


def _beside_openai(simulator: SpawnedSimulator, rounds: int) -> Iterator[Figure]:
    heading("bedrock beside openai's SDK: 256 streams × 50 tokens/s, on one core")
    ours, theirs = Load(streams=256, tokens=100, api="bedrock"), Load(streams=256, tokens=100)
    pairs = [(_client(simulator, ours), _client(simulator, theirs, mode="sdk")) for _ in range(rounds)]
    ratios = [mine.cpu_per_chunk / plain.cpu_per_chunk for mine, plain in pairs]
    yield _figure("our CPU a chunk / a plain openai loop's", ratios, "×", at_most=1 / 3)


def _very_many(simulator: SpawnedSimulator, rounds: int) -> Iterator[Figure]:
    for gap_ms, tokens, bound in ((50, 120, 1000.0), (20, 200, None)):
        load = Load(streams=1024, tokens=tokens, gap_ms=gap_ms)
        heading(f"1,024 streams × {1000 // gap_ms} tokens/s, on one core")
        ours = [_client(simulator, load) for _ in range(rounds)]
        yield from _chunk_errors(ours, at_most=bound)
        yield _figure("CPU a chunk", [mine.cpu_per_chunk for mine in ours], "µs")
        yield _figure("rows flagged coarse", [100 * mine.coarse / mine.streams for mine in ours], "%")
        yield _figure("rows whose gaps are wrong, not flagged", [_untrue[id(mine)] for mine in ours], "", at_most=0)


def _over_tls(simulator: SpawnedSimulator, rounds: int, ca_file: str) -> Iterator[Figure]:
    for load, text in (
        (Load(streams=32, tokens=150, hog=True), "TLS: 32 streams × 50 tokens/s, with the hog"),
        (Load(streams=256, tokens=150), "TLS: 256 streams × 50 tokens/s"),
    ):
        heading(text)
        ours = [_client(simulator, load, ca_file=ca_file) for _ in range(rounds)]
        yield from _chunk_errors(ours, at_most=100)
        if load.hog:
            yield _figure(_FIRST_TOKEN, [_first_error(ours)], "µs", at_most=200)


def _the_program(simulator: SpawnedSimulator, rounds: int) -> Iterator[Figure]:
    """What a user is told: `llmbench bench` with 256 runs at a time, against the server's own times."""
    heading("llmbench bench, 256 runs at a time × 50 tokens/s: time to first token that it tells")
    told: list[list[float]] = []
    true: list[list[float]] = []
    for _ in range(rounds):
        simulator.reset()
        measured = _bench_program(simulator, streams=256)
        server = _server_times(simulator.requests())
        told.append(sorted(measured.values()))
        true.append(sorted(server[_sequence(identity)] for identity in measured))
    for name, q in (("p50", 0.50), ("p99", 0.99)):
        pairs = list(zip(told, true, strict=True))
        yield _figure(f"{name} told", [quantile(mine, q) * 1000 for mine, _server in pairs], "ms")
        yield _figure(f"{name} by the server", [quantile(server, q) * 1000 for _mine, server in pairs], "ms")
        off = [abs(quantile(mine, q) - quantile(server, q)) * 1000 for mine, server in pairs]
        yield _figure(f"{name} told, off by", off, "ms", at_most=1)


def _bench_program(simulator: SpawnedSimulator, streams: int) -> dict[str, float]:
    """Return the time to first token that the program tells, by the provider's request id."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.toml"
        config.write_text(
            f'[store.sqlite]\npath = "{folder}/bench.db"\n'
            f"[profiles.default]\nmax_tokens = 150\n"
            f'[providers.local]\nkind = "openai-compatible"\nbase_url = "{simulator.url}/local/v1"\n'
            "requests_per_minute = 60000\n"
        )
        model = "local/sim-ttft200-gap20"
        many = ["--runs", str(streams), "--concurrency", str(streams)]
        done = subprocess.run(
            [sys.executable, "-m", "llmbench", "bench", model, *many, "--json", "--config", str(config)],
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
            preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CPU}),
        )
    if done.returncode != 0:
        raise SystemExit(f"llmbench bench failed:\n{done.stderr.decode()[-2000:]}")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["request_id"]: row["time_to_first_token"] for row in rows}


def _client(simulator: SpawnedSimulator, load: Load, *, mode: str = "ours", ca_file: str | None = None) -> Result:
    if mode == "ours":
        simulator.reset()
    command = [sys.executable, "-m", "benchmarks.client", "--mode", mode, "--url", simulator.url, "--api", load.api]
    command += ["--streams", str(load.streams), "--tokens", str(load.tokens), "--model", load.model]
    command += [
        "--cpu",
        str(CLIENT_CPU),
        *(["--hog"] if load.hog else []),
        *(["--ca-file", ca_file] if ca_file else []),
    ]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"the client failed:\n{done.stderr.decode()[-2000:]}")
    result = msgspec.json.decode(done.stdout, type=Result)
    if mode == "ours":
        records = simulator.requests()
        _truths[id(result)] = _server_times(records)
        _untrue[id(result)] = _wrong_rows(result, records)
        _kept.append(result)
    return result


_truths: dict[int, dict[int, float]] = {}
_untrue: dict[int, int] = {}
_kept: list[Result] = []
"""Keeps the results alive whose ids are keys of ``_truths`` and ``_untrue``."""


def _wrong_rows(result: Result, records: Sequence[RequestRecord]) -> int:
    """Count the suspects that are wrong wherever between both ends of the server's writes their bytes went out."""
    by_number = {record.sequence: record for record in records}
    return sum(_is_wrong(stamps, by_number[_sequence(identity)]) for identity, stamps in result.suspects)


def _is_wrong(stamps: Sequence[int], record: RequestRecord) -> bool:
    ends = zip(stamps, record.writes_ns, record.written_ns, strict=True)
    off = sum(not before - WRONG_NS <= stamp <= after + WRONG_NS for stamp, before, after in ends)
    return off > WRONG_SHARE * len(stamps)


def _first_error(results: Sequence[Result]) -> float:
    """Return the 99th percentile of the error of the time to first token over all rounds, in µs."""
    errors = [
        abs(seconds - _truths[id(result)][_sequence(identity)]) * 1e6
        for result in results
        for identity, seconds in result.first_tokens
    ]
    return quantile(sorted(errors), 0.99)


def _sequence(identity: str) -> int:
    """Return the number of the request that an id of the simulator tells: a request's, or else a response's."""
    try:
        return sequence_of(identity)
    except ValueError:
        return int(identity[-20:])


def _server_times(records: Sequence[RequestRecord]) -> dict[int, float]:
    """Return the server's own time from a request's arrival to the write of its first token, by its number."""
    return {record.sequence: (record.writes_ns[0] - record.arrival_ns) / 1e9 for record in records if record.writes_ns}


def _chunk_errors(results: Sequence[Result], at_most: float | None) -> Iterator[Figure]:
    yield _figure("error of chunk stamps, p50", [result.error_p50 for result in results], "µs")
    yield _figure("error of chunk stamps, p99", [result.error_p99 for result in results], "µs", at_most=at_most)
    lost = [float(result.expected - result.chunks + len(result.failures)) for result in results]
    yield _figure("chunks and runs lost", lost, "", at_most=0)


def _figure(
    what: str, rounds: Sequence[float], unit: str, *, at_most: float | None = None, at_least: float | None = None
) -> Figure:
    figure = msgspec.convert(
        {"what": what, "rounds": list(rounds), "unit": unit, "at_most": at_most, "at_least": at_least}, Figure
    )
    show(figure)
    return figure


def _server_cpu() -> int | None:
    return SERVER_CPU if (os.cpu_count() or 1) > 1 else None


@contextmanager
def _tls_simulator() -> Iterator[tuple[SpawnedSimulator, str]]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    with tempfile.TemporaryDirectory() as folder:
        ca, chain, key = (str(Path(folder) / name) for name in ("ca.pem", "chain.pem", "key.pem"))
        authority.cert_pem.write_to_path(ca)
        for index, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(chain, append=index > 0)
        certificate.private_key_pem.write_to_path(key)
        with spawn_simulator(cpu=_server_cpu(), tls_cert=chain, tls_key=key, ca_file=ca) as simulator:
            yield simulator, ca

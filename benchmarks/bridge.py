"""The bridge under load, a lane that measures in the same process meanwhile, and the spool."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import accumulate
from statistics import median
from typing import Any

import msgspec
from bson.objectid import ObjectId
from pymongo import MongoClient

from benchmarks import posting, spooling
from benchmarks.programs import Base, running_base
from benchmarks.report import Figure, Unit, heading, show
from benchmarks.storage import a_mongod
from llmbench.quantiles import quantile
from llmbench.simulator.flavours import sequence_of
from llmbench.simulator.record import RequestRecord
from llmbench.simulator.spawn import SpawnedSimulator, spawn_simulator

_OFFERED = 2_000.0
_CLIENTS = 4
_STREAMS = 32
_FIGURES_SECONDS = 120
_COLLECTIONS = ("metrics_cloud_v2", "metrics_cloud_probe", "errors_cloud")
_WRONG_SECONDS = 0.005
"""A gap that is off by more is wrong; a row with more than 1 % of them is untrue, and has to say so."""


class Lane(msgspec.Struct, frozen=True):
    """What became of the lane's rows: errors of stamps in µs, and how many rows are flagged, or untrue and not.

    ``lag`` is the 99th percentile of how long the event loop was away during a run, at worst, in seconds.
    """

    rows: int
    lag: float
    errors: list[float]
    coarse: int
    untrue: int

    @property
    def p99(self) -> float:
        return quantile(self.errors, 0.99)


def run(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Measure all of it; yield each figure once it is known."""
    seconds = 4.0 if quick else 8.0
    backlog = 4_000 if quick else 20_000
    yield from _recording(rounds)
    with a_mongod() as uri:
        if uri is None:
            heading("the bridge: not measured, for lack of a mongod for this machine")
            return
        with tempfile.TemporaryDirectory() as folder:
            yield from _draining("SQLite", "sqlite", folder, rounds, backlog)
        yield from _draining("MongoDB", "mongo", uri, rounds, backlog)
        yield from _alone(uri, rounds, seconds)
        with spawn_simulator(cpu=1) as simulator:
            yield from _beside_a_lane(uri, simulator, rounds, seconds)


def _recording(rounds: int) -> Iterator[Figure]:
    heading("spool: outcomes of 64 tokens recorded one by one, durably, from 64 lanes")
    done = [_program("spooling", spooling.Result, outcomes=8_000) for _ in range(rounds)]
    yield _figure("recorded", [one.rate for one in done], "/s", at_least=1_000)
    yield _figure("until an outcome is recorded, p99", [one.latency_p99 * 1e3 for one in done], "ms", at_most=100)


def _draining(name: str, kind: str, place: str, rounds: int, backlog: int) -> Iterator[Figure]:
    heading(f"spool: a backlog of {backlog:,} delivered into {name}, while 10 outcomes/s arrive")
    done = [_program("spooling", spooling.Result, outcomes=backlog, store=kind, at=place) for _ in range(rounds)]
    yield _figure("delivered", [one.rate for one in done], "/s", at_least=500)
    yield _figure("  × what arrives", [one.rate / 10 for one in done], "×", at_least=5)
    yield _figure("  until an arriving outcome is recorded, p99", [one.latency_p99 * 1e3 for one in done], "ms")
    yield _figure("  left in the spool", [float(one.left) for one in done], at_most=0)


def _alone(uri: str, rounds: int, seconds: float) -> Iterator[Figure]:
    """The bridge by itself: `llmbench ingest`."""
    for rate in (0.0, _OFFERED):
        _tell_load(f"llmbench ingest into MongoDB, batches of {posting.BATCH}", rate)
        done = []
        for _ in range(rounds):
            with running_base(uri) as base:
                done.append(_posted(base, rate, seconds))
        yield from _posting(done, rate)


def _beside_a_lane(uri: str, simulator: SpawnedSimulator, rounds: int, seconds: float) -> Iterator[Figure]:
    """The engine that serves and measures: its own rows, side by side with and without somebody who posts."""
    _tell_load(f"an engine with {_STREAMS} streams × 50 tokens/s that is a bridge, too", _OFFERED)
    quiet: list[Lane] = []
    busy: list[Lane] = []
    done = []
    for _ in range(rounds):
        for lanes, rate in ((quiet, 0.0), (busy, _OFFERED)):
            simulator.reset()
            with running_base(uri, simulator, streams=_STREAMS) as base:
                base.until_measuring()
                if rate:
                    done.append(_posted(base, rate, seconds))
                else:
                    base.rest(seconds)
                base.stop()
                lanes.append(lane_of(uri, base.database, simulator.requests()))
    yield from _posting(done, _OFFERED)
    yield _figure("error of chunk stamps in the rows, p99, nobody posts", [one.p99 for one in quiet], "µs", at_most=100)
    yield _figure("error of chunk stamps in the rows, p99", [one.p99 for one in busy], "µs", at_most=100)
    yield _figure(
        "  with / without who posts", [one.p99 / other.p99 for one, other in zip(busy, quiet, strict=True)], "×"
    )
    for name, lanes in (("nobody posts", quiet), ("somebody posts", busy)):
        yield _figure(f"rows measured, {name}", [float(one.rows) for one in lanes], "")
        yield _figure(f"  rows flagged coarse, {name}", [100 * one.coarse / one.rows for one in lanes], "%")
    untrue = [float(one.untrue + other.untrue) for one, other in zip(busy, quiet, strict=True)]
    yield _figure("rows whose gaps are wrong, not flagged", untrue, at_most=0)


def _tell_load(what: str, rate: float) -> None:
    load = f"{rate:,.0f} outcomes/s are posted" if rate else f"{_CLIENTS} connections post as fast as they are answered"
    heading(f"{what}; {load}")


class _Posted(msgspec.Struct, frozen=True):
    rate: float
    p50: float
    p99: float
    lost: int
    twice: int
    refused: list[str]
    sender: float


def _posted(base: Base, rate: float, seconds: float) -> _Posted:
    result = _program(
        "posting", posting.Result, port=base.port, key=base.key, clients=_CLIENTS, rate=rate, seconds=seconds
    )
    if result.refused:
        print(f"refused: {result.refused}", file=sys.stderr)
    ids = result.ids()
    found = _found(base.uri, base.database, result.prefix)
    latencies = sorted(result.latencies)
    return _Posted(
        len(ids) / result.seconds,
        quantile(latencies, 0.5) * 1e3,
        quantile(latencies, 0.99) * 1e3,
        len(set(ids) - set(found)),
        len(found) - len(set(found)),
        result.refused,
        100 * result.cpu / result.seconds,
    )


def _posting(done: list[_Posted], rate: float) -> Iterator[Figure]:
    at_least = 0.98 * rate if rate else _OFFERED  # the last answer comes after the last second
    yield _figure("stored and acknowledged", [one.rate for one in done], "/s", at_least=at_least)
    yield _figure("until a batch is acknowledged, p50", [one.p50 for one in done], "ms")
    yield _figure("until a batch is acknowledged, p99", [one.p99 for one in done], "ms", at_most=250)
    yield _figure("acknowledged and not in MongoDB", [float(one.lost) for one in done], at_most=0)
    yield _figure("there twice", [float(one.twice) for one in done], at_most=0)
    yield _figure("batches that were refused", [float(len(one.refused)) for one in done], at_most=0)
    yield _figure("CPU of the sender, of one core", [one.sender for one in done], "%")


def _found(uri: str, database: str, prefix: str) -> list[str]:
    """Return the ids that are stored, each as often as it is."""
    first, last = ObjectId(posting.identity(prefix, 0)), ObjectId(prefix + "f" * 12)
    with MongoClient[dict[str, Any]](uri) as client:
        found = [
            client[database][name].find({"_id": {"$gte": first, "$lte": last}}, {"_id": 1}) for name in _COLLECTIONS
        ]
        return [str(row["_id"]) for rows in found for row in rows]


def lane_of(uri: str, database: str, requests: list[RequestRecord]) -> Lane:
    """Compare the rows with what the server says of when each token came.

    A row tells gaps, so its chunks are known up to a constant: the one that suits most of them is taken.
    """
    served = {record.sequence: record for record in requests}
    with MongoClient[dict[str, Any]](uri) as client:
        rows = list(client[database]["metrics_cloud_v2"].find({"provider": "local"}))
        failed = client[database]["errors_cloud"].count_documents({"provider": "local", "error_kind": {"$ne": "local"}})
    if failed or not rows:
        raise SystemExit(f"the lane has {len(rows)} rows, and {failed} runs have failed")
    errors, untrue = [], 0
    for row in rows:
        record = served[sequence_of(row["request_id"])]
        writes = record.writes_ns
        measured = accumulate(row["times_between_tokens"], initial=0.0)
        off = [one - (write - writes[0]) / 1e9 for one, write in zip(measured, writes, strict=True)]
        wrong = [one - median(off) for one in off]
        errors += [abs(one) * 1e6 for one in wrong]
        far_off = sum(_is_wrong(*one) for one in zip(wrong, writes, record.written_ns, strict=True))
        untrue += far_off > 0.01 * len(wrong) and row["resolution"] != "coarse"
    lag = quantile(sorted(row["client_lag_max"] for row in rows), 0.99)
    return Lane(len(rows), lag, sorted(errors), sum(row["resolution"] == "coarse" for row in rows), untrue)


def _is_wrong(seconds: float, before_ns: int, after_ns: int) -> bool:
    """Whether a chunk is off by too much, wherever between these two its bytes went out."""
    return not -_WRONG_SECONDS <= seconds <= _WRONG_SECONDS + (after_ns - before_ns) / 1e9


def _program(name: str, kind: type[Any], **options: object) -> Any:
    """Run a load in a process of its own, and return what it prints."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    command += [text for option, value in options.items() for text in (f"--{option}", str(value))]
    done = subprocess.run(command, capture_output=True, check=False, timeout=_FIGURES_SECONDS)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr.decode()[-2000:]}")
    return msgspec.json.decode(done.stdout, type=kind)


def _figure(
    what: str, rounds: list[float], unit: Unit = "", *, at_most: float | None = None, at_least: float | None = None
) -> Figure:
    figure = Figure(what=what, rounds=rounds, unit=unit, at_most=at_most, at_least=at_least)
    show(figure)
    return figure

"""What Prometheus is told, made from live events, from the spool's counts and from the bridge's requests.

All of it is called on the event loop. Live events may be lost on the way: then what is counted from them is too low,
and ``llmbench_bus_dropped_events_total`` says by how many events.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterator
from typing import Final, Literal, Protocol, get_args, runtime_checkable

from anyio.lowlevel import checkpoint
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from llmbench import __version__
from llmbench.bridge import metric_families as families
from llmbench.bridge.metric_runs import RunMetrics
from llmbench.bridge.metric_values import Gauges, Histograms, Values, counter, pieces
from llmbench.clock import Clock, SystemClock
from llmbench.messages import LaneState, LaneStatus, LiveEvent, RunFinished, RunStarted, StoreState
from llmbench.stores.spool import Level, SpoolCounts

Reader = Literal["metrics", "live"]

_LANES: Final = 500
_ROUTES: Final = 100
_REASONS: Final = 50
# The methods that OpenTelemetry's conventions name; others, which a stranger may make up, are one.
_METHODS: Final = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"])
_OTHER_METHOD: Final = "_OTHER"


@runtime_checkable
class _Lossy(Protocol):
    dropped: int


class Metrics:
    """All metrics of one program, in a registry of its own.

    ``most_models`` models (pairs of provider and id) have series of their own; those that come later share one for
    each provider, under the model ``other``.
    """

    def __init__(self, *, clock: Clock | None = None, most_models: int = 2000) -> None:
        self.registry = CollectorRegistry()
        self._clock: Clock = clock or SystemClock()
        self._runs = RunMetrics(self.registry, most_models)
        self._lanes = _LaneMetrics(self.registry)
        self._spool = _SpoolMetrics(self.registry)
        self._store_up = Gauges(families.STORE_UP, self.registry)
        self._delivered = counter(families.DELIVERED, self.registry)
        self._dropped = counter(families.BUS_DROPPED, self.registry)
        self._loop_lag = Histograms(families.LOOP_LAG, self.registry)
        self._requests = Histograms(families.REQUESTS, self.registry)
        self._items = counter(families.ITEMS, self.registry)
        self._routes = Values(_ROUTES)
        Gauges(families.BUILD, self.registry).set(1, __version__)
        for library in (ProcessCollector, PlatformCollector, GCCollector):
            library(registry=self.registry)

    # what is told

    def observe(self, event: LiveEvent) -> None:
        """Count a live event."""
        if isinstance(event, RunStarted):
            self._runs.started(event)
        elif isinstance(event, RunFinished):
            self._runs.finished(event)
        elif isinstance(event, LaneState):
            self._lanes.changed(event)
            if event.status not in ("ok", "blocked"):
                self._runs.forget(event.lane)
        elif isinstance(event, StoreState):
            self._store_up.set(event.status == "ok")

    async def follow(self, events: AsyncIterable[LiveEvent]) -> None:
        """Count every event of a subscription until it ends, and what it has lost (its ``dropped``, if it has one)."""
        lossy = events if isinstance(events, _Lossy) else None
        lost = 0
        async for event in events:
            if lossy is not None and lossy.dropped > lost:
                self.dropped(lossy.dropped - lost, "metrics")
                lost = lossy.dropped
            self.observe(event)

    def dropped(self, count: int, reader: Reader = "live") -> None:
        """Count live events that a reader has lost.

        If it was we, the end of a run may be among them: so none counts as in flight but those that start from now on.
        """
        self._dropped.labels(reader).inc(count)
        if reader == "metrics":
            self._runs.forget(None)

    def delivered(self, count: int) -> None:
        """Count outcomes that the store has acknowledged."""
        self._delivered.inc(count)
        if count:
            self._store_up.set(1)

    def spool(self, counts: SpoolCounts | None) -> None:
        """Take the spool's counts, to be told until there are newer ones; None if it could not be asked."""
        self._spool.take(counts)

    def lag(self, seconds: float) -> None:
        """Count how long the event loop was away, at worst, since it was looked at last."""
        self._loop_lag.add((), seconds)

    def request(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count an answered request. ``route`` is its route's template, such as ``/ingest``; None if none matched."""
        known = method if method in _METHODS else _OTHER_METHOD
        self._requests.add((known, self._routes(route or ""), str(status)), seconds)

    def items(self, route: str, status: str, count: int) -> None:
        """Count documents of a request by what became of them (`llmbench.ingestion.ItemStatus`)."""
        self._items.labels(self._routes(route), status).inc(count)

    # what is asked

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics if the header ``Accept`` prefers it, else text 0.0.4.

        Thousands of series take a good while: a program that measures meanwhile calls `scrape`.
        """
        openmetrics = prefers_openmetrics(accept)
        return b"".join(self._pieces(openmetrics)), content_type(openmetrics)

    async def scrape(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return what `render` does, and let the event loop go on after every few lines."""
        openmetrics = prefers_openmetrics(accept)
        body = []
        for piece in self._pieces(openmetrics):
            body.append(piece)
            await checkpoint()
        return b"".join(body), content_type(openmetrics)

    def _pieces(self, openmetrics: bool) -> Iterator[bytes]:
        self._spool.age(self._clock)
        yield from pieces(self.registry, generate_openmetrics if openmetrics else generate_latest)
        if openmetrics:
            yield b"# EOF\n"


class _LaneMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._states = Gauges(families.LANE_STATE, registry)
        self._restarts = counter(families.LANE_RESTARTS, registry)
        self._names = Values(_LANES)
        self._known: dict[str, int] = {}

    def changed(self, event: LaneState) -> None:
        lane = self._names(event.lane)
        for status in get_args(LaneStatus):
            self._states.set(status == event.status, lane, status)
        # An actor that tells its own state does not know how often it was restarted.
        more = event.restarts - self._known.get(lane, 0)
        self._restarts.labels(lane).inc(max(0, more))
        self._known[lane] = max(event.restarts, self._known.get(lane, 0))


class _SpoolMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauges(families.SPOOL_UP, registry)
        self._plain = {
            name: Gauges(family, registry)
            for name, family in {
                "waiting": families.SPOOL_WAITING,
                "delivered": families.SPOOL_KEPT,
                "in_flight": families.SPOOL_IN_FLIGHT,
                "interrupted": families.SPOOL_INTERRUPTED,
                "file_bytes": families.SPOOL_FILE,
                "used_bytes": families.SPOOL_USED,
                "cap_bytes": families.SPOOL_CAP,
                "damages": families.SPOOL_DAMAGES,
            }.items()
        }
        self._age = Gauges(families.SPOOL_AGE, registry)
        self._quarantined = Gauges(families.SPOOL_QUARANTINED, registry)
        self._level = Gauges(families.SPOOL_LEVEL, registry)
        self._reasons = Values(_REASONS)
        self._counts: SpoolCounts | None = None

    def take(self, counts: SpoolCounts | None) -> None:
        self._counts = counts
        for gauges in (*self._plain.values(), self._quarantined, self._level, self._age):
            gauges.clear()
        self._up.set(counts is not None)
        if counts is None:
            return
        for name, gauges in self._plain.items():
            gauges.set(getattr(counts, name))
        for reason, count in counts.quarantined.items():
            self._quarantined.add(count, self._reasons(reason))
        for level in get_args(Level):
            self._level.set(level == counts.level, level)

    def age(self, clock: Clock) -> None:
        """Bring the age of the oldest outcome up to date. It is between labels: exact enough to be alarmed by."""
        if self._counts is not None:
            oldest = self._counts.oldest
            self._age.set(0.0 if oldest is None else max(0.0, (clock.now() - oldest).total_seconds()))


def content_type(openmetrics: bool) -> str:
    return CONTENT_TYPE_OPENMETRICS if openmetrics else CONTENT_TYPE_PLAIN_0_0_4


def prefers_openmetrics(accept: str | None) -> bool:
    """Say whether an ``Accept`` header prefers OpenMetrics 1.0.0 to plain text. It may hold anything.

    (prometheus_client's own reading of the header fails on some of that, and gives back versions that it can't write.)
    """
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in (accept or "").split(","):
        kind, *rest = (word.strip().lower() for word in part.split(";"))
        parameters = dict(word.split("=", 1) for word in rest if "=" in word)
        if kind in weights and (kind == "text/plain" or parameters.get("version", "1.0.0") == "1.0.0"):
            weights[kind] = max(weights[kind], _weight(parameters.get("q", "1")))
    return (
        weights["application/openmetrics-text"] > 0 and weights["application/openmetrics-text"] >= weights["text/plain"]
    )


def _weight(text: str) -> float:
    """Return a weight of RFC 9110, section 12.4.2; 0 for what is none."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0

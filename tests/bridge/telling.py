"""Metrics for tests: what they are told, and what prometheus_client's own parsers make of what they tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from llmbench.bridge.metric_families import Family
from llmbench.bridge.metrics import Metrics
from llmbench.messages import LaneState, LaneStatus, LiveEvent, Outcome, RunFinished, RunStarted, StoreState
from llmbench.stores.spool import SpoolCounts
from tests.stores.documents import NOON, failure, moment, sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0; q=0.9, text/plain;q=0.5"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BOTH = pytest.mark.parametrize("accept", [None, OPENMETRICS], ids=["text", "OpenMetrics"])

RUN = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "gpt-4o-mini"}


class NoonClock:
    """It is always noon."""

    def monotonic_ns(self) -> int:
        return 0

    def now(self) -> Any:
        return NOON


def started(outcome_id: str = "1", provider: str = "openai", model_id: str = "gpt-4o-mini") -> RunStarted:
    return RunStarted(outcome_id=outcome_id, provider=provider, model_id=model_id, at=NOON)


def finished(outcome: Outcome) -> RunFinished:
    return RunFinished(provider=outcome.provider, model_id=outcome.model_name, outcome=outcome)


def lane(status: LaneStatus, restarts: int = 0, name: str = "openai") -> LaneState:
    return LaneState(lane=name, status=status, at=NOON, restarts=restarts)


def counts(**changes: Any) -> SpoolCounts:
    usual: dict[str, Any] = {
        "waiting": 7,
        "delivered": 100,
        "quarantined": {"conflict": 2, "undecodable": 1},
        "oldest": moment(-90),
        "in_flight": 3,
        "interrupted": 1,
        "file_bytes": 40960,
        "used_bytes": 20480,
        "cap_bytes": 2**31,
        "level": "warning",
        "damages": 1,
        "sqlite_version": "3.50.0",
    }
    return SpoolCounts(**usual | changes)


def told(*events: LiveEvent) -> Metrics:
    """Return metrics that have seen these events."""
    metrics = Metrics(clock=NoonClock())
    for event in events:
        metrics.observe(event)
    return metrics


def everything() -> Metrics:
    """Return metrics in which every family has a series."""
    metrics = told(
        started(),
        finished(sample()),
        finished(sample(resolution="coarse")),
        finished(failure()),
        lane("blocked", restarts=1),
        StoreState(status="ok", at=NOON, waiting=0),
    )
    metrics.spool(counts())
    metrics.request("/ingest", "POST", 200, 0.02)
    metrics.items("/ingest", "stored", 1)
    metrics.dropped(3)
    metrics.delivered(2)
    metrics.lag(0.004)
    return metrics


def read(metrics: Metrics, accept: str | None = None) -> list[Metric]:
    """Return what prometheus_client's own parser makes of the metrics."""
    body, content_type = metrics.render(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    return list(parse(body.decode()))


def values(metrics: Metrics, family: Family | str, accept: str | None = None) -> dict[tuple[str, ...], float]:
    """Return the value of each series of a name, by the values of its labels in the order of their names."""
    name = family if isinstance(family, str) else family.name
    return {
        tuple(value for _, value in sorted(found.labels.items())): found.value
        for metric in read(metrics, accept)
        for found in metric.samples
        if found.name == name
    }


def value(metrics: Metrics, name: Family | str, labels: Mapping[str, str] | None = None) -> float | None:
    """Return one series' value, None if it is not there."""
    return metrics.registry.get_sample_value(name if isinstance(name, str) else name.name, dict(labels or {}))


def histogram(metrics: Metrics, family: Family, labels: Mapping[str, str], accept: str | None = None) -> dict[str, Any]:
    """Return one histogram: ``count``, ``sum`` and the ``buckets``, which are cumulative."""
    found: dict[str, Any] = {"buckets": {}}
    for metric in read(metrics, accept):
        for one in metric.samples:
            edge = one.labels.get("le")
            if {name: text for name, text in one.labels.items() if name != "le"} != dict(labels):
                continue
            if one.name == f"{family.name}_bucket":
                found["buckets"][edge] = one.value
            elif one.name.startswith(family.name):
                found[one.name.removeprefix(f"{family.name}_")] = one.value
    return found


def figures(body: bytes) -> list[bytes]:
    """Return the lines of llmbench's own metrics; those of the process change all the time."""
    return [line for line in body.splitlines() if not re.match(rb"(# \w+ )?(process|python)_", line)]

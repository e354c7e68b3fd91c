"""Where the values of metrics are kept, and how they are written.

Histograms and gauges are prometheus_client collectors of our own: a run brings dozens of gaps at once, which have to
cost next to nothing, and a metric that was never told must be absent, not 0. They give their series in small parts,
so that writing thousands of them can make room for what else the event loop has to do.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from math import isfinite
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from llmbench.bridge.metric_families import Family
from llmbench.error_text import clean

OTHER: Final = "other"
"""The label's value for all that came when a label had as many values as it may have."""

_LABEL_LIMIT = 200
_GAUGES_AT_ONCE = 40

Labels = tuple[str, ...]


class Values:
    """The values of a label: at most ``most`` different ones, fit to be shown; all further ones are `OTHER`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        known = self._known.get(text)
        return self._learn(text) if known is None else known

    def _learn(self, text: str) -> str:
        if len(self._known) >= self._most:
            return OTHER
        self._known[text] = label = self.label(text)
        return label

    @staticmethod
    def label(text: str) -> str:
        """Return foreign text as a label's value."""
        return clean(text, _LABEL_LIMIT)


class _Series:
    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.total = 0.0


class Histograms(Collector):
    """A histogram for each set of label values that was seen. One without labels is there from the start."""

    def __init__(self, family: Family, registry: CollectorRegistry) -> None:
        self._family = family
        self._bounds = list(family.buckets)
        self._edges = [*map(floatToGoString, family.buckets), "+Inf"]
        self._series: dict[Labels, _Series] = {} if family.labels else {(): self._new()}
        registry.register(self)

    def add(self, labels: Labels, value: float) -> None:
        """Count a value. One that is not finite is left out: it would spoil the sum for good."""
        if isfinite(value):
            series = self._of(labels)
            series.counts[bisect_left(self._bounds, value)] += 1
            series.total += value

    def add_all(self, labels: Labels, values: Sequence[float]) -> None:
        """Count many values, at the cost of a few; none of them if one is not finite."""
        total = sum(values)
        if not isfinite(total):
            return
        series, ordered, below = self._of(labels), sorted(values), 0
        for number, bound in enumerate(self._bounds):
            up_to = bisect_right(ordered, bound)
            series.counts[number] += up_to - below
            below = up_to
        series.counts[-1] += len(ordered) - below
        series.total += total

    def _of(self, labels: Labels) -> _Series:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._new()
        return series

    def _new(self) -> _Series:
        return _Series(len(self._family.buckets) + 1)

    def describe(self) -> list[Metric]:
        return [_metric(self._family)]

    def collect(self) -> Iterator[Metric]:
        for labels, series in list(self._series.items()):
            yield self._written(dict(zip(self._family.labels, labels, strict=True)), series)

    def _written(self, labels: dict[str, str], series: _Series) -> Metric:
        metric, name = _metric(self._family), self._family.name
        for edge, count in zip(self._edges, accumulate(series.counts), strict=True):
            metric.add_sample(f"{name}_bucket", labels | {"le": edge}, count)
        metric.add_sample(f"{name}_count", labels, sum(series.counts))
        metric.add_sample(f"{name}_sum", labels, series.total)
        return metric


class Gauges(Collector):
    """A gauge for each set of label values that was set, until it is cleared."""

    def __init__(self, family: Family, registry: CollectorRegistry) -> None:
        self._family = family
        self._values: dict[Labels, float] = {}
        registry.register(self)

    def set(self, value: float, *labels: str) -> None:
        self._values[labels] = value

    def add(self, difference: float, *labels: str) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + difference

    def clear(self) -> None:
        self._values.clear()

    def describe(self) -> list[Metric]:
        return [_metric(self._family)]

    def collect(self) -> Iterator[Metric]:
        items = iter(list(self._values.items()))
        while part := list(islice(items, _GAUGES_AT_ONCE)):
            metric = _metric(self._family)
            for labels, value in part:
                metric.add_sample(self._family.name, dict(zip(self._family.labels, labels, strict=True)), value)
            yield metric


def counter(family: Family, registry: CollectorRegistry) -> Counter:
    """Return prometheus_client's own counter for a family."""
    return Counter(family.name, family.help, family.labels, registry=registry)


def _metric(family: Family) -> Metric:
    return Metric(family.stem, family.help, family.kind, family.unit)


class _One(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


Encoder = Callable[[Collector], bytes]

_END = b"# EOF\n"


def pieces(registry: CollectorRegistry, encode: Encoder) -> Iterator[bytes]:
    """Yield the text of all metrics in small parts, without the end that OpenMetrics wants.

    ``_created`` series, which prometheus_client has for each counter, are left out: nothing asks for them, and they
    can be turned off only for the whole process.
    """
    last = None
    for metric in registry.collect():
        metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        text = encode(_One(metric)).removesuffix(_END)
        while metric.name == last and text.startswith(b"# "):  # its head was written with its first part
            text = text.partition(b"\n")[2]
        last = metric.name
        yield text

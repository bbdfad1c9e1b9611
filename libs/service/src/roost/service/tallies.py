"""Metrics of the hottest paths: plain integers, made into Prometheus samples only when somebody scrapes.

prometheus_client takes a lock and some eight calls to count one event; here it is one call and no lock. That is sound because only the
event loop writes, and a scrape reads whole lists and integers: at worst it sees an event counted in one series and not yet in the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class CounterSeries:
    """One labelled series of a counter. State: its count."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def count(self) -> None:
        self.value += 1


class CounterTally(Collector):
    """A counter. State: its series by label values."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], CounterSeries] = {}
        registry.register(self)

    def series(self, *labels: str) -> CounterSeries:
        """The series of these label values, shown from now on; the same object each time."""
        return self._series.setdefault(labels, CounterSeries())

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in self._series.copy().items():
            family.add_metric(labels, series.value)
        yield family

    def describe(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, self._documentation, labels=self._labels)]


class HistogramSeries:
    """One labelled series of a histogram. State: how many values fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class HistogramTally(Collector):
    """A histogram. `bounds` are the buckets' upper bounds, ascending, without the infinite one."""

    def __init__(
        self, name: str, documentation: str, registry: CollectorRegistry, *, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], HistogramSeries] = {}
        registry.register(self)

    def series(self, *labels: str) -> HistogramSeries:
        """The series of these label values; the same object each time."""
        return self._series.setdefault(labels, HistogramSeries(self._bounds))

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, series in self._series.copy().items():
            cumulative = accumulate(series.counts.copy())
            family.add_metric(labels, list(zip(names, map(float, cumulative), strict=True)), series.total)
        yield family

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]

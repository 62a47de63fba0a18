"""The layer's numbers for prometheus_client, read at scrape time.

    REGISTRY.register(ResilienceCollector())

Every family is exposed, also those without a sample yet, so that a dashboard never asks for a name that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from .. import registry
from ..metrics import HistogramValue, Metric

__all__ = ["ResilienceCollector"]

Families = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class ResilienceCollector(Collector):
    """Gives the numbers of every pipeline and breaker. ``source``: where they come from (default: the registry)."""

    def __init__(self, source: Callable[[], Iterable[Metric]] = registry.metrics) -> None:
        self._source = source

    def collect(self) -> Iterator[Families]:
        """The families as they are now."""
        for metric in self._source():
            yield _family(metric)


def _family(metric: Metric) -> Families:
    kind, labels, text = metric.family
    if kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, text, labels=labels)
        for values, value in metric.samples.items():
            assert isinstance(value, HistogramValue)
            histogram.add_metric(values, _buckets(value), value.sum)
        return histogram
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(
        metric.name, text, labels=labels
    )
    for values, value in metric.samples.items():
        assert not isinstance(value, HistogramValue)
        family.add_metric(values, value)
    return family


def _buckets(value: HistogramValue) -> list[tuple[str, float]]:
    total = 0.0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, value.bounds), "+Inf"], value.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets

"""Histograms of the layer for exporters of OpenTelemetry's SDK.

    reader = PeriodicExportingMetricReader(WithHistograms(OTLPMetricExporter()))

The API of OpenTelemetry lets counters and gauges be observed, but not histograms: they would have to be recorded call
by call, at 11 microseconds each. So an exporter is wrapped, and what it is given to export gets our histograms too.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from opentelemetry.sdk.metrics import Histogram as InstrumentOfHistograms
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Metric as Exported
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .. import registry
from ..metrics import HistogramValue, Metric
from .opentelemetry import attributes_of, name_and_unit

__all__ = ["WithHistograms"]

_SCOPE: Final = InstrumentationScope("mcp_server_langgraph.resilience")


class WithHistograms(MetricExporter):
    """``exporter``, which exports the layer's histograms too: as sums since this object was made, or as what was added
    since the last export, whichever the exporter prefers.

    Use it with ``observe_metrics(meter, histograms=False)``. ``source``: where the numbers come from.
    """

    def __init__(
        self, exporter: MetricExporter, source: Callable[[], Iterable[Metric]] = registry.metrics
    ) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._source = source
        self._since = time.time_ns()
        temporality = (exporter._preferred_temporality or {}).get(InstrumentOfHistograms)
        self._temporality = temporality or AggregationTemporality.CUMULATIVE
        self._told: dict[tuple[str, tuple[str, ...]], HistogramValue] = {}

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Export what the reader has collected, and the histograms."""
        exporter: Any = self._exporter
        result: MetricExportResult = exporter.export(self._with_ours(metrics_data), timeout_millis, **kwargs)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Ask the exporter to."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down."""
        exporter: Any = self._exporter
        exporter.shutdown(timeout_millis, **kwargs)

    def _with_ours(self, data: MetricsData) -> MetricsData:
        ours = ScopeMetrics(_SCOPE, list(self._histograms(time.time_ns())), "")
        if not ours.metrics:
            return data
        first, *others = data.resource_metrics or [ResourceMetrics(Resource.create(), [], "")]
        widened = dataclasses.replace(first, scope_metrics=[*first.scope_metrics, ours])
        return MetricsData([widened, *others])

    def _histograms(self, now: int) -> Iterator[Exported]:
        for metric in self._source():
            if metric.family.kind == "histogram" and metric.samples:
                points = [self._point(metric, labels, now) for labels in metric.samples]
                name, unit = name_and_unit(metric.name)
                yield Exported(name, metric.family.help, unit, Histogram(points, self._temporality))
        if self._temporality is AggregationTemporality.DELTA:
            self._since = now

    def _point(self, metric: Metric, labels: tuple[str, ...], now: int) -> HistogramDataPoint:
        value = metric.samples[labels]
        assert isinstance(value, HistogramValue)
        if self._temporality is AggregationTemporality.DELTA:
            before = self._told.get((metric.name, labels))
            self._told[metric.name, labels] = value
            value = value if before is None else _added(before, value)
        return HistogramDataPoint(
            attributes=attributes_of(metric.family, labels),
            start_time_unix_nano=self._since,
            time_unix_nano=now,
            count=sum(value.counts),
            sum=value.sum,
            bucket_counts=value.counts,
            explicit_bounds=value.bounds,
            min=math.inf,  # not kept: what the SDK writes then
            max=-math.inf,
        )


def _added(before: HistogramValue, now: HistogramValue) -> HistogramValue:
    """What came to it. Where it has become less, its pipeline is a new one, and all of it is new."""
    counts = tuple(b - a for a, b in zip(before.counts, now.counts, strict=True))
    return now if min(counts) < 0 else HistogramValue(now.bounds, counts, now.sum - before.sum)

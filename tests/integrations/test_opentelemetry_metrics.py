"""The layer's numbers, as OpenTelemetry's SDK collects and exports them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Pipeline, registry
from mcp_server_langgraph.resilience.integrations import opentelemetry as subject
from mcp_server_langgraph.resilience.integrations.opentelemetry import name_and_unit, observe_metrics
from mcp_server_langgraph.resilience.integrations.opentelemetry_sdk import WithHistograms
from mcp_server_langgraph.resilience.metrics import FAMILIES

DELTA = {Histogram: AggregationTemporality.DELTA}


class Kept(MetricExporter):
    """Keeps what it is given to export."""

    def __init__(self, preferred: dict[type, AggregationTemporality] | None = None) -> None:
        super().__init__(preferred)
        self.given: list[dict[str, Metric]] = []
        self.flushed = self.closed = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 1, **kwargs: Any
    ) -> MetricExportResult:
        self.given.append(by_name(metrics_data))
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 1) -> bool:
        self.flushed = True
        return True

    def shutdown(self, timeout_millis: float = 1, **kwargs: Any) -> None:
        self.closed = True


def by_name(data: MetricsData | None) -> dict[str, Metric]:
    resources = [] if data is None else data.resource_metrics
    found = [metric for each in resources for scope in each.scope_metrics for metric in scope.metrics]
    assert len({metric.name for metric in found}) == len(found)
    return {metric.name: metric for metric in found}


def points(metric: Metric) -> dict[tuple[str, ...], Any]:
    return {tuple((point.attributes or {}).values()): point for point in metric.data.data_points}  # type: ignore[misc]


def collected(*, histograms: bool = True) -> dict[str, Metric]:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    observe_metrics(provider.get_meter("test"), histograms=histograms)
    data = reader.get_metrics_data()
    provider.shutdown()
    return by_name(data)


async def fine() -> None:
    await asyncio.sleep(0.2)


async def down() -> None:
    raise ConnectionRefusedError


async def used() -> Pipeline:
    pipeline = Pipeline("search", Bulkhead(3), CircuitBreaker("search"))
    await pipeline.call(fine)
    with pytest.raises(ConnectionRefusedError):
        await pipeline.call(down)
    return pipeline


async def test_counters_and_gauges_are_read_when_the_sdk_collects() -> None:
    pipeline = await used()
    metrics = collected()
    assert points(metrics["resilience_calls"])["search", "search", "success"].value == 1
    assert points(metrics["bulkhead_limit"])["search",].value == 3
    states = {
        point.attributes["state"]: point.value for point in metrics["circuit_breaker_state"].data.data_points
    }
    assert {state for state, value in states.items() if value} == {"closed"}
    assert {"open", "half_open"} < set(states)
    failures = metrics["circuit_breaker_failures"].data
    assert [point.attributes for point in failures.data_points] == [
        {"service": "search", "error.type": "ConnectionRefusedError"}
    ]
    assert failures.is_monotonic  # type: ignore[union-attr]
    await pipeline.call(fine)
    assert points(collected()["resilience_calls"])["search", "search", "success"].value == 2


async def test_a_histogram_is_observed_as_its_count_and_its_sum() -> None:
    pipeline = await used()
    metrics = collected()
    (count,), (total,) = (
        metrics[f"resilience_call_duration_{part}"].data.data_points for part in ("count", "sum")
    )
    assert (count.value, total.value) == (1, pytest.approx(0.2))
    assert metrics["resilience_call_duration_sum"].unit == "s"
    assert "resilience_call_duration_count" not in collected(histograms=False)
    assert pipeline.name == "search"


def test_every_metric_has_a_name_that_exporters_to_prometheus_turn_back_into_the_adrs() -> None:
    for family, (kind, _, _) in FAMILIES.items():
        name, unit = name_and_unit(family)
        told = name + ("_seconds" if unit == "s" else "") + ("_total" if kind == "counter" else "")
        assert told == family


async def test_one_collection_looks_once() -> None:
    looks = 0

    def source() -> Iterable[Any]:
        nonlocal looks
        looks += 1
        return registry.metrics()

    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    observe_metrics(provider.get_meter("test"), source=source)
    await used()
    reader.collect()
    assert looks == 1
    provider.shutdown()


async def test_a_later_collection_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *([5.0] * 200)])
    monkeypatch.setattr(subject.time, "monotonic", lambda: next(clock))
    looks: list[int] = []
    look = subject._Look(lambda: (looks.append(1), registry.metrics())[1])
    list(look.at("bulkhead_limit")(None))  # type: ignore[arg-type]
    list(look.at("bulkhead_limit")(None))  # type: ignore[arg-type]
    assert len(looks) == 2


def exporting(exporter: Kept) -> tuple[MeterProvider, Kept]:
    reader = PeriodicExportingMetricReader(WithHistograms(exporter), export_interval_millis=1e9)
    provider = MeterProvider(metric_readers=[reader])
    observe_metrics(provider.get_meter("test"), histograms=False)
    return provider, exporter


async def test_an_exporter_gets_whole_histograms_beside_what_the_sdk_collected() -> None:
    pipeline = await used()
    provider, kept = exporting(Kept())
    provider.force_flush()
    await pipeline.call(fine)
    provider.force_flush()
    first, second = (given["resilience_call_duration"] for given in kept.given)
    (before,), (after,) = (metric.data.data_points for metric in (first, second))
    assert (before.count, after.count, after.sum) == (1, 2, pytest.approx(0.4))
    assert after.bucket_counts[list(after.explicit_bounds).index(0.25)] == 2
    assert after.start_time_unix_nano == before.start_time_unix_nano < before.time_unix_nano
    assert (first.unit, dict(after.attributes)) == ("s", {"service": "search", "operation": "search"})
    assert "resilience_calls" in kept.given[0]
    assert "resilience_call_duration_count" not in kept.given[0]
    provider.shutdown()
    assert kept.closed


async def test_an_exporter_that_prefers_it_gets_what_was_added_since_the_last_time() -> None:
    pipeline = await used()
    provider, kept = exporting(Kept(DELTA))
    for _ in range(2):
        provider.force_flush()
        await pipeline.call(fine)
        await pipeline.call(fine)
    provider.force_flush()
    histograms = [given["resilience_call_duration"].data for given in kept.given]
    assert [data.data_points[0].count for data in histograms] == [1, 2, 2]
    assert [data.data_points[0].sum for data in histograms] == [pytest.approx(it) for it in (0.2, 0.4, 0.4)]
    assert {data.aggregation_temporality for data in histograms} == {AggregationTemporality.DELTA}
    ends = [data.data_points[0].time_unix_nano for data in histograms]
    assert [data.data_points[0].start_time_unix_nano for data in histograms[1:]] == ends[:-1]
    registry.reset()
    renewed = await used()
    await renewed.call(fine)
    provider.force_flush()
    assert kept.given[-1]["resilience_call_duration"].data.data_points[0].count == 2
    provider.shutdown()


async def test_histograms_are_exported_where_nothing_else_is_measured() -> None:
    await used()
    kept = Kept()
    wrapped = WithHistograms(kept)
    wrapped.export(MetricsData([]))
    assert kept.given[0]["resilience_call_duration"].data.data_points[0].count == 1
    assert wrapped.force_flush()
    assert kept.flushed

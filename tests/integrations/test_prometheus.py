"""The layer's numbers as prometheus_client writes them out at a scrape."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Pipeline, Retry
from mcp_server_langgraph.resilience.integrations.prometheus import ResilienceCollector
from mcp_server_langgraph.resilience.metrics import FAMILIES, LATENCY_BOUNDS


async def down() -> None:
    raise ConnectionError


def scraped() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    prometheus = CollectorRegistry()
    prometheus.register(ResilienceCollector())
    text = generate_latest(prometheus).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


async def test_what_calls_did_is_in_the_scrape_with_names_labels_and_values() -> None:
    pipeline = Pipeline("svc", Bulkhead(3), Retry(2, jitter="none"), CircuitBreaker("svc"), operation="find")
    for seconds in (0.7, 2.0):
        await pipeline.call(asyncio.sleep, seconds)
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    seen = scraped()

    def value(name: str, **labels: str) -> float:
        return seen[name, frozenset({"service": "svc", **labels}.items())]

    assert value("circuit_breaker_success_total") == 2
    assert value("circuit_breaker_failures_total", error_type="ConnectionError") == 2
    assert value("circuit_breaker_state", state="closed") == 1
    assert value("circuit_breaker_state", state="open") == 0
    assert value("retry_attempts_total", attempt_number="1") == 3
    assert value("retry_attempts_total", attempt_number="2") == 1
    assert value("bulkhead_limit") == 3
    assert value("resilience_calls_total", operation="find", outcome="success") == 2
    duration = "resilience_call_duration_seconds"
    assert value(f"{duration}_sum", operation="find") == pytest.approx(2.7)
    assert value(f"{duration}_count", operation="find") == 2
    at_most = [value(f"{duration}_bucket", operation="find", le=str(bound)) for bound in LATENCY_BOUNDS]
    assert at_most == [sum(seconds <= bound for seconds in (0.7, 2.0)) for bound in LATENCY_BOUNDS]
    assert value(f"{duration}_bucket", operation="find", le="+Inf") == 2


def test_every_family_is_there_before_anything_was_called() -> None:
    prometheus = CollectorRegistry()
    prometheus.register(ResilienceCollector())
    text = generate_latest(prometheus).decode()
    assert [name for name in FAMILIES if f"# TYPE {name} " not in text] == []


async def test_openmetrics_tells_the_same() -> None:
    pipeline = Pipeline("svc", Bulkhead(3), CircuitBreaker("svc"), operation="find")
    await pipeline.call(asyncio.sleep, 0.7)
    prometheus = CollectorRegistry()
    prometheus.register(ResilienceCollector())
    text = generate_openmetrics(prometheus).decode()
    assert text.endswith("# EOF\n")
    told = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in openmetrics_families(text)
        for sample in family.samples
    }
    assert told == scraped()

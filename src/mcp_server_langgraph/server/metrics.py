"""The server's own few metrics, beside the layer's, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from mcp_server_langgraph.resilience.integrations.prometheus import ResilienceCollector
from mcp_server_langgraph.server.outcomes import OUTCOMES

__all__ = ["CONTENT_TYPE_LATEST", "ServerMetrics"]

# The buckets that OpenTelemetry's conventions give for the duration of an MCP operation.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class ServerMetrics:
    """HTTP requests and MCP calls: how many, how long, with what outcome."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.since = time.time()
        self.registry.register(ResilienceCollector())
        self._requests = Counter(
            "http_requests", "HTTP requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "http_request_duration_seconds",
            "Time until an HTTP response was complete.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "mcp_server_operation_duration_seconds",
            "Time that an MCP request took.",
            ["method", "name", "outcome"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "mcp_server_calls_in_flight", "MCP requests being served.", registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def call(self, method: str, name: str, outcome: str, seconds: float) -> None:
        self._call_seconds.labels(method, name, outcome).observe(seconds)

    def expect(self, method: str, names: Iterable[str]) -> None:
        """Show these from the start, with nothing counted: the first call of each is growth, which a rate can see."""
        for name in names:
            for outcome in OUTCOMES:
                self._call_seconds.labels(method, name, outcome)

    def in_flight(self, calls: int) -> None:
        self._in_flight.set(calls)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

"""The service level as Prometheus has seen it, over a window.

Counts are PromQL's ``increase``: exact between the first and the last scrape of the window, so the moment of the last
scrape is what is asked for. Calls between a process's start and its first scrape are not seen by anybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Protocol

from ._answers import QueryResult, Series
from ._errors import PrometheusUnavailable
from .sla import Group, Measured

__all__ = ["NotScraped", "PromQL", "measured_by_prometheus"]

_PRESENCE: Final = "mcp_server_calls_in_flight"
"""A gauge that every server exposes from its start."""


class NotScraped(LookupError):
    """Prometheus has nothing of the server in the window."""


class PromQL(Protocol):
    """What is asked of a Prometheus."""

    async def query(self, promql: str, at: float | None = None) -> QueryResult: ...


async def measured_by_prometheus(
    prometheus: PromQL, window: float, selector: str = ""
) -> tuple[Measured, float]:
    """What was measured in the last ``window`` seconds (>= 1), and the moment (unix seconds) at which they ended.

    ``selector``: label matchers of the server's series, such as ``job="mcp"``; empty: all that have its metrics.
    Raises NotScraped, and what the client raises; an answer that is stale is none.
    """
    asking = _Asking(prometheus, f"{max(1, math.ceil(window))}s", selector)
    newest = await asking.series(f"max(timestamp({asking.of(_PRESENCE)}))")
    if not newest:
        raise NotScraped("Prometheus has no metrics of this server")
    asking.at = as_of = float(newest[0].points[0][1])
    measured = Measured(tools=await asking.tools(), services=await asking.services())
    measured.fallbacks = await asking.by_service("fallback_used_total")
    measured.openings = await asking.by_service("circuit_breaker_transitions_total", 'state="open"')
    refused = asking.increase("http_requests_total", 'route="/mcp",status=~"5..|0"')
    measured.http_errors = _only(await asking.series(f"sum({refused})")) or 0.0
    measured.uptime = _only(await asking.series(asking.uptime()))
    return measured, as_of


class _Asking:
    """The questions, all of one window that ends at one moment."""

    def __init__(self, prometheus: PromQL, window: str, selector: str) -> None:
        self._prometheus = prometheus
        self._window = window
        self._selector = selector
        self.at: float | None = None

    def of(self, metric: str, *matchers: str) -> str:
        """The series of a metric of the server."""
        return f"{metric}{{{','.join(filter(None, (self._selector, *matchers)))}}}"

    def increase(self, metric: str, *matchers: str) -> str:
        """By how much they grew in the window."""
        return f"increase({self.of(metric, *matchers)}[{self._window}])"

    def uptime(self) -> str:
        """The share of the scrapes that found it, of those targets that have its metrics."""
        present = f"present_over_time({self.of(_PRESENCE)}[{self._window}])"
        return f"avg(avg_over_time(up[{self._window}]) and on (job, instance) {present})"

    async def series(self, promql: str) -> tuple[Series, ...]:
        """The answer. Raises PrometheusUnavailable for one that is stale."""
        result = await self._prometheus.query(promql, self.at)
        if result.stale:
            raise PrometheusUnavailable(result.warning or "stale")
        return result.samples

    async def tools(self) -> dict[str, Group]:
        """The calls of each tool."""
        grown = self.increase("mcp_server_operation_duration_seconds_bucket", 'method="tools/call"')
        found: dict[str, Group] = {}
        for series in await self.series(f"sum by (name, outcome, le) ({grown})"):
            group = found.setdefault(series.labels["name"], Group())
            bound, outcome, calls = float(series.labels["le"]), series.labels["outcome"], _value(series)
            if math.isinf(bound):
                group.add(outcome, calls)
            if outcome != "cancelled":
                group.add_bucket(bound, calls)
        return found

    async def services(self) -> dict[tuple[str, str], Group]:
        """The calls of each service and operation."""
        found: dict[tuple[str, str], Group] = {}
        calls = self.increase("resilience_calls_total")
        for series in await self.series(f"sum by (service, operation, outcome) ({calls})"):
            group = found.setdefault(_key(series), Group())
            group.add(series.labels["outcome"], _value(series))
        took = self.increase("resilience_call_duration_seconds_bucket")
        for series in await self.series(f"sum by (service, operation, le) ({took})"):
            found.setdefault(_key(series), Group()).add_bucket(float(series.labels["le"]), _value(series))
        return found

    async def by_service(self, metric: str, *matchers: str) -> dict[str, float]:
        """The growth of a counter, by service."""
        grown = await self.series(f"sum by (service) ({self.increase(metric, *matchers)})")
        return {series.labels["service"]: _value(series) for series in grown}


def _key(series: Series) -> tuple[str, str]:
    return series.labels["service"], series.labels["operation"]


def _value(series: Series) -> float:
    return float(series.points[-1][1])


def _only(found: Iterable[Series]) -> float | None:
    return next(map(_value, found), None)

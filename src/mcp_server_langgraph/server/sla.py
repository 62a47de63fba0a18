"""The service level of this server: from Prometheus over a window, else from the counters of this process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

import httpx2
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from prometheus_client import Metric
from pydantic import Field

from mcp_server_langgraph.monitoring.sla import Group, Measured, SlaReport, report
from mcp_server_langgraph.monitoring.sla_prometheus import NotScraped, PromQL, measured_by_prometheus
from mcp_server_langgraph.resilience.errors import ResilienceError
from mcp_server_langgraph.server.metrics import ServerMetrics

__all__ = ["NO_ANSWER", "PATIENT", "ServiceLevels", "add_sla_tool", "measured_by_process"]

logger = logging.getLogger(__name__)

NO_ANSWER: Final = (ResilienceError, httpx2.HTTPError, OSError, ValueError)
"""What asking Prometheus raises where it does not answer, or not this."""

PATIENT: Final = ("agent_chat",)
"""Tools whose time is a model's, which the promise of a time leaves out."""

LONGEST_HOURS: Final = 31 * 24.0

_READ_ONLY = ToolAnnotations(
    read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False
)


class ServiceLevels:
    """Makes reports. ``prometheus`` None: there is none. ``selector``: label matchers of this server's series."""

    def __init__(
        self,
        metrics: ServerMetrics,
        prometheus: PromQL | None,
        selector: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._prometheus = prometheus
        self._selector = selector
        self._clock = clock

    async def report(self, window: float) -> SlaReport:
        """The level in the last ``window`` seconds; where Prometheus cannot tell, since this process started."""
        if self._prometheus is None:
            return self._of_process("Prometheus is not configured (PROMETHEUS_URL)")
        try:
            measured, as_of = await measured_by_prometheus(self._prometheus, window, self._selector)
        except NotScraped as error:
            return self._of_process(str(error))
        except NO_ANSWER as error:
            logger.warning(
                "no service level from Prometheus", extra={"fields": {"error_type": type(error).__name__}}
            )
            return self._of_process("Prometheus gives no answer now")
        return report(measured, source="prometheus", window=window, as_of=as_of, patient=PATIENT)

    def _of_process(self, why: str) -> SlaReport:
        now = self._clock()
        note = f"{why}: counted by the process that answered, since it started"
        return report(
            measured_by_process(self._metrics),
            source="process",
            window=now - self._metrics.since,
            as_of=now,
            note=note,
            patient=PATIENT,
        )


def add_sla_tool(server: MCPServer[Any], levels: ServiceLevels) -> None:
    """Register the tool."""

    @server.tool(title="Service level", annotations=_READ_ONLY)
    async def sla_report(
        hours: Annotated[
            float, Field(gt=0, le=LONGEST_HOURS, description="How far back, where Prometheus is configured.")
        ] = 24.0,
    ) -> SlaReport:
        """This server's availability, error rate and p95 by tool, those of its services, and the targets missed."""
        return await levels.report(hours * 3600)


def measured_by_process(metrics: ServerMetrics) -> Measured:
    """What this process has counted since it started."""
    measured = Measured()
    for family in metrics.registry.collect():
        if (read := _READERS.get(family.name)) is not None:
            read(measured, family)
    return measured


def _tools(measured: Measured, family: Metric) -> None:
    for labels, value in _samples(family, "_bucket"):
        if labels["method"] == "tools/call":
            group = measured.tools.setdefault(labels["name"], Group())
            bound = float(labels["le"])
            if math.isinf(bound):
                group.add(labels["outcome"], value)
            if labels["outcome"] != "cancelled":
                group.add_bucket(bound, value)


def _calls(measured: Measured, family: Metric) -> None:
    for labels, value in _samples(family, "_total"):
        _group(measured, labels).add(labels["outcome"], value)


def _durations(measured: Measured, family: Metric) -> None:
    for labels, value in _samples(family, "_bucket"):
        _group(measured, labels).add_bucket(float(labels["le"]), value)


def _fallbacks(measured: Measured, family: Metric) -> None:
    for labels, value in _samples(family, "_total"):
        measured.fallbacks[labels["service"]] = measured.fallbacks.get(labels["service"], 0.0) + value


def _openings(measured: Measured, family: Metric) -> None:
    for labels, value in _samples(family, "_total"):
        if labels["state"] == "open":
            measured.openings[labels["service"]] = value


def _requests(measured: Measured, family: Metric) -> None:
    for labels, value in _samples(family, "_total"):
        if labels["route"] == "/mcp" and (labels["status"].startswith("5") or labels["status"] == "0"):
            measured.http_errors += value


def _group(measured: Measured, labels: dict[str, str]) -> Group:
    return measured.services.setdefault((labels["service"], labels["operation"]), Group())


def _samples(family: Metric, suffix: str) -> Iterable[tuple[dict[str, str], float]]:
    return ((sample.labels, sample.value) for sample in family.samples if sample.name == family.name + suffix)


_READERS: Final = {
    "circuit_breaker_transitions": _openings,
    "fallback_used": _fallbacks,
    "http_requests": _requests,
    "mcp_server_operation_duration_seconds": _tools,
    "resilience_call_duration_seconds": _durations,
    "resilience_calls": _calls,
}

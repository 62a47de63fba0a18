"""The command ``sla``: the service level of running servers, as Prometheus has seen it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
from collections.abc import Iterator

from mcp_server_langgraph.monitoring.prometheus_client import PrometheusClient
from mcp_server_langgraph.monitoring.sla import Level, SlaReport, report
from mcp_server_langgraph.monitoring.sla_prometheus import NotScraped, measured_by_prometheus
from mcp_server_langgraph.resilience import Pipeline
from mcp_server_langgraph.server.sla import NO_ANSWER, PATIENT

__all__ = ["LevelUnknown", "level_of", "rendered"]


class LevelUnknown(Exception):
    """Prometheus cannot tell. The text says why."""


def level_of(url: str, window: float, selector: str) -> SlaReport:
    """The level in the last ``window`` seconds. Raises LevelUnknown."""
    try:
        return asyncio.run(_asked(url, window, selector))
    except NotScraped as error:
        raise LevelUnknown(str(error)) from None
    except NO_ANSWER as error:
        raise LevelUnknown(f"no answer from PROMETHEUS_URL: {error}") from None


async def _asked(url: str, window: float, selector: str) -> SlaReport:
    client = PrometheusClient(url, Pipeline.standard("prometheus"))
    try:
        measured, as_of = await measured_by_prometheus(client, window, selector)
    finally:
        await client.aclose()
    return report(measured, source="prometheus", window=window, as_of=as_of, patient=PATIENT)


def rendered(level: SlaReport, form: str) -> str:
    """The report as text for people, or as json."""
    if form == "json":
        return json.dumps(dataclasses.asdict(level), indent=2)
    return "\n".join(_lines(level))


def _lines(level: SlaReport) -> Iterator[str]:
    until = datetime.datetime.fromtimestamp(level.as_of, datetime.UTC).isoformat(timespec="seconds")
    yield f"{level.window_seconds / 3600:g} hours until {until}, by {level.source}"
    yield f"availability {_share(level.availability)} (promised {level.targets.availability:.2%})"
    yield f"uptime       {_share(level.uptime)}"
    yield ""
    yield f"{'tool':32} {'calls':>9} {'errors':>7} {'error rate':>11} {'p95':>9}"
    for tool in (*level.tools, level.overall):
        yield _line(tool.name, tool)
    yield ""
    yield f"{'service':32} {'calls':>9} {'failed':>7} {'failures':>11} {'p95':>9}"
    for each in level.services:
        rate, p95 = _share(each.failure_rate), _seconds(each.p95_seconds)
        name = each.service if each.service == each.operation else f"{each.service} {each.operation}"
        yield f"{name:32} {each.calls:9} {each.failures:7} {rate:>11} {p95:>9}"
    for what, counts in (("answers of a fallback", level.fallbacks), ("circuits opened", level.openings)):
        yield from (f"{what}: {name} {count}" for name, count in counts.items())
    yield ""
    yield from (f"MISSED: {sentence}" for sentence in level.missed)
    if not level.missed:
        yield "every target is met"


def _line(name: str, level: Level) -> str:
    rate, p95 = _share(level.error_rate), _seconds(level.p95_seconds)
    return f"{name:32} {level.calls:9} {level.errors:7} {rate:>11} {p95:>9}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"

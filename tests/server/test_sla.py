"""The service level of a real server, as a real Prometheus that scrapes it tells, and as the server counts itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any, NamedTuple

import httpx2
import pytest
from mcp import Client

from mcp_server_langgraph.monitoring.prometheus_client import PrometheusClient
from mcp_server_langgraph.resilience import Pipeline, Retry
from mcp_server_langgraph.resilience.config import Settings, install
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.sla import ServiceLevels
from tests.server.running import RunningServer, clean_environment, running_server
from tests.server.test_services import MODEL
from tests.support.openfga_server import OpenFGAServer
from tests.support.ports import HOST, free_port
from tests.support.prometheus_server import PrometheusServer

SERVED, FAILED, REFUSED = 12, 3, 2


class Watched(NamedTuple):
    """A server, the Prometheus that scrapes it, and the OpenFGA that it asks."""

    server: RunningServer
    prometheus: PrometheusServer
    openfga: OpenFGAServer


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """OpenFGA is down to begin with, and what it cannot allow is denied."""
    folder = tmp_path_factory.mktemp("watched")
    openfga = OpenFGAServer(MODEL)
    openfga.grant("user:local-dev", "can_chat", "service:agent")
    prometheus = PrometheusServer(folder / "prometheus")
    variables = {
        "PROMETHEUS_URL": prometheus.url,
        "OPENFGA_API_URL": openfga.url,
        "OPENFGA_STORE_ID": openfga.store_id,
        "OPENFGA_FAIL_MODE": "closed",
        "OPENFGA_RETRY_STOP_AFTER_ATTEMPT": "1",
        "OPENFGA_CIRCUIT_BREAKER_FAIL_MAX": "1000",
        "SLA_SELECTOR": 'job="mcp"',
    }
    with running_server(folder, **variables) as server:
        prometheus.targets["mcp"] = server.base.removeprefix("http://")
        with prometheus:
            asyncio.run(_scraped(server))
            asyncio.run(_drive(server, openfga))
            yield Watched(server, prometheus, openfga)
    openfga.stop()


async def _report(server: RunningServer, hours: float = 1.0) -> dict[str, Any]:
    async with Client(server.url) as client:
        result = await client.call_tool("sla_report", {"hours": hours})
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def _scraped(
    server: RunningServer, shows: Callable[[dict[str, Any]], bool] = lambda _: True
) -> dict[str, Any]:
    """The first report by Prometheus that shows what is waited for."""
    async with asyncio.timeout(200):
        while (report := await _report(server))["source"] != "prometheus" or not shows(report):
            await asyncio.sleep(0.3)
        return report


def _everything(report: dict[str, Any]) -> bool:
    """A busy Prometheus may be some scrapes late."""
    return bool(line(report, "conversation_get")["calls"])  # the last of what was done


async def _drive(server: RunningServer, openfga: OpenFGAServer) -> None:
    async with Client(server.url) as client:
        for _ in range(FAILED):
            assert (await client.call_tool("conversation_search", {"query": "x"})).is_error
        openfga.start()
        for _ in range(SERVED):
            assert not (await client.call_tool("conversation_search", {"query": "x"})).is_error
        for arguments in ({"query": ""}, {"query": "x", "limit": 1000}):
            assert (await client.call_tool("conversation_search", arguments)).is_error
        assert (await client.call_tool("conversation_get", {"conversation_id": "nobody-s"})).is_error


def line(report: dict[str, Any], tool: str) -> dict[str, Any]:
    (found,) = [each for each in report["tools"] if each["name"] == tool]
    return dict(found)


def what_was_done(report: dict[str, Any]) -> None:
    search = line(report, "conversation_search")
    assert (search["calls"], search["errors"]) == (SERVED + FAILED + REFUSED, FAILED)
    assert search["error_rate"] == pytest.approx(FAILED / (SERVED + FAILED + REFUSED))
    assert search["p95_seconds"] > 0
    assert (line(report, "conversation_get")["calls"], line(report, "conversation_get")["errors"]) == (1, 0)
    assert line(report, "agent_chat") == {
        "name": "agent_chat",
        "calls": 0,
        "errors": 0,
        "error_rate": None,
        "p95_seconds": None,
    }
    assert report["overall"]["errors"] == FAILED
    assert report["availability"] == pytest.approx(1 - report["overall"]["error_rate"])
    assert [sentence.partition(" is ")[0] for sentence in report["missed"]][:2] == [
        "availability",
        "the error rate",
    ]


def _up(prometheus: PrometheusServer, report: dict[str, Any]) -> float:
    """The share of scrapes that succeeded: a busy server may be too late for one."""
    asked = {"query": 'avg_over_time(up{job="mcp"}[1h])', "time": str(report["as_of"])}
    answer = httpx2.get(f"{prometheus.url}/api/v1/query", params=asked, timeout=60)
    [found] = answer.json()["data"]["result"]
    return float(found["value"][1])


@pytest.mark.real_time(limit=240)
async def test_prometheus_tells_exactly_what_was_done(watched: Watched) -> None:
    report = await _scraped(watched.server, _everything)
    what_was_done(report)
    assert report["window_seconds"] == 3600
    assert report["uptime"] == pytest.approx(_up(watched.prometheus, report))
    assert report["note"] is None
    [checks] = [each for each in report["services"] if each["service"] == each["operation"] == "openfga"]
    assert (checks["calls"], checks["failures"]) == (SERVED + FAILED + 1, FAILED)


@pytest.mark.real_time(limit=240)
async def test_without_prometheus_the_process_s_own_counters_tell_the_same_and_say_so(
    watched: Watched,
) -> None:
    watched.prometheus.pause()
    try:
        report = await _report(watched.server)
    finally:
        watched.prometheus.resume()
    what_was_done(report)
    assert (report["source"], report["uptime"]) == ("process", None)
    assert report["note"].startswith("Prometheus gives no answer now: counted by the process")
    assert report["window_seconds"] < 3600


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mcp_server_langgraph.cli", "sla", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=clean_environment({"PROMETHEUS_TIMEOUT": "120", "PROMETHEUS_ATTEMPT_TIMEOUT": "60"}),
        check=False,
    )


def test_the_command_reports_and_says_by_its_exit_code_that_a_target_was_missed(watched: Watched) -> None:
    given = ("--prometheus-url", watched.prometheus.url, "--hours", "1", "--selector", 'job="mcp"')
    text = command(*given)
    assert text.returncode == 1, text.stderr
    assert "MISSED: availability is " in text.stdout
    assert "conversation_search" in text.stdout
    told = json.loads(command(*given, "--format", "json").stdout)
    assert line(told, "conversation_search")["errors"] == FAILED


def test_the_command_says_that_it_cannot_tell(watched: Watched) -> None:
    foreign = command("--prometheus-url", watched.prometheus.url, "--selector", 'job="another"')
    assert (foreign.returncode, foreign.stdout) == (3, "")
    assert "no metrics of this server" in foreign.stderr
    nobody = command("--prometheus-url", f"http://{HOST}:{free_port()}")
    assert nobody.returncode == 3
    assert "no answer from PROMETHEUS_URL" in nobody.stderr
    assert "Traceback" not in nobody.stderr
    assert command().returncode == 2


@pytest.mark.real_time
async def test_nobody_at_prometheus_s_address_is_no_error_of_the_report() -> None:
    install(Settings({"RETRY_STOP_AFTER_ATTEMPT": "1"}))
    client = PrometheusClient(f"http://{HOST}:{free_port()}", Pipeline.standard("prometheus"))
    async with aclosing(client):
        report = await ServiceLevels(ServerMetrics(), client).report(3600)
    assert (report.source, report.availability) == ("process", None)
    assert report.note is not None
    assert report.note.startswith("Prometheus gives no answer now")


async def test_where_prometheus_is_not_configured_the_process_tells() -> None:
    metrics = ServerMetrics()
    metrics.expect("tools/call", ["a", "b"])
    for outcome in ("ok", "error", "refused", "cancelled", "cancelled"):
        metrics.call("tools/call", "a", outcome, 0.01)
    metrics.call("prompts/get", "p", "error", 9)
    metrics.request("POST", "/mcp", 503, 0.01)
    metrics.request("GET", "/health/ready", 503, 0.01)
    pipeline = Pipeline("redis", Retry(), operation="get")
    await pipeline.call(asyncio.sleep, 0)
    report = await ServiceLevels(metrics, None, clock=lambda: metrics.since + 60).report(3600)
    assert (report.source, report.window_seconds, report.uptime) == ("process", 60, None)
    assert (report.overall.calls, report.overall.errors) == (4, 2)
    assert [(each.name, each.calls, each.errors) for each in report.tools] == [("a", 3, 1), ("b", 0, 0)]
    assert [(each.service, each.operation, each.calls) for each in report.services] == [("redis", "get", 1)]

"""The client and a real Prometheus that is killed, hung and restarted."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from mcp_server_langgraph.monitoring.prometheus_client import (
    BadQuery,
    PrometheusClient,
    PrometheusUnavailable,
    QueryResult,
    QueryTooSlow,
)
from mcp_server_langgraph.resilience import CircuitOpen, Pipeline, TimedOut, collect_degradations, registry
from mcp_server_langgraph.resilience.config import Settings, install
from tests.support.prometheus_server import PrometheusServer

pytestmark = pytest.mark.real_time(limit=120)

RULES = """
groups:
  - name: g
    rules:
      - record: one
        expr: vector(1)
      - alert: Always
        expr: vector(1) > 0
        labels: {severity: page}
        annotations: {summary: it is}
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    with server:
        yield server


@pytest.fixture(autouse=True)
def quick_policies(fresh_registry: None) -> None:
    waits = {"RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01", "CIRCUIT_BREAKER_TIMEOUT_DURATION": "0.2"}
    install(Settings({f"PROMETHEUS_{name}": value for name, value in waits.items()}))


@asynccontextmanager
async def asking(server: PrometheusServer, attempt_timeout: float = 5.0) -> AsyncIterator[PrometheusClient]:
    client = PrometheusClient(server.url, Pipeline.standard("prometheus"), attempt_timeout=attempt_timeout)
    async with aclosing(client):
        yield client


async def until_data(client: PrometheusClient, promql: str) -> QueryResult:
    """The first fresh answer that has data; Prometheus scrapes every second, and is late where the machine is busy."""
    async with asyncio.timeout(60):
        while True:
            with suppress(PrometheusUnavailable, CircuitOpen, TimedOut, httpx2.TransportError):
                result = await client.query(promql)
                if result.samples and not result.stale:
                    return result
            await asyncio.sleep(0.1)


async def test_what_it_scraped_of_itself_is_answered(prometheus: PrometheusServer) -> None:
    async with asking(prometheus) as client:
        result = await until_data(client, "up")
    (series,) = result.samples
    assert series.labels["job"] == "self"
    assert series.points[0][1] == 1.0
    assert abs(result.as_of - time.time()) < 60
    assert (result.age_seconds, result.stale, result.warning) == (0.0, False, None)


async def test_a_range_is_answered_with_its_points(prometheus: PrometheusServer) -> None:
    async with asking(prometheus) as client:
        await until_data(client, "up")
        now = time.time()
        result = await client.query_range("vector(1)", now - 60, now, 15)
    assert result.result_type == "matrix"
    assert [value for _, value in result.samples[0].points] == [1.0] * 5


@pytest.mark.parametrize(
    "promql", ["up{", 'label_replace(up, "job", "x", "instance", ".*") + on(nothing) (up or vector(1))']
)
async def test_promql_that_cannot_be_answered_is_a_clear_error_of_the_caller(
    prometheus: PrometheusServer, promql: str
) -> None:
    async with asking(prometheus) as client:
        await until_data(client, "up")
        with pytest.raises(BadQuery, match="Prometheus cannot answer this query"):
            await client.query(promql)
    assert registry.breakers()["prometheus"].snapshot().failures == {}


async def test_a_query_that_takes_too_long_is_given_up_by_the_server_itself(
    prometheus: PrometheusServer,
) -> None:
    heavy = "quantile_over_time(0.5, (sort(vector(time())))[300d:1s])"
    async with asking(prometheus, attempt_timeout=5) as client:
        with pytest.raises(QueryTooSlow):
            await client.query(heavy)


async def test_a_long_query_is_taken_as_a_form(prometheus: PrometheusServer) -> None:
    async with asking(prometheus) as client:
        result = await client.query(" or ".join(["vector(1)"] * 600))
    assert result.samples[0].points[0][1] == 1.0


async def test_killed_in_mid_use_it_is_answered_for_by_its_last_result_until_it_is_back(
    prometheus: PrometheusServer,
) -> None:
    async with asking(prometheus) as client:
        fresh = await until_data(client, "up")
        prometheus.kill()
        with collect_degradations() as notes:
            stale = await client.query("up")
        assert (stale.samples, stale.as_of, stale.stale) == (fresh.samples, fresh.as_of, True)
        assert stale.age_seconds > 0
        assert stale.warning is not None
        assert [note.service for note in notes] == ["prometheus"]
        prometheus.start()
        again = await until_data(client, "up")
    assert again.as_of > fresh.as_of
    assert again.warning is None


async def test_hung_it_costs_the_time_of_the_attempts_and_no_more(prometheus: PrometheusServer) -> None:
    async with asking(prometheus, attempt_timeout=0.2) as client:
        await until_data(client, "up")
        prometheus.pause()
        try:
            began = asyncio.get_running_loop().time()
            stale = await client.query("up")
            took = asyncio.get_running_loop().time() - began
        finally:
            prometheus.resume()
        assert stale.stale
        assert took < 5
        assert (await until_data(client, "up")).stale is False


async def test_labels_series_and_targets_are_those_of_what_is_scraped(prometheus: PrometheusServer) -> None:
    async with asking(prometheus) as client:
        await until_data(client, "up")
        assert "instance" in (await client.label_names("up")).items
        assert (await client.label_values("job")).items == ("self",)
        [series] = (await client.series("up")).items
        assert series["__name__"] == "up"
        async with asyncio.timeout(30):  # a Prometheus that just started knows none yet
            while not (targets := (await client.targets()).items) or targets[0].last_scrape is None:
                await asyncio.sleep(0.1)
        [target] = targets
        assert (target.job, target.health, target.error) == ("self", "up", "")
        assert abs((target.last_scrape or 0) - time.time()) < 60
        with pytest.raises(BadQuery):
            await client.series("up{")


async def test_rules_and_the_alerts_that_fire_are_told(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    with PrometheusServer(tmp_path / "data", rules=[rules]) as server:
        async with asking(server) as client, asyncio.timeout(30):
            while not (alerts := await client.alerts()).items:
                await asyncio.sleep(0.2)
            found = await client.rules()
            [recording] = (await client.rules("record")).items
    [alert] = alerts.items
    assert (alert.name, alert.state, alert.labels["severity"]) == ("Always", "firing", "page")
    assert alert.annotations == {"summary": "it is"}
    assert abs((alert.active_at or 0) - time.time()) < 60
    assert [(rule.kind, rule.name, rule.state) for rule in found.items] == [
        ("recording", "one", None),
        ("alerting", "Always", "firing"),
    ]
    assert recording.query == "vector(1)"

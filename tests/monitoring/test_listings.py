"""Labels, series, alerts, rules and targets, against a wire-faithful stand-in that misbehaves on demand."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.monitoring.prometheus_client import (
    Alert,
    BadQuery,
    Listing,
    PrometheusClient,
    PrometheusUnavailable,
    Rule,
    Target,
)
from mcp_server_langgraph.resilience import CircuitOpen, Pipeline, registry
from tests.monitoring.fake_prometheus import NOW, FakePrometheus
from tests.support.http_server import HttpServer

pytestmark = [pytest.mark.real_time, pytest.mark.usefixtures("quick_retries")]

ALERT = {
    "labels": {"alertname": "Burning", "severity": "page"},
    "annotations": {"summary": "too hot"},
    "state": "firing",
    "activeAt": "2026-01-02T03:04:05.123456789Z",
    "value": "2e+00",
}
RECORDING = {
    "name": "r",
    "query": "sum(x)",
    "type": "recording",
    "health": "err",
    "lastError": "many-to-many",
}
ALERTING = {"name": "Burning", "query": "x > 1", "type": "alerting", "health": "ok", "state": "firing"}
TARGET = {
    "labels": {"job": "api", "instance": "h:1"},
    "scrapeUrl": "http://me:s3cret@h:1/metrics?token=s3cret",
    "health": "down",
    "lastError": 'Get "http://me:s3cret@h:1/metrics?token=s3cret": refused',
    "lastScrape": "0001-01-01T00:00:00Z",
}

Ask = Callable[[PrometheusClient], Awaitable[Listing[Any]]]
QUESTIONS: list[tuple[Ask, str, Any]] = [
    (lambda client: client.label_names("up"), "labels", ["__name__", "job"]),
    (lambda client: client.label_values("job"), "label/job/values", ["a", "b"]),
    (lambda client: client.series("up"), "series", [{"__name__": "up", "job": "a"}]),
    (lambda client: client.alerts(), "alerts", {"alerts": [ALERT]}),
    (lambda client: client.rules(), "rules", {"groups": [{"name": "g", "rules": [RECORDING, ALERTING]}]}),
    (lambda client: client.targets(), "targets", {"activeTargets": [TARGET]}),
]


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with FakePrometheus() as fake:
        fake.data = []
        yield fake


def client_of(server: HttpServer) -> aclosing[PrometheusClient]:
    return aclosing(PrometheusClient(server.url, Pipeline.standard("prometheus"), clock=lambda: NOW))


@pytest.mark.parametrize(("ask", "endpoint", "data"), QUESTIONS)
async def test_each_question_goes_to_its_endpoint_and_is_fresh(
    server: FakePrometheus, ask: Ask, endpoint: str, data: Any
) -> None:
    server.data = data
    async with client_of(server) as client:
        listing = await ask(client)
    assert server.last is not None
    assert (server.last.method, server.last.path) == ("GET", f"/api/v1/{endpoint}")
    assert listing.items
    assert (listing.as_of, listing.age_seconds, listing.stale, listing.warning) == (NOW, 0.0, False, None)


async def test_names_and_series_are_those_of_the_last_hour_that_match(server: FakePrometheus) -> None:
    async with client_of(server) as client:
        await client.label_values("job", "up")
    assert server.last is not None
    assert server.last.query == {"start": f"{NOW - 3600:.0f}", "match[]": "up"}


async def test_alerts_rules_and_targets_are_typed(server: FakePrometheus) -> None:
    async with client_of(server) as client:
        server.data = {"alerts": [ALERT]}
        assert (await client.alerts()).items == (
            Alert(
                "Burning",
                "firing",
                {"alertname": "Burning", "severity": "page"},
                {"summary": "too hot"},
                1767323045.123456,
                2.0,
            ),
        )
        server.data = {"groups": [{"name": "g", "rules": [RECORDING, ALERTING]}]}
        assert (await client.rules()).items == (
            Rule("r", "g", "recording", "sum(x)", None, "err", "many-to-many"),
            Rule("Burning", "g", "alerting", "x > 1", "firing", "ok", ""),
        )
        server.data = {"activeTargets": [TARGET]}
        assert (await client.targets()).items == (
            Target("api", "h:1", "http://h:1/metrics", "down", 'Get "http://h:1/metrics": refused', None),
        )


async def test_only_the_rules_of_one_kind_are_asked_for(server: FakePrometheus) -> None:
    server.data = {"groups": []}
    async with client_of(server) as client:
        await client.rules("alert")
    assert server.last is not None
    assert server.last.query == {"type": "alert"}


@pytest.mark.parametrize(("ask", "endpoint", "data"), QUESTIONS)
async def test_in_an_outage_the_last_answer_stands_in_with_its_age(
    server: FakePrometheus, ask: Ask, endpoint: str, data: Any
) -> None:
    server.data = data
    async with client_of(server) as client:
        fresh = await ask(client)
        server.fail(500)
        old = await ask(client)
    assert (old.items, old.as_of, old.stale) == (fresh.items, NOW, True)
    assert old.age_seconds > 0
    assert str(old.warning).startswith("stale: Prometheus gives no answer now")
    assert server.count() == 1 + 3


async def test_the_last_answer_to_another_question_never_stands_in(server: FakePrometheus) -> None:
    server.data = ["a"]
    async with client_of(server) as client:
        await client.label_values("job", "up")
        server.fail(500)
        for ask in (client.label_values("job"), client.label_values("instance", "up"), client.label_names()):
            with pytest.raises((PrometheusUnavailable, CircuitOpen)):
                await ask


async def test_a_selector_at_fault_is_asked_once_and_says_nothing_of_prometheus(
    server: FakePrometheus,
) -> None:
    server.fail(400, {"status": "error", "errorType": "bad_data", "error": "parse error"})
    async with client_of(server) as client:
        for _ in range(7):
            with pytest.raises(BadQuery, match="parse error"):
                await client.series("up{")
    assert server.count() == 7
    assert registry.breakers()["prometheus"].state == "closed"


@pytest.mark.parametrize("name", ["", "a b", "../../-/quit", "job/values?x=", "1a", "job\n"])
async def test_what_is_no_name_of_a_label_is_refused_before_it_is_asked(
    server: FakePrometheus, name: str
) -> None:
    async with client_of(server) as client:
        with pytest.raises(BadQuery, match="no name of a label"):
            await client.label_values(name)
        with pytest.raises(BadQuery, match="selector"):
            await client.series()
    assert server.count() == 0


@pytest.mark.parametrize(("ask", "endpoint", "data"), QUESTIONS)
@pytest.mark.parametrize(
    "wrong", [None, {}, "x", [7], {"alerts": 7}, {"groups": [7]}, {"activeTargets": [{}]}]
)
async def test_an_answer_of_the_wrong_shape_is_a_clear_failure(
    server: FakePrometheus, ask: Ask, endpoint: str, data: Any, wrong: Any
) -> None:
    if wrong == [7] and not isinstance(data, dict) and endpoint != "series":
        wrong = {"a": "b"}
    server.data = wrong
    async with client_of(server) as client:
        with pytest.raises(PrometheusUnavailable, match="not one of Prometheus' query API"):
            await ask(client)


async def test_warnings_are_passed_on(server: FakePrometheus) -> None:
    server.extra = {"warnings": ["partial response"]}
    async with client_of(server) as client:
        assert (await client.label_names()).warning == "partial response"

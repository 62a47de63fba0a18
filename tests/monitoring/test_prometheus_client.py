"""What the client asks, and how it reads the answers."""

import math
from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.monitoring.prometheus_client import (
    BadQuery,
    PrometheusClient,
    PrometheusRefused,
    PrometheusUnavailable,
    QueryTooSlow,
)
from mcp_server_langgraph.resilience import (
    Pipeline,
    registry,
)
from tests.monitoring.fake_prometheus import NOW, FakePrometheus, client_of, error

pytestmark = [pytest.mark.real_time, pytest.mark.usefixtures("quick_retries")]


async def test_an_instant_query_gives_its_series_and_is_fresh(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        result = await client.query("up")
    (series,) = result.samples
    assert (result.result_type, series.labels, series.points) == ("vector", {"job": "a"}, ((NOW, 42.0),))
    assert (result.as_of, result.age_seconds, result.stale, result.warning) == (NOW, 0.0, False, None)
    assert server.last is not None
    assert (server.last.method, server.last.path, server.last.query["query"]) == (
        "GET",
        "/api/v1/query",
        "up",
    )


async def test_a_moment_is_passed_on(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("up", at=NOW - 60)
    assert server.last is not None
    assert server.last.query["time"] == f"{NOW - 60:.3f}"


async def test_a_range_query_gives_points_in_order(server: FakePrometheus) -> None:
    values = [[NOW - 30, "1"], [NOW - 15, "NaN"], [NOW, "+Inf"]]
    server.data = {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
    async with aclosing(client_of(server)) as client:
        result = await client.query_range("up", NOW - 30, NOW, 15)
    (series,) = result.samples
    assert [moment for moment, _ in series.points] == [NOW - 30, NOW - 15, NOW]
    assert series.points[0][1] == 1.0
    assert math.isnan(float(series.points[1][1]))
    assert series.points[2][1] == math.inf
    assert result.as_of == NOW
    assert server.last is not None
    assert {"start", "end", "step"} <= server.last.query.keys()


@pytest.mark.parametrize(("kind", "value"), [("scalar", 2.0), ("string", "2")])
async def test_scalars_and_strings_are_read(server: FakePrometheus, kind: str, value: Any) -> None:
    server.data = {"resultType": kind, "result": [NOW, "2"]}
    async with aclosing(client_of(server)) as client:
        result = await client.query("2")
    assert (result.result_type, result.samples[0].points) == (kind, ((NOW, value),))


async def test_an_answer_speaks_for_the_time_of_its_newest_point(server: FakePrometheus) -> None:
    series = [
        {"metric": {"job": name}, "values": [[NOW - 90, "1"], [NOW - age, "2"]]}
        for name, age in (("a", 60), ("b", 30))
    ]
    server.data = {"resultType": "matrix", "result": series}
    async with aclosing(client_of(server)) as client:
        result = await client.query_range("up", NOW - 90, NOW, 15)
    assert (result.as_of, result.age_seconds, result.stale) == (NOW - 30, 0.0, False)


async def test_an_answer_without_data_is_as_of_now(server: FakePrometheus) -> None:
    server.data = {"resultType": "vector", "result": []}
    async with aclosing(client_of(server)) as client:
        result = await client.query("absent")
    assert (result.samples, result.as_of) == ((), NOW)


async def test_the_warnings_of_prometheus_are_passed_on(server: FakePrometheus) -> None:
    server.extra = {"warnings": ["remote storage is slow", "partial response"]}
    async with aclosing(client_of(server)) as client:
        assert (await client.query("up")).warning == "remote storage is slow; partial response"


async def test_histograms_that_are_left_out_are_said_to_be(server: FakePrometheus) -> None:
    sample = {"metric": {}, "histogram": [NOW, {"count": "1", "sum": "1"}]}
    server.data = {"resultType": "vector", "result": [sample]}
    async with aclosing(client_of(server)) as client:
        result = await client.query("up")
    assert (result.samples, result.warning) == ((), "native histograms are left out")


async def test_a_long_query_goes_as_a_form(server: FakePrometheus) -> None:
    promql = " or ".join(["up"] * 600)
    async with aclosing(client_of(server)) as client:
        await client.query(promql)
    assert server.last is not None
    assert (server.last.method, server.last.form()["query"]) == ("POST", promql)


@pytest.mark.parametrize(("status", "kind"), [(400, "bad_data"), (422, "execution")])
async def test_a_query_at_fault_is_asked_once_and_says_nothing_of_prometheus(
    server: FakePrometheus, status: int, kind: str
) -> None:
    server.fail(status, error(kind, "parse error: unexpected end of input"))
    async with aclosing(client_of(server)) as client:
        for _ in range(7):
            with pytest.raises(BadQuery, match="unexpected end of input"):
                await client.query("up{")
    assert server.count() == 7
    assert registry.breakers()["prometheus"].state == "closed"


async def test_a_query_at_fault_is_not_answered_with_an_earlier_result(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("a * b")
        server.fail(422, error("execution", "many-to-many matching not allowed"))
        with pytest.raises(BadQuery):
            await client.query("a * b")


async def test_a_query_that_is_too_slow_is_not_retried_and_is_not_held_against_prometheus(
    server: FakePrometheus,
) -> None:
    server.fail(503, error("timeout", "query timed out in expression evaluation"))
    async with aclosing(client_of(server)) as client:
        for _ in range(7):
            with pytest.raises(QueryTooSlow, match="timed out"):
                await client.query("slow")
    assert server.count() == 7
    assert registry.breakers()["prometheus"].state == "closed"


async def test_prometheus_is_told_to_give_a_query_up_before_we_do(server: FakePrometheus) -> None:
    async with aclosing(client_of(server, attempt_timeout=2.0)) as client:
        await client.query("up")
    assert server.last is not None
    assert server.last.query["timeout"] == "1600ms"


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"resultType": "vector"},
        {"resultType": "newfangled", "result": []},
        {"resultType": "vector", "result": [{"metric": {}, "value": [NOW]}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [NOW, "many"]}]},
        {"resultType": "vector", "result": [{"value": [NOW, "1"]}]},
        {"resultType": "vector", "result": "x"},
        {"resultType": "matrix", "result": [7]},
    ],
)
async def test_an_answer_of_the_wrong_shape_is_a_clear_failure(server: FakePrometheus, data: Any) -> None:
    server.data = data
    async with aclosing(client_of(server)) as client:
        with pytest.raises(PrometheusUnavailable, match="not one of Prometheus' query API"):
            await client.query("up")
    assert server.count() == 3


async def test_an_error_under_a_good_status_is_no_answer(server: FakePrometheus) -> None:
    server.extra = error("internal", "odd")
    async with aclosing(client_of(server)) as client:
        with pytest.raises(PrometheusUnavailable):
            await client.query("up")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_address_or_credential_is_a_clear_error_and_not_papered_over(
    server: FakePrometheus, status: int
) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("up")
        server.fail(status)
        with pytest.raises(PrometheusRefused, match=str(status)):
            await client.query("up")
    assert server.count() == 2


async def test_what_looks_like_an_answer_under_another_status_is_none(server: FakePrometheus) -> None:
    server.fail(203, {"status": "success", "data": server.data})
    async with aclosing(client_of(server)) as client:
        with pytest.raises(PrometheusRefused, match="answered 203"):
            await client.query("up")


async def test_an_answer_that_is_too_large_is_the_querys_fault(server: FakePrometheus) -> None:
    async with aclosing(client_of(server, max_bytes=20)) as client:
        with pytest.raises(BadQuery, match="larger than 20 bytes"):
            await client.query("up")
    assert server.count() == 1


@pytest.mark.parametrize(("start", "end", "step"), [(NOW, NOW - 1, 15), (NOW - 1, NOW, 0)])
async def test_an_impossible_range_is_refused_before_it_is_asked(
    server: FakePrometheus, start: float, end: float, step: float
) -> None:
    async with aclosing(client_of(server)) as client:
        with pytest.raises(BadQuery):
            await client.query_range("up", start, end, step)
    assert server.count() == 0


async def test_credentials_in_the_address_are_sent_and_never_shown(server: FakePrometheus) -> None:
    url = server.url.replace("http://", "http://reader:s3cret@")
    async with aclosing(PrometheusClient(url, Pipeline.standard("prometheus"))) as client:
        await client.query("up")
        assert server.last is not None
        assert server.last.headers["authorization"].startswith("Basic ")
        server.fail(500, path="query")
        with pytest.raises(PrometheusUnavailable) as caught:
            await client.query("other")
    assert "s3cret" not in f"{caught.value!r} {caught.value.__notes__}"

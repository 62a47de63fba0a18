"""The client against a wire-faithful stand-in that misbehaves on demand."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from mcp_server_langgraph.monitoring.prometheus_client import (
    BadQuery,
    Patience,
    PrometheusClient,
    PrometheusRefused,
    PrometheusUnavailable,
    QueryTooSlow,
)
from mcp_server_langgraph.resilience import (
    CircuitOpen,
    Pipeline,
    TimedOut,
    Timeout,
    collect_degradations,
    registry,
)
from mcp_server_langgraph.resilience.config import Settings, install
from tests.support.http_server import HttpServer, Request, Response

pytestmark = pytest.mark.real_time

NOW = 1_800_000_000.0


class FakePrometheus(HttpServer):
    """Answers every query with ``data``; keeps the last request."""

    def __init__(self) -> None:
        super().__init__()
        self.data: Any = {"resultType": "vector", "result": [{"metric": {"job": "a"}, "value": [NOW, "42"]}]}
        self.extra: dict[str, Any] = {}
        self.last: Request | None = None

    async def handle(self, request: Request) -> Response:
        self.last = request
        return Response({"status": "success", "data": self.data, **self.extra})


class Wall:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick_retries(fresh_registry: None) -> None:
    install(Settings({"PROMETHEUS_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01"}))


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with FakePrometheus() as fake:
        yield fake


def client_of(server: HttpServer, **options: Any) -> PrometheusClient:
    return PrometheusClient(server.url, Pipeline.standard("prometheus"), clock=Wall(), **options)


def error(kind: str, message: str) -> dict[str, Any]:
    return {"status": "error", "errorType": kind, "error": message}


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


async def test_a_query_that_is_too_slow_now_is_answered_by_its_last_result(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("slow")
        server.fail(503, error("timeout", "query timed out in expression evaluation"))
        assert (await client.query("slow")).stale is True


async def test_prometheus_is_told_to_give_a_query_up_before_we_do(server: FakePrometheus) -> None:
    async with aclosing(client_of(server, attempt_timeout=2.0)) as client:
        await client.query("up")
    assert server.last is not None
    assert server.last.query["timeout"] == "1600ms"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, error("internal", "disk")),
        (503, error("unavailable", "TSDB not ready")),
        (503, error("timeout", "query timed out in query queue")),
        (503, b"Service Unavailable"),
        (502, b"<html>Bad Gateway</html>"),
    ],
)
async def test_a_prometheus_in_trouble_is_asked_as_often_as_our_retry_says(
    server: FakePrometheus, status: int, body: Any
) -> None:
    server.fail(status, body)
    async with aclosing(client_of(server)) as client:
        with pytest.raises(PrometheusUnavailable, match=str(status)):
            await client.query("up")
    assert server.count() == 3


async def test_one_failed_attempt_is_made_good_by_the_next(server: FakePrometheus) -> None:
    server.fail(503, times=1)
    async with aclosing(client_of(server)) as client:
        assert (await client.query("up")).stale is False
    assert server.count() == 2


@pytest.mark.parametrize("trouble", ["garbage", "noise", "reset"])
async def test_garbage_is_the_dependencys_failure_and_the_last_result_answers_with_its_age(
    server: FakePrometheus, trouble: str
) -> None:
    async with aclosing(client_of(server)) as client:
        fresh = await client.query("up")
        getattr(server, trouble)()
        with collect_degradations() as notes:
            stale = await client.query("up")
    assert (stale.samples, stale.as_of, stale.stale) == (fresh.samples, fresh.as_of, True)
    assert stale.age_seconds > 0
    assert stale.warning is not None
    assert stale.warning.startswith("stale: Prometheus gives no answer now")
    assert [(note.service, note.source) for note in notes] == [("prometheus", "last result")]
    assert server.count() == 1 + 3


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


async def test_retry_after_is_carried_by_the_error(server: FakePrometheus) -> None:
    server.fail(503, retry_after="3600")
    async with aclosing(client_of(server)) as client:
        with pytest.raises(PrometheusUnavailable) as caught:
            await client.query("up")
    assert caught.value.headers["retry-after"] == "3600"
    assert server.count() == 1


async def test_a_hanging_prometheus_is_cut_per_attempt(server: FakePrometheus) -> None:
    async with aclosing(client_of(server, attempt_timeout=0.2)) as client:
        server.hang()
        with pytest.raises(httpx2.ReadTimeout):
            await client.query("up")
    assert server.count() == 3


async def test_whoever_has_a_last_result_does_not_wait_for_a_hanging_prometheus(
    server: FakePrometheus,
) -> None:
    patience = Patience()
    pipeline = Pipeline.standard("prometheus", attempt=Timeout(5.0, seconds_for=patience.of_attempt))
    async with aclosing(PrometheusClient(server.url, pipeline, patience=patience)) as client:
        await client.query("up")
        server.hang()
        for _ in range(5):
            began = asyncio.get_running_loop().time()
            assert (await client.query("up")).stale is True
            assert asyncio.get_running_loop().time() - began < 2.5, "well below one attempt"
    assert registry.breakers()["prometheus"].state == "open", "what was cut counts as failures"


async def test_a_query_that_is_slow_by_nature_is_waited_for_again(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        server.delay(0.6)
        await client.query("up")
        assert (await client.query("up")).stale is False


async def test_a_prometheus_that_has_too_many_queries_is_answered_for_too(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("up")
        server.fail(429)
        assert (await client.query("up")).stale is True
        with pytest.raises(PrometheusUnavailable):
            await client.query("something else")


async def test_while_the_circuit_is_open_nothing_is_asked_and_the_last_result_answers(
    server: FakePrometheus,
) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("up")
        server.fail(500)
        for _ in range(2):
            await client.query("up")
        assert registry.breakers()["prometheus"].state == "open"
        before = server.count()
        assert (await client.query("up")).stale is True
        with pytest.raises(CircuitOpen):
            await client.query("something else")
        assert server.count() == before


async def test_the_last_result_of_another_query_never_answers(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("up")
        await client.query("up", at=NOW - 60)
        server.fail(500)
        for promql, at in (("down", None), ("up", NOW - 61)):
            with pytest.raises((PrometheusUnavailable, CircuitOpen)):
                await client.query(promql, at)


async def test_a_window_that_ends_now_is_answered_by_an_earlier_one_of_the_same_length(
    server: FakePrometheus,
) -> None:
    server.data = {"resultType": "matrix", "result": [{"metric": {}, "values": [[NOW, "1"]]}]}
    async with aclosing(client_of(server)) as client:
        await client.query_range("up", NOW - 3600, NOW, 60)
        server.fail(500)
        client._clock.now += 600  # type: ignore[attr-defined]
        stale = await client.query_range("up", NOW - 3000, NOW + 600, 60)
        assert (stale.stale, stale.as_of) == (True, NOW)
        with pytest.raises((PrometheusUnavailable, CircuitOpen)):
            await client.query_range("up", NOW - 7200, NOW + 600, 60)


async def test_a_window_in_the_past_is_answered_by_that_very_window_only(server: FakePrometheus) -> None:
    server.data = {"resultType": "matrix", "result": []}
    async with aclosing(client_of(server)) as client:
        await client.query_range("up", NOW - 7200, NOW - 3600, 60)
        server.fail(500)
        assert (await client.query_range("up", NOW - 7200, NOW - 3600, 60)).stale
        with pytest.raises((PrometheusUnavailable, CircuitOpen)):
            await client.query_range("up", NOW - 7100, NOW - 3500, 60)


async def test_a_result_that_is_too_old_does_not_answer(server: FakePrometheus) -> None:
    async with aclosing(client_of(server, max_age=0.001)) as client:
        await client.query("up")
        server.fail(500)
        with pytest.raises(PrometheusUnavailable):
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


async def test_a_refused_connection_is_answered_by_the_last_result(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("up")
        server.stop()
        assert (await client.query("up")).stale is True
        server.start()
        assert (await client.query("up")).stale is False


async def test_the_total_time_of_the_pipeline_holds(server: FakePrometheus) -> None:
    install(Settings({"HTTP_TIMEOUT": "0.3"}))
    async with aclosing(client_of(server)) as client:
        server.hang()
        with pytest.raises(TimedOut):
            await client.query("up")
    assert server.count() == 1


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

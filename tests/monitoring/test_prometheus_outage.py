"""What the client gives while Prometheus fails, hangs or refuses."""

import asyncio
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from mcp_server_langgraph.monitoring.prometheus_client import (
    Patience,
    PrometheusClient,
    PrometheusUnavailable,
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
from tests.monitoring.fake_prometheus import NOW, FakePrometheus, Wall, client_of, error

pytestmark = [pytest.mark.real_time, pytest.mark.usefixtures("quick_retries")]


async def test_a_query_that_is_too_slow_now_is_answered_by_its_last_result(server: FakePrometheus) -> None:
    async with aclosing(client_of(server)) as client:
        await client.query("slow")
        server.fail(503, error("timeout", "query timed out in expression evaluation"))
        assert (await client.query("slow")).stale is True


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


async def test_a_query_that_has_become_slow_is_not_stale_for_ever(server: FakePrometheus) -> None:
    clock = Wall()
    async with aclosing(client_of(server, patience=Patience(clock=clock))) as client:
        await client.query("up")
        server.delay(0.8)
        assert (await client.query("up")).stale is True
        clock.now += 120.0
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


@pytest.mark.parametrize(("points", "kept"), [(20_000, True), (20_001, False)])
async def test_an_answer_of_very_many_points_is_not_kept(
    server: FakePrometheus, points: int, kept: bool
) -> None:
    values = [[NOW + number, "1"] for number in range(points)]
    server.data = {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
    async with aclosing(client_of(server)) as client:
        await client.query("up")
        server.fail(500)
        if kept:
            assert (await client.query("up")).stale is True
        else:
            with pytest.raises(PrometheusUnavailable):
                await client.query("up")


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

"""The middleware before a Starlette application, over sockets, with an upstream that fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Incoming
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    Keyed,
    Pipeline,
    Policy,
    RateLimit,
    Rejected,
    TimedOut,
    Timeout,
    outgoing_headers,
)
from mcp_server_langgraph.resilience.integrations.asgi import ResilienceMiddleware, client_address, refused
from tests.support.asgi_server import serving
from tests.support.eventually import until
from tests.support.http_server import HttpServer, Request, Response

pytestmark = pytest.mark.real_time(limit=30)


class Upstream(HttpServer):
    def __init__(self) -> None:
        super().__init__()
        self.left: str | None = None

    async def handle(self, request: Request) -> Response:
        self.left = request.headers.get("x-request-timeout-ms")
        return Response("fine")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def service(upstream: Upstream) -> Starlette:
    """Asks its upstream once for each request, and adds no error handling of its own."""
    pipeline = Pipeline("upstream", CircuitBreaker("upstream", fail_max=3), Timeout(1))

    async def ask(request: Incoming) -> PlainTextResponse:
        async with httpx2.AsyncClient(trust_env=False, verify=False) as inner:
            reply = await pipeline.call(_ask, inner, upstream.url)
        return PlainTextResponse(reply.text, reply.status_code)

    async def stream(request: Incoming) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 100
                await asyncio.sleep(0.05)

        return StreamingResponse(parts())

    return Starlette(
        routes=[Route("/ask", ask), Route("/stream", stream), Route("/upload", ask, methods=["POST"])]
    )


async def _ask(inner: httpx2.AsyncClient, url: str) -> httpx2.Response:
    reply = await inner.get(url, headers=outgoing_headers())
    return reply.raise_for_status()


@contextlib.asynccontextmanager
async def asked(upstream: Upstream, *policies: Policy) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the service, behind these policies."""
    app = service(upstream)
    app.add_exception_handler(Rejected, refused)
    app.add_exception_handler(TimedOut, refused)
    async with (
        serving(ResilienceMiddleware(app, Pipeline("http", *policies))) as url,
        httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
    ):
        yield client


async def test_a_hanging_upstream_ends_as_504_and_then_the_breaker_spares_it(upstream: Upstream) -> None:
    async with asked(upstream, Bulkhead(10)) as client:
        assert (await client.get("/ask")).text == '"fine"'
        upstream.hang()
        assert [(await client.get("/ask")).status_code for _ in range(3)] == [504] * 3
        refusal = await client.get("/ask")
    assert (refusal.status_code, refusal.json()["title"]) == (503, "Service Unavailable")
    assert int(refusal.headers["retry-after"]) > 0
    assert upstream.count() == 4


@pytest.mark.parametrize("fault", ["dead", "503", "reset"])
async def test_an_upstream_that_is_down_costs_it_three_requests_and_callers_a_503(
    upstream: Upstream, fault: str
) -> None:
    async with asked(upstream, Bulkhead(10)) as client:
        _break(upstream, fault)
        statuses = [(await client.get("/ask")).status_code for _ in range(5)]
    assert statuses == [500, 500, 500, 503, 503]
    assert upstream.count() == (0 if fault == "dead" else 3)


def _break(upstream: Upstream, fault: str) -> None:
    if fault == "dead":
        upstream.stop()
    elif fault == "reset":
        upstream.reset()
    else:
        upstream.fail(503)


async def test_an_upstream_that_says_429_is_not_held_against_it_nor_hidden(upstream: Upstream) -> None:
    async with asked(upstream, Bulkhead(10)) as client:
        upstream.fail(429, retry_after="3")
        answers = [await client.get("/ask") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {500}
    assert upstream.count() == 5


async def test_a_slow_upstream_is_told_how_long_the_caller_waits(upstream: Upstream) -> None:
    async with asked(upstream) as client:
        upstream.delay(30)
        answer = await client.get("/ask", headers={"x-request-timeout-ms": "200"})
        assert answer.status_code == 504
        upstream.heal()
        assert (await client.get("/ask", headers={"x-request-timeout-ms": "900"})).status_code == 200
    assert 0 < int(upstream.left or 0) <= 900


async def test_refusing_reads_no_body_and_keeps_the_connection_usable(upstream: Upstream) -> None:
    async with asked(upstream, Keyed(lambda _: RateLimit(0.01, burst=1), key=client_address)) as client:
        assert (await client.post("/upload", content=b"x")).status_code == 200
        answers = [await client.post("/upload", content=b"x" * 5_000_000) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429] * 3
    assert all(90 <= int(answer.headers["retry-after"]) <= 100 for answer in answers)
    assert upstream.count() == 1


async def test_a_streamed_response_holds_its_place_until_the_client_goes_away(upstream: Upstream) -> None:
    places = Bulkhead(1, max_wait=0)
    async with asked(upstream, places) as client:
        async with client.stream("GET", "/stream") as response:
            parts = response.aiter_raw()
            await anext(parts)
            assert (await client.get("/ask")).status_code == 503
        await until(lambda: places.snapshot().active == 0)
        assert (await client.get("/ask")).status_code == 200

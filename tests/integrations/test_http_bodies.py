"""Bodies: their place is held to the end, and how they end is told once."""

import asyncio
import gc
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from mcp_server_langgraph.resilience import BulkheadFull, CircuitBreaker
from mcp_server_langgraph.resilience.integrations.hosts import Hosts
from mcp_server_langgraph.resilience.integrations.httpx2 import AsyncResilientTransport, ResilientTransport
from mcp_server_langgraph.resilience.testing import Recorder
from tests.integrations.clients import ASYNC, CLIENTS, Aiohttp, Client, Upstream, guarded
from tests.support.eventually import until

pytestmark = pytest.mark.real_time
every_client = pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
every_async_client = pytest.mark.parametrize("kind", ASYNC, ids=lambda kind: kind.__name__)


def state(hosts: Hosts, server: Upstream) -> tuple[int, int, int, int]:
    """Of that host: places taken, successes, failures, neutral ends."""
    places: Any
    places, breaker = (policy.snapshot().states[server.url] for policy in hosts.once.policies[:2])  # type: ignore[attr-defined]
    return places.active, breaker.successes, sum(breaker.failures.values()), breaker.neutral


@every_client
async def test_the_place_is_held_until_the_body_has_ended(upstream: Upstream, kind: type[Client]) -> None:
    upstream.stall(1000)
    async with guarded(kind) as client, aclosing(client.pieces(upstream.url)) as pieces:  # type: ignore[type-var]
        await anext(pieces)
        assert state(client.hosts, upstream) == (1, 0, 0, 0)
        with pytest.raises(client.transport_error) as caught:
            await client.ask(upstream.url)
        assert isinstance(caught.value, BulkheadFull)
        assert upstream.count() == 1


@every_client
async def test_a_body_that_is_closed_early_is_neutral(upstream: Upstream, kind: type[Client]) -> None:
    upstream.stall(1000)
    async with guarded(kind) as client:
        await client.first_piece(upstream.url)
        assert state(client.hosts, upstream) == (0, 0, 0, 1)


@every_client
async def test_a_body_that_is_closed_when_all_of_it_is_there_is_a_success(
    upstream: Upstream, kind: type[Client]
) -> None:
    async with guarded(kind) as client:
        async with aclosing(client.pieces(upstream.url)) as pieces:  # type: ignore[type-var]
            missing = 4000
            while missing:
                missing -= len(await anext(pieces))
        assert state(client.hosts, upstream) == (0, 1, 0, 0)


@every_client
async def test_a_stream_of_events_that_its_reader_leaves_is_a_success(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.stall(1000)
    async with guarded(kind) as client:
        await client.first_piece(f"{upstream.url}/events")
        assert state(client.hosts, upstream) == (0, 1, 0, 0)


@every_async_client
@pytest.mark.parametrize("path", ["/", "/events"])
@pytest.mark.parametrize("pause", [0, 60])
async def test_cancelling_is_neutral_in_a_read_and_between_two(
    upstream: Upstream, kind: type[Client], path: str, pause: float
) -> None:
    upstream.stall(1000)
    async with guarded(kind) as client:
        begun = asyncio.Event()

        async def read() -> None:
            async with aclosing(client.pieces(upstream.url + path)) as pieces:  # type: ignore[type-var]
                async for _ in pieces:
                    begun.set()
                    await asyncio.sleep(pause)

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert state(client.hosts, upstream) == (0, 0, 0, 1)


@every_async_client
async def test_cancelling_before_the_answer_is_neutral(upstream: Upstream, kind: type[Client]) -> None:
    upstream.hang()
    async with guarded(kind) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.ask(upstream.url)
        assert state(client.hosts, upstream) == (0, 0, 0, 1)


@every_async_client
async def test_cancelling_between_two_attempts_is_neutral_and_closes_the_last_answer(
    upstream: Upstream, kind: type[Client], recorder: Recorder
) -> None:
    upstream.fail(503, b"y" * 200_000, retry_after="30")
    async with guarded(kind, retried=True) as client:
        asking = asyncio.create_task(client.ask(upstream.url))
        await until(lambda: recorder.of("retry"))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert state(client.hosts, upstream) == (0, 0, 1, 0)
        upstream.heal()
        assert (await client.ask(upstream.url)).status == 200
        assert upstream.count() == 2


async def test_a_body_has_ended_when_it_has_been_read_though_nobody_closes_it(upstream: Upstream) -> None:
    async with guarded(Aiohttp) as client:
        assert isinstance(client, Aiohttp)
        answer = await client.client.get(upstream.url)
        await answer.read()
        assert state(client.hosts, upstream) == (0, 1, 0, 0)


async def test_the_page_of_an_error_can_be_read_in_pieces_too(upstream: Upstream) -> None:
    upstream.fail(503, b"in repair")
    async with guarded(Aiohttp) as client:
        assert isinstance(client, Aiohttp)
        async with client.client.get(upstream.url) as answer:
            assert await answer.content.read() == b"in repair"


async def test_a_body_that_broke_off_is_a_failure_though_nobody_closes_it(upstream: Upstream) -> None:
    upstream.cut(10)
    async with guarded(Aiohttp) as client:
        assert isinstance(client, Aiohttp)
        answer = await client.client.get(upstream.url)
        with pytest.raises(client.transport_error):
            await answer.content.readexactly(4000)
        del answer
        gc.collect()
        assert state(client.hosts, upstream) == (0, 0, 1, 0)


async def test_a_response_that_is_forgotten_gives_its_place_back(upstream: Upstream) -> None:
    upstream.stall(1000)
    hosts = Hosts()
    async with httpx2.AsyncClient(transport=AsyncResilientTransport(hosts=hosts)) as client:
        response = await client.send(client.build_request("GET", upstream.url), stream=True)
        assert state(hosts, upstream)[0] == 1
        stream = response.stream
        del response, stream
        gc.collect()
        assert state(hosts, upstream) == (0, 0, 0, 1)


async def test_a_half_open_circuit_is_closed_by_a_body_that_came_to_its_end(upstream: Upstream) -> None:
    hosts = Hosts(breaker=lambda _: CircuitBreaker(fail_max=1, timeout=0.05))
    async with httpx2.AsyncClient(transport=AsyncResilientTransport(hosts=hosts)) as client:
        upstream.cut(10)
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(upstream.url)
        upstream.heal()
        await asyncio.sleep(0.1)
        async with client.stream("GET", upstream.url) as response:
            breaker: Any = hosts.once.policies[1].snapshot()
            assert breaker.states[upstream.url].state == "half_open"
            await response.aread()
        breaker = hosts.once.policies[1].snapshot()
        assert breaker.states[upstream.url].state == "closed"


async def test_an_answer_that_was_never_on_a_wire_has_ended_when_it_is_there() -> None:
    hosts = Hosts()
    made = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"made": True}))
    async with httpx2.AsyncClient(transport=AsyncResilientTransport(made, hosts=hosts)) as client:
        assert (await client.get("http://mock")).json() == {"made": True}
    with httpx2.Client(transport=ResilientTransport(made, hosts=hosts)) as client:
        assert client.get("http://mock").json() == {"made": True}
    places: Any = hosts.once.policies[0].snapshot()
    breakers: Any = hosts.once.policies[1].snapshot()
    assert places.states["http://mock:80"].active == 0
    assert breakers.states["http://mock:80"].successes == 2

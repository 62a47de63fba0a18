"""The deadline of the caller on its way to the host, and in the client's own timeouts."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest

from mcp_server_langgraph.resilience import DeadlineExceeded, TimedOut, incoming, timeout
from mcp_server_langgraph.resilience.integrations.hosts import Hosts
from mcp_server_langgraph.resilience.integrations.httpx2 import AsyncResilientTransport, ResilientTransport
from mcp_server_langgraph.resilience.registry import reload
from tests.integrations.clients import CLIENTS, Client, Upstream, guarded

pytestmark = pytest.mark.real_time
every_client = pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)


@every_client
async def test_the_host_is_told_what_is_left(upstream: Upstream, kind: type[Client]) -> None:
    async with guarded(kind) as client:
        await client.ask(upstream.url)
        told = upstream.last.headers
        assert (told["x-request-attempt"], told["x-request-criticality"]) == ("1", "critical")
        assert "x-request-timeout-ms" not in told
        async with timeout(30):
            await client.ask(upstream.url)
        assert 0 < int(upstream.last.headers["x-request-timeout-ms"]) <= 30_000
    async with guarded(kind, attempt_timeout=20) as client, timeout(30):
        await client.ask(upstream.url)
        assert 0 < int(upstream.last.headers["x-request-timeout-ms"]) <= 20_000


@every_client
async def test_who_need_not_know_is_not_told(upstream: Upstream, kind: type[Client]) -> None:
    async with guarded(kind, tell=False) as client, timeout(30):
        await client.ask(upstream.url)
    assert not [name for name in upstream.last.headers if name.startswith("x-request")]


@every_client
async def test_nothing_is_sent_where_nothing_is_left(upstream: Upstream, kind: type[Client]) -> None:
    async with guarded(kind) as client:
        with pytest.raises(client.timeout_error) as caught:
            await ask_too_late(client, upstream.url)
        assert isinstance(caught.value, DeadlineExceeded)
    assert upstream.count() == 0


async def ask_too_late(client: Client, url: str) -> None:
    with suppress(TimedOut):
        async with timeout(0.01):
            try:
                await asyncio.sleep(1)
            finally:
                late = await asyncio.gather(client.ask(url), return_exceptions=True)
    assert isinstance(late[0], Exception)
    raise late[0]


async def let_go_at_the_deadline(client: httpx2.Client, server: Upstream) -> None:
    with suppress(TimedOut):
        async with timeout(0.3):
            asking = asyncio.create_task(asyncio.to_thread(client.get, server.url))
            await asyncio.shield(asking)
    with pytest.raises(httpx2.ReadTimeout):
        await asking


async def test_a_thread_that_waits_for_the_head_is_let_go_at_the_deadline(upstream: Upstream) -> None:
    with httpx2.Client(transport=ResilientTransport(), timeout=None) as client:
        client.get(upstream.url)
        upstream.hang()
        await let_go_at_the_deadline(client, upstream)


async def test_a_thread_that_waits_for_a_body_is_let_go_at_the_deadline(upstream: Upstream) -> None:
    with httpx2.Client(transport=ResilientTransport(), timeout=None) as client:
        client.get(upstream.url)
        upstream.stall(100)
        await let_go_at_the_deadline(client, upstream)


def test_a_piece_is_not_waited_for_when_the_time_is_up() -> None:
    class Pieces(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"in time"
            yield b"too late"

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, stream=Pieces()))
    client = httpx2.Client(transport=ResilientTransport(transport))

    def read_slowly() -> None:
        with (
            client,
            incoming({"x-request-timeout-ms": "200"}),
            client.stream("GET", "http://mock") as response,
        ):
            for piece in response.iter_raw():
                assert piece == b"in time"
                time.sleep(0.3)

    with pytest.raises(httpx2.TimeoutException) as caught:
        read_slowly()
    assert isinstance(caught.value, TimedOut)
    assert caught.value.clock == "inherited"


def test_the_clients_own_timeouts_hold_where_they_are_shorter(upstream: Upstream) -> None:
    upstream.hang()
    hosts = Hosts(attempt_timeout=30, idle_timeout=30)
    client = httpx2.Client(transport=ResilientTransport(hosts=hosts), timeout=0.2)
    with client, pytest.raises(httpx2.ReadTimeout):
        client.get(upstream.url)


@pytest.mark.parametrize("attempt_timeout", [None, 5.0])
async def test_the_time_for_a_head_is_not_the_time_for_a_body(attempt_timeout: float | None) -> None:
    """Nor does a redirected request begin with the clocks of the answer before it."""
    seen: list[dict[str, float | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(dict(request.extensions["timeout"]))
        location = {"location": "http://mock/next"} if request.url.path == "/" else {}
        return httpx2.Response(302 if location else 200, headers=location)

    hosts = Hosts(attempt_timeout=attempt_timeout, idle_timeout=1)
    transport = ResilientTransport(httpx2.MockTransport(answer), hosts=hosts)
    with httpx2.Client(transport=transport, timeout=60, follow_redirects=True) as client:
        response = client.get("http://mock/")
    expected = 60 if attempt_timeout is None else attempt_timeout
    assert [each["read"] for each in seen] == [expected, expected]
    assert response.request.extensions["timeout"]["read"] == 1


async def test_with_the_switch_off_requests_pass_unguarded(upstream: Upstream) -> None:
    upstream.fail(503)
    reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    hosts = Hosts()
    async with httpx2.AsyncClient(transport=AsyncResilientTransport(hosts=hosts)) as client:
        for _ in range(10):
            assert (await client.get(upstream.url)).status_code == 503
    assert upstream.count() == 10

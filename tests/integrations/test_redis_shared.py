"""Shared state over real servers of the Redis protocol, which are killed, hung, cut off and failed over."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as CannotConnect

from mcp_server_langgraph.resilience import CircuitBreaker, ConfigurationError, Pipeline
from mcp_server_langgraph.resilience.integrations.redis_shared import RedisLink
from mcp_server_langgraph.resilience.integrations.shared import SharedState
from tests.support.certificates import write_certificate
from tests.support.eventually import until
from tests.support.ports import HOST, free_port
from tests.support.redis_server import RedisSentinel, RedisServer
from tests.support.shared_replicas import Replica
from tests.support.tcp_proxy import TcpProxy

QUICK = {"interval": 0.1, "lease": 1.5}
TIMEOUT = 0.5


class World(Replica):
    """Replicas of one test."""


@pytest.fixture(autouse=True)
def _up() -> None:
    World.down = False


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def replicas(*links: RedisLink) -> AsyncIterator[list[World]]:
    """One on each link, all of which hear each other."""
    async with contextlib.AsyncExitStack() as stack:
        each = [World(link, **QUICK) for link in links]
        for replica in each:
            await stack.enter_async_context(replica.state)
        await until(lambda: all_hear_each_other(each))
        yield each


def all_hear_each_other(each: list[World]) -> bool:
    return {replica.state.snapshot().replicas for replica in each} == {len(each) - 1}


async def an_outage_is_known_and_ends(each: list[World]) -> None:
    """Two find the dependency down, all others learn it, and all come back."""
    World.down = True
    await each[0].calls(5)
    await each[1].calls(5)
    await until(lambda: all(replica.is_open for replica in each))
    World.down = False
    for replica in each[:2]:
        replica.breaker.reset()
    for replica in each:
        await until(lambda replica=replica: not replica.breaker.machine.refuses_for(loop_time()))
        assert await replica.call()


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def longest_call(replica: World, seconds: float) -> float:
    """The longest of many calls in so many seconds."""
    longest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.thread_time()
        await replica.pipeline.call(well)
        longest = max(longest, time.thread_time() - began)
        await asyncio.sleep(0.002)
    return longest


async def well() -> None:
    """Answers at once: a call through it suspends nowhere, so whatever it waits for would block the loop."""


@pytest.mark.real_time(limit=30)
async def test_replicas_hear_each_other_over_a_real_server(server: RedisServer) -> None:
    async with replicas(*(RedisLink(server.url) for _ in range(4))) as each:
        await an_outage_is_known_and_ends(each)


@pytest.mark.real_time(limit=30)
async def test_killed_and_restarted_nothing_is_stuck(server: RedisServer) -> None:
    async with replicas(*(RedisLink(server.url) for _ in range(3))) as each:
        World.down = True
        await each[0].calls(5)
        await each[1].calls(5)
        await until(lambda: each[2].is_open)
        server.kill()
        World.down = False
        await until(lambda: not each[2].state.snapshot().connected)
        assert await each[2].call()
        server.start()
        await until(lambda: all_hear_each_other(each))
        assert not each[2].is_open


@pytest.mark.real_time(limit=30)
async def test_hung_nobody_waits_for_it_and_nothing_is_stuck(server: RedisServer) -> None:
    async with replicas(*(RedisLink(server.url) for _ in range(3))) as each:
        server.pause()
        assert await longest_call(each[0], 1.0) < TIMEOUT / 2
        await until(lambda: not any(replica.state.snapshot().connected for replica in each))
        World.down = True
        await each[0].calls(5)
        await each[1].calls(5)
        server.resume()
        await until(lambda: each[2].is_open)


@pytest.mark.real_time(limit=30)
async def test_one_that_is_cut_off_is_on_its_own_until_the_way_is_free_again(valkey: RedisServer) -> None:
    with TcpProxy(valkey.port) as proxy:
        cut = RedisLink(f"redis://{HOST}:{proxy.port}/0")
        async with replicas(cut, RedisLink(valkey.url), RedisLink(valkey.url)) as each:
            proxy.black_hole()
            await until(lambda: not each[0].state.snapshot().connected)
            await until(lambda: {replica.state.snapshot().replicas for replica in each[1:]} == {1})
            World.down = True
            for replica in each[1:]:
                await replica.calls(5)
            assert not each[0].is_open
            proxy.heal()
            await until(lambda: each[0].is_open)


@pytest.mark.real_time(limit=60)
async def test_a_sentinel_makes_another_server_the_master(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(RedisServer(tmp_path / "master", "redis"))
        stack.enter_context(RedisServer(tmp_path / "replica", "redis", replicaof=f"{HOST} {master.port}"))
        sentinel = stack.enter_context(RedisSentinel(tmp_path / "sentinel", master))
        url = f"redis+sentinel://{HOST}:{sentinel.port}/main/0"
        await sentinel.knows_a_replica()
        async with replicas(*(RedisLink(url) for _ in range(3))) as each:
            master.kill()
            await until(lambda: all(replica.state.snapshot().failed for replica in each))
            before = [replica.state.snapshot().exchanges for replica in each]
            await until(lambda: all(went_on(each, before)), within=30)
            await until(lambda: all_hear_each_other(each))
            await an_outage_is_known_and_ends(each)


def went_on(each: list[World], before: list[int]) -> list[bool]:
    """Which of them have reached the place again, and more than once."""
    return [
        replica.state.snapshot().exchanges > count + 2 for replica, count in zip(each, before, strict=True)
    ]


async def until_async(condition: Callable[[], object], *, within: float) -> None:
    """As `until`, for a question that waits."""
    async with asyncio.timeout(within):
        while not await condition():  # type: ignore[misc]
            await asyncio.sleep(0.05)


@pytest.mark.real_time(limit=30)
async def test_over_tls_the_servers_certificate_is_checked(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    port = free_port()
    options = {"tls_port": str(port), "tls_cert_file": str(certificate), "tls_key_file": str(key)}
    with RedisServer(tmp_path / "server", "redis", tls_auth_clients="no", **options):
        url, trusted = f"rediss://{HOST}:{port}/0", {"ssl_ca_certs": str(certificate)}
        async with replicas(*(RedisLink(url, **trusted) for _ in range(3))) as each:
            await an_outage_is_known_and_ends(each)
        stranger = RedisLink(url)
        with pytest.raises(CannotConnect):
            await stranger.exchange("stranger", b"1 {}")
        await stranger.aclose()


@pytest.mark.real_time(limit=30)
async def test_a_cluster_keeps_all_in_one_slot(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "redis", cluster_enabled="yes") as server:
        async with Redis(host=HOST, port=server.port) as client:
            await client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await until_async(lambda: _cluster_is_ok(client), within=10)
        own = RedisCluster(host=HOST, port=server.port)
        url = f"redis+cluster://{HOST}:{server.port}"
        async with replicas(RedisLink(url), RedisLink(url), RedisLink(own)) as each:
            await an_outage_is_known_and_ends(each)
            server.kill()
            await until(lambda: not any(replica.state.snapshot().connected for replica in each))
            server.start()
            await until(lambda: all_hear_each_other(each))
        assert await own.ping()
        await own.aclose()


async def _cluster_is_ok(client: Redis) -> bool:
    return (await client.execute_command("CLUSTER INFO"))["cluster_state"] == "ok"


@pytest.mark.real_time(limit=30)
@pytest.mark.parametrize("decode", [False, True])
async def test_a_client_of_the_users_own_stays_open(valkey: RedisServer, decode: bool) -> None:
    client = Redis.from_url(valkey.url, decode_responses=decode)
    async with replicas(RedisLink(client), RedisLink(client), RedisLink(valkey.url)) as each:
        await an_outage_is_known_and_ends(each)
    assert await client.ping()
    await client.aclose()


@pytest.mark.real_time(limit=30)
async def test_other_namespaces_are_other_groups_and_only_names_and_numbers_are_written(
    valkey: RedisServer,
) -> None:
    breaker = CircuitBreaker("search")
    pipeline = Pipeline("search", breaker)
    async with (
        Redis.from_url(valkey.url) as client,
        SharedState(RedisLink(valkey.url, namespace="shop"), policies=[breaker], **QUICK) as shop,
        SharedState(RedisLink(valkey.url, namespace="else"), policies=[breaker], **QUICK) as other,
    ):
        await until(lambda: shop.snapshot().exchanges)
        await pipeline.call(well)
        key = "resilience:{shop}:reports"
        await until_async(lambda: _mentions(client, key, shop.replica), within=10)
        assert (shop.snapshot().replicas, other.snapshot().replicas) == (0, 0)
        assert sorted(await client.keys()) == [b"resilience:{else}:reports", key.encode()]
        [report] = (await client.hgetall(key)).values()
        assert re.fullmatch(rb'\d+ \{"circuit_breaker:search":\[0.0,0.0,1.0\]\}', report)
        assert 0 < await client.ttl(key) <= 600
    async with Redis.from_url(valkey.url) as client:
        assert await client.keys() == []


async def _mentions(client: Redis, key: str, replica: str) -> bool:
    return b"search" in (await client.hget(key, replica) or b"")


@pytest.mark.parametrize(
    "url",
    [
        "http://somewhere",
        "redis+sentinel://host:26379",
        "redis+sentinel://:secret@/main",
        "redis+sentinel://host:many/main",
        "redis+sentinel://host/main/first",
        "redis+cluster://",
        "somewhere",
    ],
)
def test_a_url_that_cannot_be_right_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the URL must be one of") as refused:
        RedisLink(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "named"), [({"timeout": 0}, "timeout"), ({"namespace": ""}, "namespace")]
)
def test_arguments_that_cannot_be_right_are_refused(options: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RedisLink: {named}"):
        RedisLink("redis://localhost", **options)

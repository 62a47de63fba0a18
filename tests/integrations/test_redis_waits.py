"""What waits for others: blocking commands and subscribers take no place, and no timeout cuts them but their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import exceptions

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, Pipeline, TimedOut
from tests.integrations.redis_clients import (
    ATTEMPT,
    breaker_of,
    bulkhead_of,
    client_on,
    guarding,
    plain,
    seen,
    small_bulkhead,
)
from tests.support.eventually import until
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

LONGER = ATTEMPT * 2  # and than the socket's timeout; the server is up to a tenth of a second late


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


@pytest.mark.parametrize("socket_timeout", [0.4, None])
@pytest.mark.real_time(limit=20)
async def test_a_blocking_command_waits_as_long_as_it_says(
    valkey: RedisServer, socket_timeout: float | None
) -> None:
    slow = CircuitBreaker("redis", slow_rate=0.5, slow_after=0.1, minimum_calls=1)
    pipeline = guarding(small_bulkhead(), breaker=slow)
    async with client_on(valkey.port, pipeline, socket_timeout=socket_timeout) as client:
        began = time.monotonic()
        assert await client.blpop("queue", LONGER) is None
        assert await client.xread({"stream": 0}, block=int(LONGER * 1000)) in ({}, [], None)
        assert await client.wait(1, int(LONGER * 1000)) == 0
        assert time.monotonic() - began >= 3 * LONGER
        assert breaker_of(pipeline).state == "closed"
        assert breaker_of(pipeline).successes == 3


@pytest.mark.real_time(limit=20)
async def test_after_a_blocking_command_the_connection_has_its_timeout_back(valkey: RedisServer) -> None:
    pipeline = Pipeline("redis", CircuitBreaker("redis"))
    async with client_on(valkey.port, pipeline, socket_timeout=0.5, max_connections=1) as client:
        await client.rpush("queue", "item")
        await client.blpop("queue", 10)
        valkey.pause()
        async with asyncio.timeout(5):
            with pytest.raises(exceptions.TimeoutError):
                await client.incr("count")
        valkey.resume()


@pytest.mark.real_time(limit=20)
async def test_blocked_commands_leave_the_bulkhead_to_others(valkey: RedisServer) -> None:
    pipeline = guarding(small_bulkhead())
    async with client_on(valkey.port, pipeline) as client:
        waiting = [asyncio.create_task(client.blpop("queue")) for _ in range(3)]
        with plain(valkey.port) as operator:
            await until(lambda: operator.info("clients")["blocked_clients"] == 3)
        await asyncio.sleep(LONGER)
        for number in range(3):
            await client.rpush("queue", number)
        assert {value for _, value in await asyncio.gather(*waiting)} == {b"0", b"1", b"2"}
        assert bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=20)
async def test_a_hung_server_ends_a_blocking_command_an_attempts_timeout_later(valkey: RedisServer) -> None:
    pipeline = guarding(breaker=CircuitBreaker("redis", fail_max=2))
    async with client_on(valkey.port, pipeline, socket_timeout=5) as client:
        await client.ping()
        valkey.pause()
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(TimedOut):
                await client.blpop("queue", 0.2)
            assert time.monotonic() - began >= 0.2 + ATTEMPT
        with pytest.raises(CircuitOpen):
            await client.blpop("queue", 0.2)
        valkey.resume()
    assert breaker_of(pipeline).failures == {"TimedOut": 2}


@pytest.mark.real_time(limit=20)
async def test_a_connection_lost_while_blocked_is_a_failure_and_sent_once(valkey: RedisServer) -> None:
    pipeline = guarding()
    async with client_on(valkey.port, pipeline) as client:
        with TcpProxy(valkey.port) as proxy:
            other = client_on(proxy.port, pipeline)
            waiting = asyncio.create_task(other.blpop("queue"))
            with plain(valkey.port) as operator:
                await until(lambda: operator.info("clients")["blocked_clients"] == 1)
            proxy.reset()
            with pytest.raises(exceptions.ConnectionError):
                await waiting
            await other.aclose()
        cancelled = asyncio.create_task(client.blpop("queue"))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
    assert breaker_of(pipeline).failures == {"ConnectionError": 1}
    assert breaker_of(pipeline).neutral == 1
    assert breaker_of(pipeline).running == 0


@pytest.mark.real_time(limit=20)
async def test_a_subscriber_that_hears_nothing_is_no_failure_and_takes_no_place(valkey: RedisServer) -> None:
    pipeline = guarding(small_bulkhead())
    async with client_on(valkey.port, pipeline, socket_timeout=ATTEMPT) as client, client.pubsub() as channel:
        await channel.subscribe("news")
        assert (await channel.get_message(timeout=10))["type"] == "subscribe"
        assert await channel.get_message(timeout=LONGER) is None
        listening = asyncio.create_task(anext(channel.listen()))
        await asyncio.sleep(LONGER)
        assert bulkhead_of(pipeline).active == 0
        await client.publish("news", "it happened")
        assert (await listening)["data"] == b"it happened"
    assert not breaker_of(pipeline).failures


@pytest.mark.real_time(limit=20)
async def test_a_subscriber_comes_back_after_its_connection_was_lost(valkey: RedisServer) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding(small_bulkhead(), breaker=CircuitBreaker("redis", fail_max=5, timeout=1.0))
        async with client_on(proxy.port, pipeline) as client, client.pubsub() as channel:
            await channel.subscribe("news")
            await channel.get_message(timeout=10)
            before = proxy.connections
            proxy.reset()
            with pytest.raises(exceptions.ConnectionError):
                await channel.get_message(timeout=10)
            assert proxy.connections == before  # nothing connects but through the guards
            assert breaker_of(pipeline).failures == {"ConnectionError": 1}
            with pytest.raises(exceptions.ConnectionError):
                await channel.get_message(timeout=10)  # connects: three attempts
            with pytest.raises((exceptions.ConnectionError, CircuitOpen)):
                await channel.get_message(timeout=10)
            assert breaker_of(pipeline).state == "open"
            before = proxy.connections
            for _ in range(20):
                with pytest.raises(CircuitOpen):
                    await channel.get_message(timeout=10)
            assert proxy.connections == before
            proxy.heal()
            await asyncio.sleep(1.1)
            assert (await channel.get_message(timeout=10))["type"] == "subscribe"
            with plain(valkey.port) as other:
                assert other.publish("news", "again") == 1
            assert (await channel.get_message(timeout=10))["data"] == b"again"
            assert breaker_of(pipeline).state == "closed"
    assert seen(valkey.port, "subscribe") == 2


@pytest.mark.real_time(limit=20)
async def test_subscribing_at_a_dead_server_is_a_failure(valkey: RedisServer) -> None:
    pipeline = guarding()
    valkey.kill()
    async with client_on(valkey.port, pipeline) as client, client.pubsub() as channel:
        with pytest.raises(exceptions.ConnectionError):
            await channel.subscribe("news")
        with pytest.raises((exceptions.ConnectionError, CircuitOpen)):
            await channel.psubscribe("new*")
    assert breaker_of(pipeline).failures == {"ConnectionError": 5}

"""Commands of a guarded asyncio client, on a real server that is dead, hung, slow or cut off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from mcp_server_langgraph.resilience import BulkheadFull, CircuitBreaker, CircuitOpen, TimedOut
from mcp_server_langgraph.resilience.testing import Recorder
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
from tests.support.ports import HOST
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, request.param) as running:
        yield running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


@pytest.mark.real_time(limit=20)
async def test_a_healthy_server_sees_each_command_once(server: RedisServer) -> None:
    pipeline = guarding(small_bulkhead())
    async with client_on(server.port, pipeline, decode_responses=True) as client:
        assert await client.set("name", "value")
        assert await client.get("name") == "value"
        assert await client.incr("count") == 1
        asked = [seen(server.port, command) for command in ("set", "get", "incrby")]
        assert asked == [1, 1, 1]
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        assert await script(keys=["count"]) == 2  # the first EVALSHA is answered NOSCRIPT
        async with client.lock("one at a time", timeout=5):
            assert await client.exists("one at a time")
        async with client.client() as single:
            assert await single.get("name") == "value"
    assert bulkhead_of(pipeline).active == breaker_of(pipeline).consecutive_failures == 0
    assert breaker_of(pipeline).successes >= 7
    assert not breaker_of(pipeline).failures


@pytest.mark.real_time(limit=20)
async def test_what_the_server_says_of_a_command_is_the_callers(valkey: RedisServer) -> None:
    pipeline = guarding()
    async with client_on(valkey.port, pipeline) as client:
        await client.lpush("list", 1)
        for _ in range(6):
            with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"):
                await client.get("list")
    assert breaker_of(pipeline).state == "closed"
    assert breaker_of(pipeline).neutral == 6
    assert seen(valkey.port, "get") == 6


@pytest.mark.real_time(limit=20)
async def test_a_full_server_is_a_failure(valkey: RedisServer) -> None:
    pipeline = guarding()
    with plain(valkey.port) as operator:
        operator.config_set("maxmemory", 1)
    async with client_on(valkey.port, pipeline) as client:
        with pytest.raises(exceptions.OutOfMemoryError):
            await client.incr("count")
    assert breaker_of(pipeline).failures == {"OutOfMemoryError": 1}


@pytest.mark.real_time(limit=20)
async def test_a_server_that_takes_no_more_clients_is_a_failure(valkey: RedisServer) -> None:
    pipeline = guarding()
    with plain(valkey.port) as operator:
        operator.config_set("maxclients", 1)
        async with client_on(valkey.port, pipeline) as client:
            with pytest.raises(exceptions.ConnectionError):
                await client.incr("count")
    assert breaker_of(pipeline).failures == {"ConnectionError": 1}


@pytest.mark.real_time(limit=20)
async def test_a_dead_server_opens_the_circuit_and_is_left_alone_until_it_is_back(
    valkey: RedisServer,
) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding(breaker=CircuitBreaker("redis", fail_max=5, timeout=1.0))
        async with client_on(proxy.port, pipeline) as client:
            assert await client.set("name", "value")
            proxy.reset()
            for _ in range(5):
                with pytest.raises((exceptions.ConnectionError, CircuitOpen)):
                    await client.get("name")
            assert breaker_of(pipeline).state == "open"
            before = proxy.connections
            for _ in range(50):
                with pytest.raises(CircuitOpen):
                    await client.get("name")
            assert (
                proxy.connections == before <= 1 + 5 * 2
            )  # redis-py looks at an idle connection, then makes another
            proxy.heal()
            await asyncio.sleep(1.1)
            assert await client.get("name") == b"value"
            assert breaker_of(pipeline).state == "closed"


@pytest.mark.real_time(limit=20)
async def test_a_restart_costs_no_command_though_connections_were_idle(server: RedisServer) -> None:
    pipeline = guarding()
    async with client_on(server.port, pipeline) as client:
        await asyncio.gather(*(client.incr("count") for _ in range(8)))
        server.kill()
        with pytest.raises(exceptions.ConnectionError):
            await client.incr("count")
        server.start()
        await asyncio.gather(*(client.incr("count") for _ in range(8)))
        assert await client.get("count") == b"16"
    assert breaker_of(pipeline).failures == {"ConnectionError": 1}


@pytest.mark.real_time(limit=20)
async def test_a_hung_server_costs_the_attempts_timeout_and_reads_are_sent_again(valkey: RedisServer) -> None:
    pipeline = guarding(small_bulkhead())
    async with client_on(valkey.port, pipeline) as client:
        await client.set("name", "value")
        valkey.pause()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimedOut):
            await client.incr("count")
        assert breaker_of(pipeline).consecutive_failures == 1
        once = loop.time() - began
        with pytest.raises(TimedOut):
            await client.get("name")
        assert breaker_of(pipeline).consecutive_failures == 1 + 3
        thrice = loop.time() - began - once
        assert (once >= ATTEMPT, thrice >= 3 * ATTEMPT) == (True, True)
        assert bulkhead_of(pipeline).active == 0
        valkey.resume()
        assert await client.get("name") == b"value"
        assert await client.get("count") in (None, b"1")


@pytest.mark.real_time(limit=20)
async def test_a_slow_server_is_waited_for_within_the_attempts_timeout(valkey: RedisServer) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding()
        async with client_on(proxy.port, pipeline) as client:
            await client.set("name", "value")
            proxy.slow(ATTEMPT / 4)
            assert await client.get("name") == b"value"
            proxy.slow(ATTEMPT)
            with pytest.raises(TimedOut):
                await client.incr("count")
    assert breaker_of(pipeline).consecutive_failures == 1


@pytest.mark.real_time(limit=20)
async def test_an_answer_cut_off_in_the_middle_is_a_failure_and_only_reads_are_sent_again(
    valkey: RedisServer,
) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding()
        async with client_on(proxy.port, pipeline, protocol=2, driver_info=None) as client:
            await client.set("long", "x" * 100)
            proxy.cut_after(20)
            with pytest.raises(exceptions.ConnectionError):
                await client.get("long")
            with pytest.raises(exceptions.ConnectionError):
                await client.getdel("long")
    assert (seen(valkey.port, "get"), seen(valkey.port, "getdel")) == (3, 1)
    assert breaker_of(pipeline).failures == {"ConnectionError": 4}


@pytest.mark.real_time(limit=20)
async def test_after_a_cancellation_nobody_reads_anothers_answer(valkey: RedisServer) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding(small_bulkhead())
        async with client_on(proxy.port, pipeline, max_connections=1) as client:
            await client.mset({str(number): number for number in range(20)})
            proxy.slow(0.01)
            for number in range(20):
                asking = asyncio.create_task(client.get("19"))
                await asyncio.sleep(0.002 * number)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                assert await client.get(str(number)) == str(number).encode()
    assert breaker_of(pipeline).consecutive_failures == bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=20)
async def test_a_full_bulkhead_refuses_and_the_server_hears_nothing(valkey: RedisServer) -> None:
    pipeline = guarding(small_bulkhead())
    async with client_on(valkey.port, pipeline) as client:
        await client.ping()
        valkey.pause()
        asking = asyncio.create_task(client.get("name"))
        await until(lambda: bulkhead_of(pipeline).active == 1)
        with pytest.raises(BulkheadFull):
            await client.incr("count")
        valkey.resume()
        await asking
    assert seen(valkey.port, "incrby") == 0


@pytest.mark.real_time(limit=20)
async def test_no_key_and_no_value_is_told(valkey: RedisServer, recorder: Recorder) -> None:
    pipeline = guarding()
    async with client_on(valkey.port, pipeline) as client:
        await client.set("a-key", "a-secret")
        valkey.kill()
        for _ in range(2):
            with pytest.raises((exceptions.ConnectionError, CircuitOpen)):
                await client.mset({"a-key": "a-secret"})
    told = repr(recorder.events)
    assert "retry" in told
    assert "secret" not in told
    assert "a-key" not in told


@pytest.mark.real_time(limit=20)
async def test_a_server_that_loads_its_data_is_a_failure() -> None:
    pipeline = guarding()

    async def loading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")
        writer.close()

    fake = await asyncio.start_server(loading, HOST, 0, family=socket.AF_INET)
    async with fake:
        options: dict[str, Any] = {"protocol": 2, "driver_info": None}
        async with client_on(fake.sockets[0].getsockname()[1], pipeline, **options) as client:
            with pytest.raises(exceptions.BusyLoadingError):
                await client.incr("count")
            with pytest.raises(exceptions.BusyLoadingError):
                await client.get("count")
    assert breaker_of(pipeline).failures == {"BusyLoadingError": 4}

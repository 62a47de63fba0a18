"""Guarded clients of a cluster and of Sentinel: the same funnel, and nodes that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry as NoRetries
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry as NoRetriesInThreads

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, ConfigurationError, TimedOut
from mcp_server_langgraph.resilience.integrations.redis import guard
from tests.integrations.redis_clients import (
    breaker_of,
    bulkhead_of,
    guarding,
    in_threads,
    plain,
    seen,
    small_bulkhead,
    tame,
)
from tests.support.ports import HOST
from tests.support.redis_server import RedisSentinel, RedisServer

DOWN = (redis.RedisError, redis.exceptions.RedisClusterException, CircuitOpen, TimedOut)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path, "redis", cluster_enabled="yes") as server:
        with plain(server.port) as operator:
            operator.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            give_up = time.monotonic() + 30
            while operator.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                assert time.monotonic() < give_up
                time.sleep(0.02)
        yield server


@pytest.mark.real_time(limit=30)
async def test_a_clusters_commands_and_pipelines_are_guarded(cluster: RedisServer) -> None:
    pipeline = guarding(small_bulkhead(), breaker=CircuitBreaker("redis", timeout=1.0))
    client: Any = guard(RedisCluster(**tame(cluster.port, retry=NoRetries(NoBackoff(), 0))), pipeline)
    async with client:
        assert await client.set("a", 1)
        assert await client.incr("a") == 2
        before = breaker_of(pipeline).successes
        assert await client.pipeline().incr("a").get("a").execute() == [3, b"3"]
        assert breaker_of(pipeline).successes == before + 1
        assert await client.blpop("queue", 0.4) is None
        with pytest.raises(ConfigurationError, match="socket_timeout"):
            await client.blpop("queue", 2)
        cluster.pause()
        with pytest.raises((TimedOut, redis.TimeoutError)):
            await client.incr("a")
        cluster.resume()
        cluster.kill()
        for _ in range(5):
            with contextlib.suppress(*DOWN):
                await client.get("a")
        with pytest.raises(CircuitOpen):
            await client.get("a")
        with pytest.raises(CircuitOpen):
            await client.pipeline().get("a").execute()
        cluster.start()
        await asyncio.sleep(1.1)
        async with asyncio.timeout(20):  # the cluster has to find itself again
            while True:
                with contextlib.suppress(*DOWN):
                    assert await client.get("a") in (b"3", b"4")
                    break
                await asyncio.sleep(0.1)
    assert seen(cluster.port, "incrby") == 0  # the server is a new one
    assert bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=30)
def test_in_threads_too(cluster: RedisServer) -> None:
    pipeline = in_threads(small_bulkhead())
    client: Any = guard(
        redis.RedisCluster(**tame(cluster.port, retry=NoRetriesInThreads(NoBackoff(), 0))), pipeline
    )
    with client:
        assert client.set("a", 1)
        before = breaker_of(pipeline).successes
        assert client.pipeline().incr("a").get("a").execute() == [2, b"2"]
        assert breaker_of(pipeline).successes == before + 1
        with client.pubsub() as channel:
            channel.subscribe("news")
            assert channel.get_message(timeout=10)["type"] == "subscribe"
        cluster.kill()
        with pytest.raises(DOWN):
            client.incr("a")
    assert breaker_of(pipeline).consecutive_failures == 1
    assert bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=60)
async def test_sentinels_master_is_guarded_over_a_failover(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(RedisServer(tmp_path / "master", "redis"))
        stack.enter_context(RedisServer(tmp_path / "replica", "redis", replicaof=f"{HOST} {master.port}"))
        sentinel = stack.enter_context(RedisSentinel(tmp_path / "sentinel", master))
        await sentinel.knows_a_replica()
        options = tame(0, retry=NoRetries(NoBackoff(), 0))
        del options["host"], options["port"]
        asking = Sentinel([(HOST, sentinel.port)], sentinel_kwargs=options, **options)
        pipeline = guarding(small_bulkhead(), breaker=CircuitBreaker("redis", timeout=0.2))
        client: Any = guard(asking.master_for("main"), pipeline)
        assert await client.set("name", "value")
        assert await client.wait(1, 15_000) == 1
        master.kill()
        with pytest.raises(DOWN):
            await client.get("name")
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(*DOWN):
                    assert await client.get("name") == b"value"
                    break
                await asyncio.sleep(0.1)
        assert await client.set("name", "another")
        assert breaker_of(pipeline).state == "closed"
        assert bulkhead_of(pipeline).active == 0
        await client.aclose()
        await asking.sentinels[0].aclose()

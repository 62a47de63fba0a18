"""redis-py's own pipelines and transactions: one guarded call each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from mcp_server_langgraph.resilience import CircuitOpen
from tests.integrations.redis_clients import (
    breaker_of,
    bulkhead_of,
    client_in_threads,
    client_on,
    guarding,
    in_threads,
    plain,
    seen,
    small_bulkhead,
)
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

# No greeting: what a connection is answered, and how many bytes that is, is known.
BARE: dict[str, Any] = {"protocol": 2, "driver_info": None}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.real_time(limit=20)
async def test_many_commands_are_one_call(valkey: RedisServer, transaction: bool) -> None:
    pipeline = guarding(small_bulkhead())
    async with (
        client_on(valkey.port, pipeline) as client,
        client.pipeline(transaction=transaction) as commands,
    ):
        commands.set("a", 1).incr("a").lpush("list", 1).get("list")
        answers = await commands.execute(raise_on_error=False)
        assert answers[:3] == [True, 2, 1]
        assert isinstance(answers[3], exceptions.ResponseError)
        assert await commands.execute() == []  # and nothing is left in it
    assert breaker_of(pipeline).successes == 1
    assert bulkhead_of(pipeline).active == 0


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.real_time(limit=20)
async def test_reads_are_sent_again_as_a_whole_and_others_never(
    valkey: RedisServer, transaction: bool
) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding()
        async with client_on(proxy.port, pipeline, **BARE) as client:
            await client.mset({"a": "x" * 50, "b": "y" * 50})
            proxy.cut_after(40)
            with pytest.raises(exceptions.ConnectionError):
                await client.pipeline(transaction=transaction).get("a").get("b").execute()
            with pytest.raises(exceptions.ConnectionError):
                await client.pipeline(transaction=transaction).getdel("a").get("b").execute()
            proxy.heal()
            assert await client.pipeline(transaction=transaction).get("b").set("b", "z").execute() == [
                b"y" * 50,
                True,
            ]
    assert (seen(valkey.port, "getdel"), seen(valkey.port, "get")) == (1, 3 * 2 + 1 + 1)
    assert breaker_of(pipeline).failures == {"ConnectionError": 4}


@pytest.mark.real_time(limit=20)
async def test_what_was_collected_is_gone_after_a_refusal(valkey: RedisServer) -> None:
    pipeline = guarding()
    async with client_on(valkey.port, pipeline) as client:
        commands = client.pipeline().incr("count")
        pipeline.policies[1].force_open()  # type: ignore[attr-defined]
        with pytest.raises(CircuitOpen):
            await commands.execute()
        pipeline.policies[1].reset()  # type: ignore[attr-defined]
        assert await commands.execute() == []
    assert seen(valkey.port, "incrby") == 0


@pytest.mark.real_time(limit=20)
async def test_a_transaction_begins_again_when_a_key_was_changed_and_that_is_no_failure(
    valkey: RedisServer,
) -> None:
    pipeline = guarding(small_bulkhead())
    changes = iter(range(6))
    with plain(valkey.port) as other:

        async def increase(commands: Any) -> None:
            value = int(await commands.get("count") or 0)
            if next(changes, None) is not None:
                other.incr("count")
            commands.multi()
            commands.set("count", value + 1)

        async with client_on(valkey.port, pipeline) as client:
            assert await client.transaction(increase, "count") == [True]
            assert await client.get("count") == b"7"
    assert breaker_of(pipeline).neutral == 6
    assert not breaker_of(pipeline).failures
    assert bulkhead_of(pipeline).active == 0


@pytest.mark.real_time(limit=20)
async def test_a_connection_lost_in_a_transaction_is_a_failure_and_ends_it(valkey: RedisServer) -> None:
    with TcpProxy(valkey.port) as proxy:
        pipeline = guarding()

        begun: list[str] = []

        async def cut(commands: Any) -> None:
            begun.append("once")
            await commands.get("count")
            proxy.reset()
            proxy.heal()  # a second try would get as far as here again
            await commands.get("count")

        async with client_on(proxy.port, pipeline) as client, asyncio.timeout(5):
            with pytest.raises(exceptions.ConnectionError):
                await client.transaction(cut, "count")
    assert begun == ["once"]
    assert breaker_of(pipeline).failures == {"ConnectionError": 1}


@pytest.mark.real_time(limit=20)
def test_in_threads_many_commands_are_one_call_too(valkey: RedisServer) -> None:
    pipeline = in_threads(small_bulkhead())
    with TcpProxy(valkey.port) as proxy, client_in_threads(proxy.port, pipeline, **BARE) as client:
        with client.pipeline() as commands:
            assert commands.set("a", "x" * 50).incr("count").execute() == [True, 1]
            assert commands.execute() == []
        assert client.transaction(lambda commands: commands.multi() or commands.incr("count"), "count") == [2]
        before = seen(valkey.port, "get")
        proxy.cut_after(20)
        for commands in (client.pipeline().get("a"), client.pipeline().getdel("a")):
            with pytest.raises(exceptions.ConnectionError):
                commands.execute()
        proxy.heal()

        def cut(commands: Any) -> None:
            proxy.reset()
            commands.get("count")

        with pytest.raises(exceptions.ConnectionError):
            client.transaction(cut, "count")
    assert (seen(valkey.port, "get") - before, seen(valkey.port, "getdel")) == (3, 1)
    assert breaker_of(pipeline).failures == {"ConnectionError": 5}
    assert bulkhead_of(pipeline).active == 0

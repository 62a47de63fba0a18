"""Sessions on a real server of the Redis protocol: kept, found and told apart, and how often it is asked."""

import asyncio

import pytest

from mcp_server_langgraph.auth.session import LimitReached, SessionLimits, SessionsUnavailable
from mcp_server_langgraph.resilience import collect_degradations, registry
from tests.auth.redis_sessions import key, opened, plain, said, texts
from tests.support.ports import HOST
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.real_time


async def test_a_conversation_is_kept_read_and_found(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await store.append("c", "ann", said("the weather in Bern"))
        kept = await store.append("c", "ann", said("and in Rome?"))
        assert kept.durable
        assert texts(kept) == ["the weather in Bern", "and in Rome?"]
        assert await store.get("c", "ann") == kept
        assert await store.get("nothing", "ann") is None
        hits = await store.search("ann", "ROME weather")
        assert [hit.snippet for hit in hits] == ["and in Rome?", "the weather in Bern"]
        assert await store.search("bob", "weather") == []
        assert not store.degraded


async def test_a_long_search_finds_everything_and_is_no_failure(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        for number in range(45):
            await store.append(f"c{number}", "ann", said(f"topic {number}", "x" * 5_000))
        with collect_degradations() as notes:
            hits = await store.search("ann", "topic", limit=100)
        assert len({hit.conversation_id for hit in hits}) == 45
        assert notes == []


async def test_a_key_of_the_wrong_kind_does_not_spoil_a_search(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
        await store.append("good", "ann", said("topic"))
        await store.append("bad", "ann", said("topic"))
        await redis.set(key("bad"), "not a hash")
        assert [hit.conversation_id for hit in await store.search("ann", "topic")] == ["good"]


async def test_another_instance_sees_it(valkey: RedisServer) -> None:
    async with opened(valkey.url) as one, opened(valkey.url) as other:
        await one.append("c", "ann", said("first"))
        assert texts(await other.append("c", "ann", said("second"))) == ["first", "second"]
        assert texts(await one.get("c", "ann")) == ["first", "second"]


async def test_two_owners_may_use_one_id_and_never_meet(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await store.append("c", "ann", said("mine"))
        for instance in (store, other):
            assert await instance.get("c", "bob") is None
        await other.append("c", "bob", said("not yours"))
        assert texts(await other.get("c", "ann")) == ["mine"]
        assert texts(await store.get("c", "bob")) == ["not yours"]


async def test_keys_expire_and_carry_the_namespace(valkey: RedisServer) -> None:
    async with opened(valkey.url, ttl=100.0, namespace="app") as store, plain(valkey) as redis:
        await store.append("c", "ann", said("hello"))
        keys = {name.decode() for name in await redis.keys("*")}
        assert keys == {key("c", namespace="app"), key("", namespace="app").removesuffix(":") + "s"}
        for each in keys:
            assert 99_000 < await redis.pttl(each) <= 100_000


@pytest.mark.parametrize("extend", [False, True])
async def test_a_reading_extends_the_time_where_it_is_asked_to(valkey: RedisServer, extend: bool) -> None:
    index = key("").removesuffix(":") + "s"
    async with opened(valkey.url, ttl=100.0, extend_on_read=extend) as store, plain(valkey) as redis:
        await store.append("c", "ann", said("hello"))
        await redis.zadd(index, {"c": 1})
        for name in (key("c"), index):
            await redis.pexpire(name, 50_000)
        assert texts(await store.get("c", "ann")) == ["hello"]
        for name in (key("c"), index):
            assert (await redis.pttl(name) > 50_000) == extend
        score = await redis.zscore(index, "c")
        assert score is not None
        assert (score > 1) == extend


async def test_a_conversation_that_redis_threw_out_does_not_count(valkey: RedisServer) -> None:
    async with opened(valkey.url, limits=SessionLimits(conversations=2)) as store, plain(valkey) as redis:
        for name in ("a", "b"):
            await store.append(name, "ann", said("hello"))
        await redis.delete(key("a"))
        await store.append("c", "ann", said("has its room"))
        with pytest.raises(LimitReached):
            await store.append("d", "ann", said("has none"))


async def test_a_message_that_cannot_be_read_does_not_take_the_conversation_with_it(
    valkey: RedisServer,
) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
        await store.append("c", "ann", said("good"))
        await redis.hset(key("c"), "message:bad", b"\xff not json")
    async with opened(valkey.url) as other:
        kept = await other.get("c", "ann")
        assert texts(kept) == ["good"]
        assert kept is not None
        await other.append("c", "ann", said("goes on"), expected_version=kept.version)


async def test_one_operation_is_one_connection_on_the_wire_when_everything_is_reset(proxy: TcpProxy) -> None:
    registry.reload({"REDIS_RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        proxy.reset()
        before = proxy.connections
        with pytest.raises(SessionsUnavailable):
            await store.get("c", "ann")
        assert proxy.connections - before == 1


async def test_the_layer_alone_decides_how_often_redis_is_asked(proxy: TcpProxy) -> None:
    registry.reload(
        {"REDIS_RETRY_STOP_AFTER_ATTEMPT": "3", "REDIS_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01"}
    )
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        proxy.reset()
        before = proxy.connections
        with pytest.raises(SessionsUnavailable):
            await store.get("c", "ann")
        assert proxy.connections - before == 3


async def test_a_cancelled_call_leaves_the_connections_in_order(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await store.append("a", "ann", said("of a"))
        await store.append("b", "ann", said("of b"))
        for _ in range(30):
            call = asyncio.create_task(store.get("a", "ann"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            assert texts(await store.get("b", "ann")) == ["of b"]

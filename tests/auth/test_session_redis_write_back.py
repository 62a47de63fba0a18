"""What was said in an outage of Redis is written back: whole, once, and soon."""

from typing import Any

import pytest

from mcp_server_langgraph.auth.session import Conversation, SessionError
from mcp_server_langgraph.resilience import current_deadline, registry, timeout
from tests.auth.redis_sessions import breaker_of, key, opened, plain, said, texts, turn
from tests.support.eventually import until
from tests.support.ports import HOST
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.real_time


async def test_after_the_restart_the_conversation_is_whole_there(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await turn(store, "before")
        server.kill()
        for text in ("one", "two", "three"):
            await turn(store, text)
        assert store.pending == 3
        server.start()
        await until(lambda: not store.pending and not store.degraded)
        kept, notes, _ = await turn(store, "after")
        assert kept.durable
        assert notes == []
    async with opened(server.url) as other:
        assert texts(await other.get("c", "ann")) == ["before", "one", "two", "three", "after"]


async def test_an_open_breaker_does_not_delay_the_write_back_for_its_whole_open_time(
    valkey: RedisServer,
) -> None:
    async with opened(valkey.url) as store:
        await turn(store, "before")
        valkey.kill()
        for number in range(6):
            await turn(store, str(number))
        assert breaker_of(store).state == "open"
        valkey.start()
        await until(lambda: not store.pending, within=8.0)
        assert breaker_of(store).state == "closed"


async def test_two_instances_write_their_outages_back_into_one_conversation(valkey: RedisServer) -> None:
    async with opened(valkey.url) as one, opened(valkey.url) as other:
        await one.append("c", "ann", said("before"))
        await other.get("c", "ann")
        valkey.kill()
        await one.append("c", "ann", said("one"))
        await other.append("c", "ann", said("two"))
        await one.append("c", "ann", said("three"))
        valkey.start()
        await until(lambda: not one.pending and not other.pending)
        assert texts(await one.get("c", "ann")) == ["before", "one", "two", "three"]
        assert texts(await other.get("c", "ann")) == ["before", "one", "two", "three"]


async def test_a_read_right_after_the_outage_does_not_lose_what_still_waits(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await turn(store, "before")
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        valkey.start()
        registry.breakers()["redis"].reset()
        assert texts(await store.get("c", "ann")) == ["before", "in the outage"]
        assert texts(await store.append("c", "ann", said("after"))) == ["before", "in the outage", "after"]


async def test_what_joins_the_backlog_during_a_write_back_is_written_too(proxy: TcpProxy) -> None:
    registry.reload({"REDIS_ATTEMPT_TIMEOUT": "2"})
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        proxy.refuse()
        await store.append("c", "ann", said("one"))
        proxy.heal()
        proxy.slow(0.1)
        before = proxy.bytes_up
        await until(lambda: proxy.bytes_up > before)
        await store.append("c", "ann", said("two"))
        assert store.pending == 2
        await until(lambda: not store.pending)
        proxy.slow(0)
        assert texts(await store.get("c", "ann")) == ["one", "two"]


async def test_outage_after_outage_nothing_is_lost(valkey: RedisServer) -> None:
    expected = []
    async with opened(valkey.url) as store:
        for number in range(3):
            expected += [f"up {number}", f"down {number}"]
            await turn(store, f"up {number}")
            valkey.kill()
            await turn(store, f"down {number}")
            valkey.start()
            registry.breakers()["redis"].reset()
            await until(lambda: not store.pending and not store.degraded)
    async with opened(valkey.url) as other:
        assert texts(await other.get("c", "ann")) == expected


async def test_what_redis_acknowledged_and_lost_is_written_again(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
        first, second = said("kept on disk", "lost with the last second")
        await store.append("c", "ann", [first])
        await store.append("c", "ann", [second])
        await redis.hdel(key("c"), f"message:{second.id}")
        assert texts(await store.get("c", "ann")) == ["kept on disk", "lost with the last second"]
        await until(lambda: not store.pending)
    async with opened(valkey.url) as other:
        assert texts(await other.get("c", "ann")) == ["kept on disk", "lost with the last second"]


async def test_what_redis_lost_in_the_outage_is_written_back_with_the_rest(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        (first,) = said("acknowledged and lost")
        await store.append("c", "ann", [first])
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        valkey.start()
        async with plain(valkey) as redis:
            await redis.hdel(key("c"), f"message:{first.id}")
        await store._write_back()
        assert not store.pending
    async with opened(valkey.url) as other:
        assert texts(await other.get("c", "ann")) == ["acknowledged and lost", "in the outage"]


async def test_one_conversation_that_redis_refuses_does_not_hold_up_the_others(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        async with plain(valkey) as redis:
            await redis.set(key("wrong"), "not a hash")
        valkey.kill()
        await store.append("wrong", "ann", said("stuck"))
        await store.append("right", "ann", said("fine"))
        valkey.start()
        await until(lambda: store.pending == 1)
        assert texts(await store.get("right", "ann")) == ["fine"]
        async with plain(valkey) as redis:
            await redis.delete(key("wrong"))
        await until(lambda: not store.pending)


async def test_closing_writes_what_still_waits(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        valkey.kill()
        await store.append("c", "ann", said("almost lost"))
        valkey.start()
    async with opened(valkey.url) as other:
        assert texts(await other.get("c", "ann")) == ["almost lost"]


async def test_the_write_back_is_not_bound_by_the_deadline_of_the_request_that_began_it(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(valkey.url) as store:
        bound: list[bool] = []
        write = store._redis.append

        async def watched(*args: Any, **kwargs: Any) -> Conversation | SessionError:
            deadline = current_deadline()
            bound.append(deadline is not None and deadline.parent is not None)
            return await write(*args, **kwargs)

        valkey.kill()
        async with timeout(10):
            await store.append("c", "ann", said("hello"))
            monkeypatch.setattr(store._redis, "append", watched)
            valkey.start()
            await until(lambda: not store.pending)
        assert bound
        assert not any(bound)


async def test_an_append_after_the_outage_takes_along_what_waits(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await turn(store, "before")
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        valkey.start()
        kept = await store.append("c", "ann", said("after"))
        assert kept.durable
        assert store.pending == 0
    async with opened(valkey.url) as other:
        assert texts(await other.get("c", "ann")) == ["before", "in the outage", "after"]

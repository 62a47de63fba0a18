"""Sessions on a real server of the Redis protocol that is killed, hung, cut off and restarted."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from mcp_server_langgraph.auth.session import (
    Conversation,
    ConversationNotOwned,
    InMemorySessionStore,
    RedisSessionStore,
    SessionsUnavailable,
    StoredMessage,
)
from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    Degradation,
    Pipeline,
    collect_degradations,
    current_deadline,
    registry,
    timeout,
)
from tests.support.eventually import until
from tests.support.ports import HOST, free_port
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.real_time

# What one turn may cost beyond the model's own time.
TURN = 0.5


@pytest.fixture
def proxy(valkey: RedisServer) -> Iterator[TcpProxy]:
    with TcpProxy(valkey.port) as running:
        yield running


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[RedisSessionStore]:
    store = RedisSessionStore(url, Pipeline.standard("redis"), **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.aclose()


def said(*texts: str) -> list[StoredMessage]:
    return [StoredMessage.new("user", text) for text in texts]


def texts(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    return [message.content for message in conversation.messages]


async def turn(store: RedisSessionStore, text: str) -> tuple[Conversation, Sequence[Degradation], float]:
    """What the agent does in one turn, without the model: read the history, keep what was said."""
    began = time.perf_counter()
    with collect_degradations() as notes:
        await store.get("c")
        kept = await store.append("c", "ann", said(text))
    return kept, notes, time.perf_counter() - began


def breaker_of(store: RedisSessionStore) -> CircuitBreaker:
    return registry.breakers()["redis"]


async def test_a_conversation_is_kept_read_and_found(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await store.append("c", "ann", said("the weather in Bern"))
        kept = await store.append("c", "ann", said("and in Rome?"))
        assert kept.durable
        assert texts(kept) == ["the weather in Bern", "and in Rome?"]
        assert await store.get("c") == kept
        assert await store.get("nothing") is None
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
    async with opened(valkey.url) as store, _plain(valkey) as redis:
        await store.append("good", "ann", said("topic"))
        await store.append("bad", "ann", said("topic"))
        await redis.set("mcp:conversation:bad", "not a hash")
        assert [hit.conversation_id for hit in await store.search("ann", "topic")] == ["good"]


async def test_another_instance_sees_it(valkey: RedisServer) -> None:
    async with opened(valkey.url) as one, opened(valkey.url) as other:
        await one.append("c", "ann", said("first"))
        assert texts(await other.append("c", "ann", said("second"))) == ["first", "second"]
        assert texts(await one.get("c")) == ["first", "second"]


async def test_nobody_adds_to_a_strangers_conversation(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await store.append("c", "ann", said("mine"))
        for instance in (store, other):
            with pytest.raises(ConversationNotOwned):
                await instance.append("c", "bob", said("not mine"))
        assert texts(await store.get("c")) == ["mine"]


async def test_keys_expire_and_carry_the_namespace(valkey: RedisServer) -> None:
    async with opened(valkey.url, ttl=100.0, namespace="app") as store, _plain(valkey) as redis:
        await store.append("c", "ann", said("hello"))
        keys = {name.decode() for name in await redis.keys("*")}
        assert keys == {"app:conversation:c", "app:owner:ann"}
        for key in keys:
            assert 99_000 < await redis.pttl(key) <= 100_000


async def test_a_message_that_cannot_be_read_does_not_take_the_conversation_with_it(
    valkey: RedisServer,
) -> None:
    async with opened(valkey.url) as store, _plain(valkey) as redis:
        await store.append("c", "ann", said("good"))
        await redis.hset("mcp:conversation:c", "message:bad", b"\xff not json")
    async with opened(valkey.url) as other:
        assert texts(await other.get("c")) == ["good"]


async def test_after_kill_9_the_next_turn_is_answered_in_time_and_says_why(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await turn(store, "before")
        server.kill()
        kept, notes, seconds = await turn(store, "in the outage")
        assert seconds < TURN
        assert texts(kept) == ["before", "in the outage"]
        assert not kept.durable
        assert store.pending == 1
        assert {(note.service, note.reason) for note in notes} == {("redis", "ConnectionError")}
        assert all("single-instance, not durable" in note.source for note in notes)


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
        assert texts(await other.get("c")) == ["before", "one", "two", "three", "after"]


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


async def test_a_hung_server_costs_a_turn_less_than_half_a_second(server: RedisServer) -> None:
    async with opened(server.url) as store:
        await turn(store, "before")
        server.pause()
        try:
            for text in ("one", "two"):
                kept, notes, seconds = await turn(store, text)
                assert seconds < TURN
                assert not kept.durable
                assert notes
            await until(lambda: breaker_of(store).state == "open")
            began = time.perf_counter()
            await turn(store, "three")
            assert time.perf_counter() - began < 0.1
        finally:
            server.resume()
        await until(lambda: not store.pending and not store.degraded)
        assert texts(await store.get("c")) == ["before", "one", "two", "three"]


async def test_the_loop_is_never_blocked_while_redis_hangs(valkey: RedisServer) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)

    async with opened(valkey.url) as store:
        await turn(store, "before")
        valkey.pause()
        watcher = asyncio.create_task(watch())
        try:
            await turn(store, "in the outage")
        finally:
            watcher.cancel()
            valkey.resume()
        await until(lambda: not store.pending)
    assert longest < 0.15


@pytest.mark.parametrize("fault", ["black_hole", "reset", "refuse"])
async def test_a_cut_network_costs_a_turn_less_than_half_a_second(proxy: TcpProxy, fault: str) -> None:
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        await turn(store, "before")
        getattr(proxy, fault)()
        kept, notes, seconds = await turn(store, "in the outage")
        assert seconds < TURN
        assert not kept.durable
        assert notes
        proxy.heal()
        await until(lambda: not store.pending and not store.degraded)
        assert texts(await store.get("c")) == ["before", "in the outage"]


async def test_a_reply_cut_in_the_middle_loses_and_doubles_nothing(proxy: TcpProxy) -> None:
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        await turn(store, "before")
        proxy.cut_after(40)
        kept, _, _ = await turn(store, "said once")
        assert not kept.durable
        proxy.heal()
        await until(lambda: not store.pending and not store.degraded)
        assert texts(await store.get("c")) == ["before", "said once"]


async def test_one_operation_is_one_connection_on_the_wire_when_everything_is_reset(proxy: TcpProxy) -> None:
    registry.reload({"REDIS_RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        proxy.reset()
        before = proxy.connections
        with pytest.raises(SessionsUnavailable):
            await store.get("c")
        assert proxy.connections - before == 1


async def test_the_layer_alone_decides_how_often_redis_is_asked(proxy: TcpProxy) -> None:
    registry.reload(
        {"REDIS_RETRY_STOP_AFTER_ATTEMPT": "3", "REDIS_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01"}
    )
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        proxy.reset()
        before = proxy.connections
        with pytest.raises(SessionsUnavailable):
            await store.get("c")
        assert proxy.connections - before == 3


async def test_a_conversation_that_only_another_instance_knows_cannot_be_read_in_the_outage(
    valkey: RedisServer,
) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await other.append("c", "ann", said("elsewhere"))
        valkey.kill()
        with pytest.raises(SessionsUnavailable):
            await store.get("c")


async def test_conversations_begin_and_are_searched_in_the_outage(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        valkey.kill()
        await store.append("new", "ann", said("begun without Redis"))
        assert texts(await store.get("new")) == ["begun without Redis"]
        assert [hit.conversation_id for hit in await store.search("ann", "begun")] == ["new"]
        with pytest.raises(ConversationNotOwned):
            await store.append("new", "bob", said("not mine"))
        valkey.start()
        await until(lambda: not store.pending)
    async with opened(valkey.url) as other:
        assert texts(await other.get("new")) == ["begun without Redis"]


async def test_two_instances_write_their_outages_back_into_one_conversation(valkey: RedisServer) -> None:
    async with opened(valkey.url) as one, opened(valkey.url) as other:
        await one.append("c", "ann", said("before"))
        await other.get("c")
        valkey.kill()
        await one.append("c", "ann", said("one"))
        await other.append("c", "ann", said("two"))
        await one.append("c", "ann", said("three"))
        valkey.start()
        await until(lambda: not one.pending and not other.pending)
        assert texts(await one.get("c")) == ["before", "one", "two", "three"]
        assert texts(await other.get("c")) == ["before", "one", "two", "three"]


async def test_a_read_right_after_the_outage_does_not_lose_what_still_waits(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await turn(store, "before")
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        valkey.start()
        registry.breakers()["redis"].reset()
        assert texts(await store.get("c")) == ["before", "in the outage"]
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
        assert texts(await store.get("c")) == ["one", "two"]


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
        assert texts(await other.get("c")) == expected


async def test_what_redis_acknowledged_and_lost_is_written_again(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, _plain(valkey) as redis:
        first, second = said("kept on disk", "lost with the last second")
        await store.append("c", "ann", [first])
        await store.append("c", "ann", [second])
        await redis.hdel("mcp:conversation:c", f"message:{second.id}")
        assert texts(await store.get("c")) == ["kept on disk", "lost with the last second"]
        await until(lambda: not store.pending)
    async with opened(valkey.url) as other:
        assert texts(await other.get("c")) == ["kept on disk", "lost with the last second"]


async def test_more_than_may_wait_is_refused_not_forgotten(valkey: RedisServer) -> None:
    async with opened(valkey.url, max_pending=2) as store:
        valkey.kill()
        await store.append("c", "ann", said("one", "two"))
        with pytest.raises(SessionsUnavailable):
            await store.append("c", "ann", said("three"))
        assert store.pending == 2
        assert texts(await store.get("c")) == ["one", "two"]
        valkey.start()


async def test_one_conversation_that_redis_refuses_does_not_hold_up_the_others(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        async with _plain(valkey) as redis:
            await redis.set("mcp:conversation:wrong", "not a hash")
        valkey.kill()
        await store.append("wrong", "ann", said("stuck"))
        await store.append("right", "ann", said("fine"))
        valkey.start()
        await until(lambda: store.pending == 1)
        assert texts(await store.get("right")) == ["fine"]
        async with _plain(valkey) as redis:
            await redis.delete("mcp:conversation:wrong")
        await until(lambda: not store.pending)


async def test_closing_writes_what_still_waits(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        valkey.kill()
        await store.append("c", "ann", said("almost lost"))
        valkey.start()
    async with opened(valkey.url) as other:
        assert texts(await other.get("c")) == ["almost lost"]


async def test_closing_without_redis_says_what_is_lost(
    valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(valkey.url) as store:
        valkey.kill()
        await store.append("c", "ann", said("a secret", "another secret"))
    assert "2 messages could not be written to Redis" in caplog.text
    assert "secret" not in caplog.text


async def test_a_server_that_may_not_write_to_its_disk_is_an_outage(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with opened(valkey.url) as store, _plain(valkey) as redis:
        await redis.config_set("min-replicas-to-write", 1)
        kept = await store.append("c", "ann", said("hello"))
        assert not kept.durable
        await redis.config_set("min-replicas-to-write", 0)
        await until(lambda: not store.pending)


async def test_with_the_switch_off_there_is_no_fallback(valkey: RedisServer) -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    async with opened(valkey.url) as store:
        await store.append("c", "ann", said("hello"))
        valkey.kill()
        with pytest.raises(SessionsUnavailable):
            await store.append("c", "ann", said("lost"))
        assert store.pending == 0
        assert breaker_of(store).state == "closed"


async def test_a_cancelled_call_leaves_the_connections_in_order(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await store.append("a", "ann", said("of a"))
        await store.append("b", "ann", said("of b"))
        for _ in range(30):
            call = asyncio.create_task(store.get("a"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            assert texts(await store.get("b")) == ["of b"]


async def test_the_write_back_is_not_bound_by_the_deadline_of_the_request_that_began_it(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(valkey.url) as store:
        bound: list[bool] = []
        write = store._redis.append

        async def watched(*args: Any) -> Conversation | None:
            deadline = current_deadline()
            bound.append(deadline is not None and deadline.parent is not None)
            return await write(*args)

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
        assert texts(await other.get("c")) == ["before", "in the outage", "after"]


async def test_a_store_on_nothing_at_all_starts_and_serves(tmp_path: Path) -> None:
    memory = InMemorySessionStore()
    async with opened(f"redis://{HOST}:{free_port()}", fallback=memory) as store:
        kept, notes, seconds = await turn_on_new(store)
        assert seconds < TURN
        assert not kept.durable
        assert notes
        assert await memory.get("c") is not None


async def turn_on_new(store: RedisSessionStore) -> tuple[Conversation, Sequence[Degradation], float]:
    began = time.perf_counter()
    with collect_degradations() as notes:
        kept = await store.append("c", "ann", said("hello"))
    return kept, notes, time.perf_counter() - began


@asynccontextmanager
async def _plain(server: RedisServer) -> AsyncIterator[Redis]:
    redis: Redis = Redis.from_url(server.url)
    try:
        yield redis
    finally:
        await redis.aclose()

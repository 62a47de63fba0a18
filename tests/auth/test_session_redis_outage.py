"""Sessions while Redis is killed, hung, cut off or read-only: what a turn costs, and what it says."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from mcp_server_langgraph.auth.session import (
    Conversation,
    InMemorySessionStore,
    RedisSessionStore,
    SessionsUnavailable,
)
from mcp_server_langgraph.resilience import Degradation, collect_degradations, registry
from tests.auth.redis_sessions import TURN, breaker_of, in_a_hurry, opened, patient, plain, said, texts, turn
from tests.support.eventually import until
from tests.support.ports import HOST, free_port
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.real_time


async def test_after_kill_9_the_next_turn_is_answered_in_time_and_says_why(server: RedisServer) -> None:
    async with in_a_hurry(server.url) as store:
        with patient(store):
            await turn(store, "before")
        server.kill()
        kept, notes, seconds = await turn(store, "in the outage")
        assert seconds < TURN
        assert texts(kept) == ["before", "in the outage"]
        assert not kept.durable
        assert store.pending == 1
        assert {note.service for note in notes} == {"redis"}
        assert notes[0].reason == "ConnectionError"
        assert all("single-instance, not durable" in note.source for note in notes)


async def test_a_hung_server_costs_a_turn_less_than_half_a_second(server: RedisServer) -> None:
    async with in_a_hurry(server.url) as store:
        with patient(store):
            await turn(store, "before")
        server.pause()
        try:
            for text in ("one", "two"):
                kept, notes, seconds = await turn(store, text)
                assert seconds < TURN
                assert not kept.durable
                assert notes
            await until(lambda: breaker_of(store).state == "open")
            began = asyncio.get_running_loop().time()
            await turn(store, "three")
            assert asyncio.get_running_loop().time() - began < 0.1
        finally:
            server.resume()
        await until(lambda: not store.pending and not store.degraded)
        assert texts(await store.get("c", "ann")) == ["before", "one", "two", "three"]


async def test_the_loop_is_never_blocked_while_redis_hangs(valkey: RedisServer) -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(0.001)
            longest = max(longest, asyncio.get_running_loop().time() - began)

    async with in_a_hurry(valkey.url) as store:
        with patient(store):
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
    async with in_a_hurry(f"redis://{HOST}:{proxy.port}") as store:
        with patient(store):
            await turn(store, "before")
        getattr(proxy, fault)()
        kept, notes, seconds = await turn(store, "in the outage")
        assert seconds < TURN
        assert not kept.durable
        assert notes
        proxy.heal()
        await until(lambda: not store.pending and not store.degraded)
        assert texts(await store.get("c", "ann")) == ["before", "in the outage"]


async def test_a_reply_cut_in_the_middle_loses_and_doubles_nothing(proxy: TcpProxy) -> None:
    async with opened(f"redis://{HOST}:{proxy.port}") as store:
        await turn(store, "before")
        proxy.cut_after(40)
        kept, _, _ = await turn(store, "said once")
        assert not kept.durable
        proxy.heal()
        await until(lambda: not store.pending and not store.degraded)
        assert texts(await store.get("c", "ann")) == ["before", "said once"]


async def test_a_conversation_that_only_another_instance_knows_cannot_be_read_in_the_outage(
    valkey: RedisServer,
) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await other.append("c", "ann", said("elsewhere"))
        valkey.kill()
        with pytest.raises(SessionsUnavailable):
            await store.get("c", "ann")


async def test_conversations_begin_and_are_searched_in_the_outage(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        valkey.kill()
        await store.append("new", "ann", said("begun without Redis"))
        assert texts(await store.get("new", "ann")) == ["begun without Redis"]
        assert [hit.conversation_id for hit in await store.search("ann", "begun")] == ["new"]
        await store.append("new", "bob", said("another's of the same name"))
        valkey.start()
        await until(lambda: not store.pending)
    async with opened(valkey.url) as other:
        assert texts(await other.get("new", "ann")) == ["begun without Redis"]
        assert texts(await other.get("new", "bob")) == ["another's of the same name"]


async def test_more_than_may_wait_is_refused_not_forgotten(valkey: RedisServer) -> None:
    async with opened(valkey.url, max_pending=2) as store:
        valkey.kill()
        await store.append("c", "ann", said("one", "two"))
        with pytest.raises(SessionsUnavailable):
            await store.append("c", "ann", said("three"))
        assert store.pending == 2
        assert texts(await store.get("c", "ann")) == ["one", "two"]
        valkey.start()


async def test_closing_without_redis_says_what_is_lost(
    valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(valkey.url) as store:
        valkey.kill()
        await store.append("c", "ann", said("a secret", "another secret"))
    assert "2 messages could not be written to Redis" in caplog.text
    assert "secret" not in caplog.text


async def test_one_user_cannot_fill_the_memory_for_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = f"redis://{HOST}:{free_port()}"
    bounds = {"max_pending_bytes": 30_000, "max_pending_bytes_of_owner": 10_000}
    async with opened(nowhere, **bounds) as store:
        await store.append("c", "ann", said("x" * 8_000))
        with pytest.raises(SessionsUnavailable):
            await store.append("d", "ann", said("x" * 8_000))
        assert not (await store.append("c", "bob", said("x" * 8_000))).durable
        assert store.pending == 2
        assert 16_000 < store.bytes < 40_000
    assert "1 messages (8" in caplog.text


async def test_a_server_that_may_not_write_to_its_disk_is_an_outage(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
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


async def test_a_store_on_nothing_at_all_starts_and_serves(tmp_path: Path) -> None:
    memory = InMemorySessionStore()
    async with in_a_hurry(f"redis://{HOST}:{free_port()}", fallback=memory) as store:
        kept, notes, seconds = await turn_on_new(store)
        assert seconds < TURN
        assert not kept.durable
        assert notes
        assert await memory.get("c", "ann") is not None


async def turn_on_new(store: RedisSessionStore) -> tuple[Conversation, Sequence[Degradation], float]:
    began = asyncio.get_running_loop().time()
    with collect_degradations() as notes:
        kept = await store.append("c", "ann", said("hello"))
    return kept, notes, asyncio.get_running_loop().time() - began

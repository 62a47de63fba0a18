"""Versions, limits and deletion while Redis is down, and what becomes of them when it returns."""

import pytest

from mcp_server_langgraph.auth.session import (
    ConversationConflict,
    ConversationDeleted,
    LimitReached,
    SessionLimits,
    SessionsUnavailable,
)
from tests.auth.redis_sessions import opened, plain, said, texts
from tests.support.eventually import until
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_time


async def test_in_an_outage_the_version_goes_on_and_is_still_checked(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await store.append("c", "ann", said("before"))
        valkey.kill()
        kept = await store.append("c", "ann", said("in the outage"), expected_version=1)
        assert kept.version == 2
        with pytest.raises(ConversationConflict):
            await store.append("c", "ann", said("overtaken"), expected_version=1)
        valkey.start()
        await until(lambda: not store.pending)
        assert (await store.append("c", "ann", said("after"), expected_version=2)).version == 3


async def test_an_append_that_takes_along_what_waits_is_judged_by_the_whole(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await store.append("c", "ann", said("before"))
        valkey.kill()
        kept = await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        valkey.start()
        with pytest.raises(ConversationConflict):
            await store.append("c", "ann", said("overtaken"), expected_version=1)
        kept = await store.append("c", "ann", said("after"), expected_version=kept.version)
        assert texts(kept) == ["before", "in the outage", "after"]
        assert kept.durable


async def test_limits_hold_in_an_outage(valkey: RedisServer) -> None:
    async with opened(valkey.url, limits=SessionLimits(conversations=1, messages=2)) as store:
        await store.append("c", "ann", said("before"))
        valkey.kill()
        kept = await store.append("c", "ann", said("in the outage"))
        with pytest.raises(LimitReached, match="more than 2 messages"):
            await store.append("c", "ann", said("too many"))
        with pytest.raises(LimitReached):
            await store.ensure_room("ann", kept)
        for refused in (store.ensure_room("ann", None), store.append("d", "ann", said("another"))):
            with pytest.raises(LimitReached, match="all 1 conversations"):
                await refused
        assert store.pending == 1
        valkey.start()
        await until(lambda: not store.pending)


async def test_what_was_accepted_is_written_back_whatever_the_limits_say(valkey: RedisServer) -> None:
    limits = SessionLimits(conversations=1, messages=2)
    async with (
        opened(valkey.url, limits=limits) as store,
        opened(valkey.url, limits=limits) as other,
        opened(valkey.url, limits=limits) as third,
    ):
        valkey.kill()
        await store.append("c", "ann", said("one", "two"))
        await other.append("c", "ann", said("three", "four"))
        await third.append("d", "ann", said("five"))
        valkey.start()
        await until(lambda: not (store.pending or other.pending or third.pending))
        assert texts(await store.get("c", "ann")) == ["one", "two", "three", "four"]
        assert texts(await store.get("d", "ann")) == ["five"]


async def test_a_deletion_that_cannot_be_done_is_an_error_and_deletes_nothing(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await store.append("c", "ann", said("hello"))
        valkey.kill()
        for deletion in (store.delete("c", "ann"), store.delete_all("ann")):
            with pytest.raises(SessionsUnavailable):
                await deletion
        assert texts(await store.append("c", "ann", said("again"))) == ["hello", "again"]
        valkey.start()
        await until(lambda: not store.pending)


async def test_what_waits_of_a_deleted_conversation_is_dropped(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await store.append("c", "ann", said("before"))
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        valkey.start()
        assert await other.delete("c", "ann")
        with pytest.raises(ConversationDeleted):
            await store.append("c", "ann", said("late"))
        assert store.pending == 0
        assert await store.get("c", "ann") is None


async def test_the_write_back_does_not_bring_a_deleted_conversation_back(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await store.append("c", "ann", said("before"))
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        valkey.start()
        assert await other.delete_all("ann") == 1
        await store._write_back()
        assert store.pending == 0
        assert await store.get("c", "ann") is None
        assert await store.search("ann", "before outage") == []


@pytest.mark.parametrize("everything", [False, True])
async def test_what_only_waits_can_be_deleted_too(valkey: RedisServer, everything: bool) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        valkey.start()
        assert await (store.delete_all("ann") if everything else store.delete("c", "ann"))
        assert store.pending == 0
        with pytest.raises(ConversationDeleted):
            await other.append("c", "ann", said("still on its way elsewhere"))


async def test_what_waits_of_a_conversation_without_a_copy_can_be_deleted_too(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await store.append("c", "ann", said("before"))
        valkey.kill()
        await store.append("c", "ann", said("in the outage"))
        await store._recovery.stop()
        store._held.memory.discard("c", "ann")
        valkey.start()
        async with plain(valkey) as redis:
            await redis.flushall()
        assert await store.delete("c", "ann")
        with pytest.raises(ConversationDeleted):
            await other.append("c", "ann", said("still on its way elsewhere"))


async def test_a_deleted_conversation_stays_deleted_in_an_outage(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store:
        await store.append("c", "ann", said("hello"))
        await store.delete("c", "ann")
        valkey.kill()
        assert await store.get("c", "ann") is None
        with pytest.raises(ConversationDeleted):
            await store.append("c", "ann", said("late"))
        valkey.start()


async def test_a_conversation_that_another_instance_deleted_is_not_healed_from_memory(
    valkey: RedisServer,
) -> None:
    async with opened(valkey.url) as store, opened(valkey.url) as other:
        await store.append("c", "ann", said("hello"))
        await other.delete("c", "ann")
        with pytest.raises(ConversationDeleted):
            await store.append("c", "ann", said("late"))
        assert store.pending == 0
        assert await store.get("c", "ann") is None

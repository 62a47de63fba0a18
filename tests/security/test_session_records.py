"""Records that somebody put into Redis to harm: they show nothing, and harm nobody but their place."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server_langgraph.auth.owners import owner_tag
from mcp_server_langgraph.auth.session import ConversationNotOwned, SessionDamaged, StoredMessage
from tests.auth.redis_sessions import key, opened, plain, said, texts
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_time


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "data", "valkey") as running:
        yield running


MESSAGE = {"id": "a", "role": "user", "content": "x", "created_at": 1.0}
POISONS: list[dict[str, str]] = [
    {"owner": "ann", "count": "1", "message:a": text}
    for text in (
        "not json",
        "[" * 100_000,
        '{"id": 1}',
        json.dumps({**MESSAGE, "created_at": "NaN"}),
        json.dumps(MESSAGE).replace("1.0", "1e999"),
        json.dumps({**MESSAGE, "tool_calls": ["x"]}),
        json.dumps({**MESSAGE, "name": {}}),
    )
] + [{"owner": "ann", "count": "-7", "bytes": "x"}, {"owner": "ann", "count": "many"}]


@pytest.mark.parametrize("poison", POISONS)
async def test_a_poisoned_record_is_read_as_far_as_it_makes_sense(
    valkey: RedisServer, poison: dict[str, str]
) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
        await store.append("good", "ann", said("topic"))
        await redis.hset(key("bad"), mapping=poison)
        await redis.zadd(f"mcp:{{{owner_tag('ann')}}}:conversations", {"bad": 9e12})
        found = await store.get("bad", "ann")
        assert found is not None
        assert found.messages == ()
        assert [hit.conversation_id for hit in await store.search("ann", "topic")] == ["good"]
        assert texts(await store.append("bad", "ann", said("goes on"))) == ["goes on"]
        assert not store.degraded


@pytest.mark.parametrize("poison", [{"owner": "mallory", "count": "0"}, {"count": "1"}])
async def test_a_record_of_a_foreign_owner_under_ones_name_is_not_shown(
    valkey: RedisServer, poison: dict[str, str]
) -> None:
    record = {**poison, "message:a": StoredMessage.new("user", "mallory's bait").to_json()}
    async with opened(valkey.url) as store, plain(valkey) as redis:
        await redis.hset(key("c"), mapping=record)
        await redis.zadd(f"mcp:{{{owner_tag('ann')}}}:conversations", {"c": 9e12})
        assert await store.get("c", "ann") is None
        assert await store.search("ann", "bait") == []


async def test_nothing_is_added_to_a_record_that_names_a_foreign_owner(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
        await redis.hset(key("c"), mapping={"owner": "mallory", "count": "0"})
        with pytest.raises(ConversationNotOwned):
            await store.append("c", "ann", said("mine"))
        assert set(await redis.hgetall(key("c"))) == {b"owner", b"count"}


async def test_a_key_of_another_kind_is_an_error_of_that_conversation_only(valkey: RedisServer) -> None:
    async with opened(valkey.url) as store, plain(valkey) as redis:
        await store.append("good", "ann", said("topic"))
        await redis.set(key("bad"), "not a hash")
        for attempt in range(10):
            with pytest.raises(SessionDamaged) as told:
                await (store.get("bad", "ann") if attempt % 2 else store.append("bad", "ann", said("x")))
            assert "mcp:" not in str(told.value)
        assert texts(await store.get("good", "ann")) == ["topic"]
        assert not store.degraded
        assert await store.delete("bad", "ann")

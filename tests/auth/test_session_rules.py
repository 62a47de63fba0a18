"""What both session stores hold to: versions, limits, deletion, and how long a conversation is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_server_langgraph.auth.session import (
    ConversationConflict,
    ConversationDeleted,
    InMemorySessionStore,
    LimitReached,
    SessionLimits,
    SessionStore,
    StoredMessage,
)
from tests.auth.redis_sessions import opened, said, texts
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_time

Opened = Callable[..., AbstractAsyncContextManager[SessionStore]]


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "valkey", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Opens a store of the kind, with options that both kinds know."""
    if request.param == "memory":
        yield in_memory
        return
    with RedisServer(tmp_path / "data", request.param) as server:
        yield partial(opened, server.url)


@asynccontextmanager
async def in_memory(**options: Any) -> AsyncIterator[SessionStore]:
    yield InMemorySessionStore(**options)


async def test_a_version_counts_what_joined(store: Opened) -> None:
    async with store() as sessions:
        first = said("one", "two")
        assert (await sessions.append("c", "ann", first, expected_version=0)).version == 2
        assert (await sessions.append("c", "ann", said("three"), expected_version=2)).version == 3
        kept = await sessions.get("c", "ann")
        assert kept is not None
        assert kept.version == 3


async def test_what_was_written_for_another_version_is_refused_and_changes_nothing(store: Opened) -> None:
    async with store() as sessions:
        kept = await sessions.append("c", "ann", said("one"))
        for expected in (0, 2):
            with pytest.raises(ConversationConflict, match="try again") as conflict:
                await sessions.append("c", "ann", said("late"), expected_version=expected)
            assert conflict.value.version == 1
        assert await sessions.get("c", "ann") == kept
        with pytest.raises(ConversationConflict):
            await sessions.append("other", "ann", said("late"), expected_version=1)
        assert await sessions.get("other", "ann") is None


async def test_of_ten_at_once_for_one_version_one_gets_in(store: Opened) -> None:
    async with store() as sessions:
        await sessions.append("c", "ann", said("one"))
        answers = await asyncio.gather(
            *(sessions.append("c", "ann", said(str(n)), expected_version=1) for n in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, ConversationConflict) for answer in answers) == 9
        kept = await sessions.get("c", "ann")
        assert kept is not None
        assert kept.version == 2


async def test_repeating_an_append_is_no_conflict(store: Opened) -> None:
    async with store() as sessions:
        first = said("one")
        once = await sessions.append("c", "ann", first, expected_version=0)
        assert await sessions.append("c", "ann", first, expected_version=0) == once


async def test_an_owner_has_so_many_conversations_and_no_more(store: Opened) -> None:
    async with store(limits=SessionLimits(conversations=2)) as sessions:
        for name in ("a", "b"):
            await sessions.ensure_room("ann", None)
            await sessions.append(name, "ann", said("hello"))
        with pytest.raises(LimitReached, match="all 2 conversations"):
            await sessions.ensure_room("ann", None)
        with pytest.raises(LimitReached, match="delete one") as refused:
            await sessions.append("c", "ann", said("hello"))
        assert (refused.value.limit, refused.value.allowed) == ("conversations", 2)
        assert await sessions.get("c", "ann") is None
        await sessions.append("a", "ann", said("goes on"))
        await sessions.append("c", "bob", said("is not meant"))
        await sessions.delete("a", "ann")
        await sessions.append("c", "ann", said("has room now"))


async def test_of_many_begun_at_once_no_more_get_in_than_may(store: Opened) -> None:
    async with store(limits=SessionLimits(conversations=3)) as sessions:
        answers = await asyncio.gather(
            *(sessions.append(str(n), "ann", said("hello")) for n in range(10)), return_exceptions=True
        )
        assert sum(isinstance(answer, LimitReached) for answer in answers) == 7


@pytest.mark.parametrize(
    ("limits", "limit", "sentence"),
    [
        (SessionLimits(messages=3), "messages", "more than 3 messages"),
        (SessionLimits(bytes=10), "bytes", "more than 10 bytes"),
    ],
)
async def test_a_conversation_grows_to_its_limit(
    store: Opened, limits: SessionLimits, limit: str, sentence: str
) -> None:
    async with store(limits=limits) as sessions:
        kept = await sessions.append("c", "ann", said("abc", "déf", "ghi"))
        assert kept.size == 10
        with pytest.raises(LimitReached, match=sentence) as refused:
            await sessions.append("c", "ann", said("j"))
        assert refused.value.limit == limit
        assert await sessions.get("c", "ann") == kept
        assert await sessions.append("c", "ann", kept.messages) == kept


async def test_what_is_full_is_known_before_the_model_is_asked(store: Opened) -> None:
    async with store(limits=SessionLimits(messages=4)) as sessions:
        kept = await sessions.append("c", "ann", said("one", "two"))
        await sessions.ensure_room("ann", kept)
        kept = await sessions.append("c", "ann", said("three"))
        with pytest.raises(LimitReached):
            await sessions.ensure_room("ann", kept)


async def test_what_is_deleted_is_gone_and_does_not_come_back(store: Opened) -> None:
    async with store() as sessions:
        await sessions.append("c", "ann", said("a secret"))
        await sessions.append("d", "ann", said("stays"))
        assert not await sessions.delete("c", "bob")
        assert await sessions.delete("c", "ann")
        assert not await sessions.delete("c", "ann")
        assert await sessions.get("c", "ann") is None
        assert await sessions.search("ann", "secret") == []
        with pytest.raises(ConversationDeleted):
            await sessions.append("c", "ann", said("a late answer"))
        assert texts(await sessions.get("d", "ann")) == ["stays"]


async def test_all_of_an_owners_are_deleted_at_once(store: Opened) -> None:
    async with store() as sessions:
        for name in ("a", "b", "c"):
            await sessions.append(name, "ann", said("mine"))
        await sessions.append("a", "bob", said("not mine"))
        assert await sessions.delete_all("ann") == 3
        assert await sessions.delete_all("ann") == 0
        assert await sessions.search("ann", "mine") == []
        assert texts(await sessions.get("a", "bob")) == ["not mine"]


async def test_conversations_whose_time_is_over_do_not_count(store: Opened) -> None:
    clock = Clock()
    async with store(limits=SessionLimits(conversations=1), ttl=60.0, clock=clock) as sessions:
        await sessions.append("a", "ann", said("hello"))
        clock.now += 61.0
        await sessions.ensure_room("ann", None)
        await sessions.append("b", "ann", said("hello"))


async def test_text_that_is_no_unicode_is_kept_as_it_came(store: Opened) -> None:
    async with store() as sessions:
        odd = StoredMessage.new("user", 'a lone \ud800 surrogate, \\ud800, "quotes" and \x00')
        await sessions.append("c\ud800", "ann\ud800", [odd])
        kept = await sessions.get("c\ud800", "ann\ud800")
        assert kept is not None
        assert kept.messages == (odd,)


@pytest.mark.parametrize("wrong", ["conversations", "messages", "bytes"])
def test_a_limit_is_at_least_one(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        SessionLimits(**{wrong: 0})

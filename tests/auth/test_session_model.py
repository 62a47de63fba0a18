"""Session stores against a naive model, whatever is done in whatever order: in memory, and two servers on one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.auth.session import (
    Conversation,
    ConversationConflict,
    ConversationDeleted,
    InMemorySessionStore,
    LimitReached,
    SessionError,
    SessionLimits,
    SessionStore,
    StoredMessage,
)
from tests.auth.redis_sessions import opened, plain
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_time(limit=120.0)

CONVERSATIONS, MESSAGES, BYTES = 2, 4, 12
LIMITS = SessionLimits(CONVERSATIONS, MESSAGES, BYTES)
# Written by a clock that steps back: their order of time is not the order of their ids.
SAID = [StoredMessage(f"id-{n}", "user", "wörd"[: n % 5], 100.0 + n % 3) for n in range(8)]

OWNERS = st.sampled_from(["ann", "bob"])
IDS = st.sampled_from(["c", "d", "e"])
MESSAGE_LISTS = st.lists(st.sampled_from(SAID), min_size=1, max_size=3, unique_by=lambda message: message.id)
VERSIONS = st.none() | st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("append"), IDS, OWNERS, MESSAGE_LISTS, VERSIONS),
    st.tuples(st.just("append"), IDS, OWNERS, MESSAGE_LISTS, st.none()),
    st.tuples(st.just("get"), IDS, OWNERS),
    st.tuples(st.just("room"), IDS, OWNERS),
    st.tuples(st.just("search"), OWNERS),
    st.tuples(st.just("delete"), IDS, OWNERS),
    st.tuples(st.just("delete_all"), OWNERS),
)


@dataclass
class Model:
    """Each owner's conversations: messages by their ids, None where it was deleted."""

    kept: dict[tuple[str, str], dict[str, StoredMessage] | None] = field(default_factory=dict)

    def of(self, owner: str) -> list[tuple[str, str]]:
        return [name for name, messages in self.kept.items() if name[0] == owner and messages is not None]

    def append(
        self, conversation: str, owner: str, messages: list[StoredMessage], expected: int | None
    ) -> object:
        name = (owner, conversation)
        if name in self.kept and self.kept[name] is None:
            return ConversationDeleted
        known = self.kept.get(name) or {}
        grown = known | {message.id: message for message in messages}
        if grown == known:
            return self.get(conversation, owner)
        if expected not in (None, len(known)):
            return ConversationConflict, len(known)
        if refused := self._refusal(owner, known, grown):
            return refused
        self.kept[name] = grown
        return self.get(conversation, owner)

    def get(self, conversation: str, owner: str) -> object:
        messages = self.kept.get((owner, conversation))
        return messages and sorted(messages.values(), key=lambda message: (message.created_at, message.id))

    def room(self, conversation: str, owner: str) -> object:
        known = self.kept.get((owner, conversation)) or {}
        turn = {"question": StoredMessage.new("user", ""), "answer": StoredMessage.new("assistant", "")}
        return self._refusal(owner, known, known | turn if known else known)

    def search(self, owner: str) -> object:
        found = [(name, message) for name in self.of(owner) for message in (self.kept[name] or {}).values()]
        hits = [(name[1], message) for name, message in found if "ör" in message.content]
        return sorted((-message.created_at, message.id, conversation) for conversation, message in hits)

    def delete(self, conversation: str, owner: str) -> object:
        there = self.kept.get((owner, conversation)) is not None
        if there:
            self.kept[owner, conversation] = None
        return there

    def delete_all(self, owner: str) -> object:
        return sum(bool(self.delete(conversation, owner)) for _, conversation in self.of(owner))

    def _refusal(
        self, owner: str, known: dict[str, StoredMessage], grown: dict[str, StoredMessage]
    ) -> object:
        if not known and len(self.of(owner)) >= CONVERSATIONS:
            return LimitReached, "conversations"
        if len(grown) > MESSAGES:
            return LimitReached, "messages"
        size = sum(len(message.content.encode()) for message in grown.values())
        return (LimitReached, "bytes") if size > BYTES else None


async def done(store: SessionStore, what: str, *arguments: Any) -> object:
    """What a store does, in the model's words."""
    try:
        match what, arguments:
            case "append", (conversation, owner, messages, expected):
                return said(await store.append(conversation, owner, messages, expected_version=expected))
            case "get", (conversation, owner):
                return said(await store.get(conversation, owner))
            case "room", (conversation, owner):
                await store.ensure_room(owner, await store.get(conversation, owner))
                return None
            case "search", (owner,):
                hits = await store.search(owner, "ör")
                return [(-hit.created_at, hit.message_id, hit.conversation_id) for hit in hits]
            case "delete", (conversation, owner):
                return await store.delete(conversation, owner)
            case _:
                return await store.delete_all(*arguments)
    except ConversationConflict as error:
        return ConversationConflict, error.version
    except LimitReached as error:
        return LimitReached, error.limit
    except SessionError as error:
        return type(error)


def said(conversation: Conversation | None) -> object:
    if conversation is None:
        return None
    assert conversation.version == len(conversation.messages)
    return list(conversation.messages)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("valkey"), "valkey") as server:
        yield server


@given(steps=st.lists(STEPS, max_size=20))
async def test_in_memory(steps: list[tuple[Any, ...]]) -> None:
    store, model = InMemorySessionStore(limits=LIMITS), Model()
    for what, *arguments in steps:
        assert await done(store, what, *arguments) == getattr(model, what)(*arguments)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), STEPS), max_size=20))
async def test_two_servers_on_one_redis(valkey: RedisServer, steps: list[tuple[bool, Any]]) -> None:
    async with plain(valkey) as redis, AsyncExitStack() as both:
        await redis.flushall()
        stores = [await both.enter_async_context(opened(valkey.url, limits=LIMITS)) for _ in range(2)]
        model = Model()
        for second, (what, *arguments) in steps:
            assert await done(stores[second], what, *arguments) == getattr(model, what)(*arguments)

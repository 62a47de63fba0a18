"""What the tests of sessions in Redis have in common."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from mcp_server_langgraph.auth.owners import owner_tag
from mcp_server_langgraph.auth.session import Conversation, RedisSessionStore, StoredMessage
from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    Degradation,
    Pipeline,
    collect_degradations,
    registry,
)
from tests.support.redis_server import RedisServer

# What one turn may cost beyond the model's own time.
TURN = 0.5


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[RedisSessionStore]:
    store = RedisSessionStore(url, Pipeline.standard("redis"), **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.aclose()


def key(name: str, owner: str = "ann", namespace: str = "mcp") -> str:
    """The key of a conversation."""
    return f"{namespace}:{{{owner_tag(owner)}}}:conversation:{name}"


def said(*texts: str) -> list[StoredMessage]:
    return [StoredMessage.new("user", text) for text in texts]


def texts(conversation: Conversation | None) -> list[str]:
    assert conversation is not None
    return [message.content for message in conversation.messages]


async def turn(store: RedisSessionStore, text: str) -> tuple[Conversation, Sequence[Degradation], float]:
    """What the agent does in one turn, without the model: read the history, keep what was said."""
    began = time.perf_counter()
    with collect_degradations() as notes:
        await store.get("c", "ann")
        kept = await store.append("c", "ann", said(text))
    return kept, notes, time.perf_counter() - began


def breaker_of(store: RedisSessionStore) -> CircuitBreaker:
    return registry.breakers()["redis"]


@asynccontextmanager
async def plain(server: RedisServer) -> AsyncIterator[Redis]:
    redis: Redis = Redis.from_url(server.url)
    try:
        yield redis
    finally:
        await redis.aclose()

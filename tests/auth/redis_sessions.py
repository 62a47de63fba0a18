"""What the tests of sessions in Redis have in common."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio import Redis

from mcp_server_langgraph.auth.owners import owner_tag
from mcp_server_langgraph.auth.session import Conversation, RedisSessionStore, StoredMessage
from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    Degradation,
    Pipeline,
    Retry,
    Timeout,
    collect_degradations,
    registry,
)
from tests.support.redis_server import RedisServer

# What one turn may cost beyond the model's own time.
TURN = 0.5


@asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[RedisSessionStore]:
    """A store for tests of what is kept: it waits for Redis as long as a busy machine may need."""
    pipeline = Pipeline.standard("redis", retry=Retry(1), attempt=Timeout(5.0))
    async with closing(RedisSessionStore(url, pipeline, **{"patience": 10.0, **options})) as store:  # type: ignore[arg-type]
        yield store


@asynccontextmanager
async def in_a_hurry(url: str, **options: object) -> AsyncIterator[RedisSessionStore]:
    """A store as the server has it, which waits no longer than a turn may cost."""
    async with closing(RedisSessionStore(url, Pipeline.standard("redis"), **options)) as store:  # type: ignore[arg-type]
        yield store


@contextmanager
def patient(store: RedisSessionStore) -> Iterator[None]:
    """For the time being it is in no hurry."""
    usual, store._patience = store._patience, 10.0
    try:
        yield
    finally:
        store._patience = usual


@asynccontextmanager
async def closing(store: RedisSessionStore) -> AsyncIterator[RedisSessionStore]:
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
    began = asyncio.get_running_loop().time()
    with collect_degradations() as notes:
        await store.get("c", "ann")
        kept = await store.append("c", "ann", said(text))
    return kept, notes, asyncio.get_running_loop().time() - began


def breaker_of(store: RedisSessionStore) -> CircuitBreaker:
    return registry.breakers()["redis"]


@asynccontextmanager
async def plain(server: RedisServer) -> AsyncIterator[Redis]:
    redis: Redis = Redis.from_url(server.url)
    try:
        yield redis
    finally:
        await redis.aclose()

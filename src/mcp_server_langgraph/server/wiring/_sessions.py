"""Conversations: in Redis, or in the memory of this process."""

from __future__ import annotations

from typing import Final

from mcp_server_langgraph.auth.session import InMemorySessionStore, SessionLimits, SessionStore
from mcp_server_langgraph.resilience import Pipeline
from mcp_server_langgraph.server.probes import redis_answers

from ._parts import Parts

__all__ = ["sessions"]

MAX_CONVERSATIONS: Final = 10_000
"""Conversations kept in memory; the least recently used makes room."""


def sessions(parts: Parts) -> SessionStore:
    """The store that the settings describe."""
    settings = parts.settings
    ttl, extend_on_read = settings.session_ttl_seconds, settings.session_extend_on_read
    limits = SessionLimits(
        settings.session_max_conversations, settings.session_max_messages, settings.session_max_bytes
    )
    memory = InMemorySessionStore(MAX_CONVERSATIONS, ttl, limits=limits, extend_on_read=extend_on_read)
    if settings.redis_url is None:
        parts.embedded("redis", "not configured: sessions in the memory of this process")
        return memory
    from mcp_server_langgraph.auth.session import RedisSessionStore

    url = settings.redis_url.get_secret_value()
    # An append is safe to repeat too: messages are known by their ids.
    store = RedisSessionStore(
        url, Pipeline.standard("redis"), memory, ttl=ttl, limits=limits, extend_on_read=extend_on_read
    )
    fallback = "sessions in the memory of this process, written back later"
    parts.remote(
        "redis",
        "sessions in Redis",
        fallback,
        redis_answers(url),
        lambda: {"messages_to_write_back": store.pending},
    )
    return store

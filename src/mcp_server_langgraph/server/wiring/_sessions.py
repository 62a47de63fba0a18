"""Conversations: in Redis, or in the memory of this process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcp_server_langgraph.auth.session import (
    InMemorySessionStore,
    RedisSessionStore,
    SessionLimits,
    SessionStore,
)
from mcp_server_langgraph.resilience import Pipeline
from mcp_server_langgraph.server.probes import redis_answers
from mcp_server_langgraph.settings.redis_url import RedisUrl

from ._parts import Parts

if TYPE_CHECKING:
    from mcp_server_langgraph.auth.records import RedisRecords

__all__ = ["records", "sessions"]

MAX_CONVERSATIONS: Final = 10_000
"""Conversations kept in memory; the least recently used makes room."""

_USERS: Final = 4
"""So many may fill the memory between them, where the settings do not say how much of it one may have."""

_MODES: Final = {
    "server": "sessions in Redis",
    "sentinel": "sessions in Redis, found by Sentinel",
    "cluster": "sessions in a Redis cluster",
}


def sessions(parts: Parts, steps: RedisRecords | None = None) -> SessionStore:
    """The store that the settings describe. ``steps``: where those of turns are kept, in the same Redis."""
    settings = parts.settings
    ttl, extend_on_read = settings.session_ttl_seconds, settings.session_extend_on_read
    limits = SessionLimits(
        settings.session_max_conversations, settings.session_max_messages, settings.session_max_bytes
    )
    # With Redis one half is for copies, the other for what waits to be written back: those do not make room for these.
    share = 1 if settings.redis_url is None else 2
    room = settings.session_memory_bytes // share
    room_each = (settings.session_memory_bytes_per_user or settings.session_memory_bytes // _USERS) // share
    memory = InMemorySessionStore(
        MAX_CONVERSATIONS,
        ttl,
        max_bytes=room,
        max_bytes_of_owner=room_each,
        limits=limits,
        extend_on_read=extend_on_read,
    )
    if settings.redis_url is None:
        mode = "not configured: sessions in the memory of this process"
        parts.embedded("redis", mode, lambda: {"memory_bytes": memory.bytes})
        return memory
    url = settings.redis_url.get_secret_value()
    # An append is safe to repeat too: messages are known by their ids.
    store = RedisSessionStore(
        url,
        Pipeline.standard("redis"),
        memory,
        max_pending_bytes=room,
        max_pending_bytes_of_owner=room_each,
        ttl=ttl,
        limits=limits,
        extend_on_read=extend_on_read,
        ca_file=str(settings.redis_ca_file) if settings.redis_ca_file else None,
    )
    kind = RedisUrl.parse(url).kind
    fallback = "sessions in the memory of this process, written back later"
    probe = redis_answers(url) if kind == "server" and settings.redis_ca_file is None else store.probe
    parts.remote("redis", _MODES[kind], fallback, probe, partial(_facts, store, steps, kind))
    return store


def records(parts: Parts) -> RedisRecords | None:
    """Where the steps of turns are kept; None without Redis."""
    settings = parts.settings
    if settings.redis_url is None:
        return None
    from mcp_server_langgraph.auth.records import RedisRecords

    kept = RedisRecords(
        settings.redis_url.get_secret_value(),
        Pipeline.standard("database"),
        ttl=settings.turn_ttl_seconds,
        ca_file=str(settings.redis_ca_file) if settings.redis_ca_file else None,
    )
    parts.closers.append(kept.aclose)
    return kept


def _facts(store: RedisSessionStore, steps: RedisRecords | None, kind: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"messages_to_write_back": store.pending, "memory_bytes": store.bytes}
    if steps is not None:
        facts["records_to_write_back"] = steps.pending
    if kind == "sentinel":
        facts["sentinel_master"] = store.master
    return facts

"""Sessions in Redis, and in this process's memory while Redis cannot be reached.

Every operation goes through the pipeline it is given (breaker, bulkhead, attempt timeout); a fallback around it
answers from memory, marked as degraded: single-instance, not durable. The memory is written through, so a
conversation that this instance served goes on in mid-outage. What was accepted in the outage waits in a backlog
(`pending`), shows as `durable=False`, and is written back in the background when Redis returns, merged by message
id. A request waits for Redis no longer than `patience`, and hardly at all while Redis is known to be ill: the
write-back is the retry.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from mcp_server_langgraph.auth._backlog import Backlog
from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._conversation_search import (
    SearchHit,
    best_hits,
    search_messages,
    search_patterns,
)
from mcp_server_langgraph.auth._held_conversations import HeldConversations
from mcp_server_langgraph.auth._recovery import Recovery
from mcp_server_langgraph.auth._session_errors import ConversationDeleted, SessionError, SessionsUnavailable
from mcp_server_langgraph.auth._session_limits import SessionLimits
from mcp_server_langgraph.auth._sessions_here import SessionsHere
from mcp_server_langgraph.auth.session_memory import InMemorySessionStore
from mcp_server_langgraph.resilience import (
    BulkheadFull,
    DeadlineExceeded,
    Fallback,
    Pipeline,
    Rung,
    classify,
    timeout,
)

__all__ = ["RedisSessionStore"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Enough for a healthy server on a busy day; with the reads and writes of a turn well under half a second.
_PATIENCE: Final = 0.25
# While Redis is known to be ill a request only looks in, and the write-back does the waiting.
_IMPATIENCE: Final = 0.05
_LAST_WORDS: Final = 1.0
# Of the memory for sessions: copies may have as much again.
_HALF: Final = 134_217_728
_SEARCHED_CONVERSATIONS: Final = 200
_SEARCH_STEP: Final = 10


class RedisSessionStore:
    """A session store on the Redis at `url` (see `settings.redis_url`), guarded by `pipeline`.

    `ttl`: seconds a conversation is kept after its last append, and after its last reading where `extend_on_read`
    (which makes a read a write for Redis). `limits` bound an owner. `namespace` begins every key. `patience`: the most
    seconds that one operation waits for Redis. `max_pending`: messages that may wait for it, `max_pending_bytes`: of
    all and `max_pending_bytes_of_owner`: of one owner (None: no bound); beyond them an append raises
    SessionsUnavailable, and what waits stays. `fallback` is the memory used meanwhile. `ca_file`: of a TLS server's
    certificate (default: the system's). `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        pipeline: Pipeline,
        fallback: InMemorySessionStore | None = None,
        *,
        ttl: float = 86_400.0,
        extend_on_read: bool = False,
        limits: SessionLimits | None = None,
        namespace: str = "mcp",
        patience: float = _PATIENCE,
        max_pending: int = 10_000,
        max_pending_bytes: int | None = _HALF,
        max_pending_bytes_of_owner: int | None = _HALF // 4,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # redis-py takes 0.6 s to import; only a server that uses Redis pays for it.
        from mcp_server_langgraph.auth._redis_conversations import RedisConversations
        from mcp_server_langgraph.auth._session_write_back import SessionWriteBack

        self._limits = limits or SessionLimits()
        self._redis = RedisConversations(
            url,
            ttl=ttl,
            namespace=namespace,
            limits=self._limits,
            extend_on_read=extend_on_read,
            ca_file=ca_file,
            clock=clock,
        )
        memory = (
            fallback
            if fallback is not None
            else InMemorySessionStore(
                ttl=ttl, max_bytes=_HALF, limits=self._limits, extend_on_read=extend_on_read, clock=clock
            )
        )
        self._held = HeldConversations(
            memory, Backlog(max_pending, max_pending_bytes, max_pending_bytes_of_owner), clock
        )
        self._pipeline = pipeline
        self._patience = patience
        self._write_back = SessionWriteBack(self._redis, self._held, pipeline)
        self._recovery = Recovery("session write-back", self._write_back)
        here = SessionsHere(self._held, self._recovery)
        self._gets = self._degradable("get", here.get)
        self._appends = self._degradable("append", here.append)
        self._rooms = self._degradable("ensure_room", here.room)
        self._searches = self._degradable("search", here.search)

    @property
    def pending(self) -> int:
        """Messages that were accepted and are only in this process's memory."""
        return len(self._held.backlog)

    @property
    def bytes(self) -> int:
        """Bytes of this process's memory that copies and what waits take, about; what is both counts twice."""
        return self._held.memory.bytes + self._held.backlog.bytes

    @property
    def degraded(self) -> bool:
        """Whether the last operation could not reach Redis."""
        return self._recovery.running

    @property
    def master(self) -> str | None:
        """Where Sentinel said last that the master is, as host:port; None where no Sentinel was asked."""
        return self._redis.client.master

    async def probe(self) -> None:
        """Ask Redis, whatever the pipeline's circuit says. Raises what shows that it does not answer."""
        await self._redis.ping()

    async def get(self, conversation_id: str, owner: str) -> Conversation | None:
        return await self._translated(self._gets.call(self._get, conversation_id, owner))

    async def append(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        *,
        expected_version: int | None = None,
    ) -> Conversation:
        told = (conversation_id, owner, tuple(messages), expected_version)
        appended = await self._translated(self._appends.call(self._append, *told))
        if isinstance(appended, Conversation):
            return appended
        raise appended

    async def ensure_room(self, owner: str, conversation: Conversation | None) -> None:
        refusal = await self._translated(self._rooms.call(self._room, owner, conversation))
        if refusal is not None:
            raise refusal

    async def search(self, owner: str, query: str, limit: int = 10) -> list[SearchHit]:
        return await self._translated(self._searches.call(self._search, owner, query, limit))

    async def delete(self, conversation_id: str, owner: str) -> bool:
        """No memory stands in here: a deletion is done or it is an error."""
        known = self._held.known(conversation_id, owner) is not None
        waiting = bool(self._held.backlog.of(conversation_id, owner))
        anyway = known or waiting
        there = await self._translated(self._ask(self._redis.delete, conversation_id, owner, anyway=anyway))
        self._forget(conversation_id, owner)
        return there or waiting

    async def delete_all(self, owner: str) -> int:
        waiting = set(self._held.backlog.ids_of(owner))
        known = waiting.union(conversation.id for conversation in self._held.memory.of(owner))
        deleted = await self._translated(self._ask(self._redis.delete_all, owner, sorted(known)))
        for conversation_id in known.union(deleted):
            self._forget(conversation_id, owner)
        return len(waiting.union(deleted))

    async def aclose(self) -> None:
        """Make a last attempt at what still waits (one second), log what is lost, close the connections."""
        await self._recovery.stop()
        if self.pending:
            try:
                async with timeout(_LAST_WORDS):
                    await self._write_back()
            except Exception as error:
                _log.error(
                    "%d messages could not be written to Redis: %s", self.pending, type(error).__name__
                )
        await self._redis.aclose()

    def _degradable(self, operation: str, here: Callable[..., Any]) -> Pipeline:
        # A full bulkhead is answered for too: an answer that the model has given already is worth keeping.
        also = (BulkheadFull, DeadlineExceeded)
        rung = Rung(here, source="memory: single-instance, not durable", also=also, with_error=True)
        return Pipeline(self._pipeline.name, Fallback(rung), operation=f"session.{operation}")

    # Through Redis

    async def _ask(self, operation: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        limit = _IMPATIENCE if self._recovery.running else self._patience
        async with timeout(None if self._pipeline.site.bypassed else limit, name=self._pipeline.name):
            result = await self._pipeline.call(operation, *args, **kwargs)
        self._recovery.hurry()
        return result

    async def _get(self, conversation_id: str, owner: str) -> Conversation | None:
        found = await self._ask(self._redis.get, conversation_id, owner)
        if found is None:
            return self._held.missing(conversation_id, owner)
        return self._remember(found)

    async def _append(
        self,
        conversation_id: str,
        owner: str,
        messages: tuple[StoredMessage, ...],
        expected_version: int | None,
    ) -> Conversation | SessionError:
        waiting = self._held.backlog.of(conversation_id, owner)
        stored = await self._ask(
            self._redis.append,
            conversation_id,
            owner,
            messages,
            earlier=waiting,
            expected_version=expected_version,
        )
        if isinstance(stored, SessionError):
            if isinstance(stored, ConversationDeleted):
                self._forget(conversation_id, owner)
            return stored
        self._held.backlog.settle(conversation_id, owner, (*waiting, *messages))
        return self._remember(stored)

    async def _room(self, owner: str, conversation: Conversation | None) -> SessionError | None:
        if conversation is not None:
            return self._limits.refusal_of_turn(conversation)
        return self._limits.refusal_of_conversation(await self._ask(self._redis.count, owner))

    async def _search(self, owner: str, query: str, limit: int) -> list[SearchHit]:
        """Step by step: a long search is not a slow Redis, and must not look like one to the breaker."""
        patterns = search_patterns(query)
        names = await self._ask(self._redis.latest, owner, _SEARCHED_CONVERSATIONS)
        stored: list[SearchHit] = []
        for start in range(0, len(names), _SEARCH_STEP):
            step = names[start : start + _SEARCH_STEP]
            for conversation in await self._ask(self._redis.get_many, step, owner):
                stored.extend(search_messages(conversation, patterns))
        held = self._held.memory.find(owner, query, limit) if self.pending else []
        return best_hits(
            {(hit.conversation_id, hit.message_id): hit for hit in (*stored, *held)}.values(), limit
        )

    def _remember(self, stored: Conversation) -> Conversation:
        known = self._held.remember(stored)
        if self.pending:
            self._recovery.start()
        return known

    def _forget(self, conversation_id: str, owner: str) -> None:
        self._held.backlog.drop(conversation_id, owner)
        self._held.memory.forget(conversation_id, owner)

    async def _translated(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except Exception as error:
            verdict = classify(error)
            if verdict.unavailable:
                raise SessionsUnavailable("sessions are unavailable", verdict.retry_after) from error
            raise

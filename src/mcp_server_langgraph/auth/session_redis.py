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

from mcp_server_langgraph.auth._backlog import Backlog, Waiting
from mcp_server_langgraph.auth._conversation import (
    Conversation,
    ConversationNotOwned,
    SearchHit,
    SessionError,
    SessionsUnavailable,
    StoredMessage,
    best_hits,
    search_messages,
    search_patterns,
)
from mcp_server_langgraph.auth._recovery import CircuitCloser, Recovery
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
from mcp_server_langgraph.resilience.fallback import NOTHING

__all__ = ["RedisSessionStore"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Enough for a healthy server on a busy day; with the reads and writes of a turn well under half a second.
_PATIENCE: Final = 0.25
# While Redis is known to be ill a request only looks in, and the write-back does the waiting.
_IMPATIENCE: Final = 0.05
_LAST_WORDS: Final = 1.0
_SEARCHED_CONVERSATIONS: Final = 200
_SEARCH_STEP: Final = 10


class RedisSessionStore:
    """A session store on the Redis at `url`, guarded by `pipeline`.

    `fallback` is the memory used meanwhile. `ttl`: seconds a conversation is kept after its last append.
    `namespace` begins every key. `patience`: the most seconds that one operation waits for Redis. `max_pending`:
    messages that may wait for it; beyond them an append raises SessionsUnavailable. `clock`: seconds since the
    epoch.
    """

    def __init__(
        self,
        url: str,
        pipeline: Pipeline,
        fallback: InMemorySessionStore | None = None,
        *,
        ttl: float = 86_400.0,
        namespace: str = "mcp",
        patience: float = _PATIENCE,
        max_pending: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # redis-py takes 0.6 s to import; only a server that uses Redis pays for it.
        from mcp_server_langgraph.auth._redis_conversations import RedisConversations

        self._redis = RedisConversations(url, ttl=ttl, namespace=namespace, clock=clock)
        self._memory = fallback if fallback is not None else InMemorySessionStore(ttl=ttl, clock=clock)
        self._pipeline = pipeline
        self._patience = patience
        self._clock = clock
        self._backlog = Backlog(max_pending)
        self._recovery = Recovery("session write-back", self._write_back)
        self._circuit = CircuitCloser(pipeline)
        self._gets = self._degradable("get", self._get_here)
        self._appends = self._degradable("append", self._append_here)
        self._searches = self._degradable("search", self._search_here)

    @property
    def pending(self) -> int:
        """Messages that were accepted and are only in this process's memory."""
        return len(self._backlog)

    @property
    def degraded(self) -> bool:
        """Whether the last operation could not reach Redis."""
        return self._recovery.running

    async def get(self, conversation_id: str) -> Conversation | None:
        return await self._translated(self._gets.call(self._get, conversation_id))

    async def append(
        self, conversation_id: str, owner: str, messages: Sequence[StoredMessage]
    ) -> Conversation:
        conversation = await self._translated(
            self._appends.call(self._append, conversation_id, owner, tuple(messages))
        )
        if conversation is None:
            raise ConversationNotOwned(f"conversation {conversation_id!r} belongs to somebody else")
        return conversation

    async def search(self, owner: str, query: str, limit: int = 10) -> list[SearchHit]:
        return await self._translated(self._searches.call(self._search, owner, query, limit))

    async def aclose(self) -> None:
        """Make a last attempt at what still waits (one second), log what is lost, close the connections."""
        await self._recovery.stop()
        if self._backlog:
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

    async def _ask(self, operation: Callable[..., Awaitable[T]], *args: Any) -> T:
        limit = _IMPATIENCE if self._recovery.running else self._patience
        async with timeout(None if self._pipeline.site.bypassed else limit, name=self._pipeline.name):
            result = await self._pipeline.call(operation, *args)
        self._recovery.hurry()
        return result

    async def _get(self, conversation_id: str) -> Conversation | None:
        found = await self._ask(self._redis.get, conversation_id)
        owner = found.owner if found is not None else self._backlog.owner_of(conversation_id)
        if owner is None:
            self._memory.discard(conversation_id)
            return None
        return self._remember(conversation_id, owner, found.messages if found is not None else ())

    async def _append(
        self, conversation_id: str, owner: str, messages: tuple[StoredMessage, ...]
    ) -> Conversation | None:
        sent = (*self._backlog.of(conversation_id), *messages)
        stored = await self._ask(self._redis.append, conversation_id, owner, sent)
        if stored is None:
            return None
        self._backlog.settle(conversation_id, sent)
        return self._remember(conversation_id, owner, stored.messages)

    async def _search(self, owner: str, query: str, limit: int) -> list[SearchHit]:
        """Step by step: a long search is not a slow Redis, and must not look like one to the breaker."""
        patterns = search_patterns(query)
        names = await self._ask(self._redis.latest, owner, _SEARCHED_CONVERSATIONS)
        stored: list[SearchHit] = []
        for start in range(0, len(names), _SEARCH_STEP):
            for conversation in await self._ask(self._redis.get_many, names[start : start + _SEARCH_STEP]):
                if conversation.owner == owner:
                    stored.extend(search_messages(conversation, patterns))
        held = self._memory.find(owner, query, limit) if self._backlog else []
        return best_hits(
            {(hit.conversation_id, hit.message_id): hit for hit in (*stored, *held)}.values(), limit
        )

    # Without Redis: plain functions, because a fallback after our own deadline must not wait

    def _get_here(self, error: Exception, conversation_id: str) -> Any:
        self._fell_back(error)
        known = self._memory.peek(conversation_id)
        owner = known.owner if known is not None else self._backlog.owner_of(conversation_id)
        if owner is None:
            return NOTHING
        return self._merged(conversation_id, owner, known.messages if known is not None else ())

    def _append_here(
        self, error: Exception, conversation_id: str, owner: str, messages: tuple[StoredMessage, ...]
    ) -> Any:
        self._fell_back(error)
        known = self._memory.peek(conversation_id)
        known_owner = known.owner if known is not None else self._backlog.owner_of(conversation_id)
        if known_owner not in (None, owner):
            return None
        if not self._backlog.add(conversation_id, owner, messages):
            _log.error("%d messages wait for Redis already; no more are accepted", self.pending)
            return NOTHING
        return self._remember(conversation_id, owner, known.messages if known is not None else ())

    def _search_here(self, error: Exception, owner: str, query: str, limit: int) -> list[SearchHit]:
        self._fell_back(error)
        return self._memory.find(owner, query, limit)

    def _fell_back(self, error: Exception) -> None:
        if self._recovery.start():
            why = type(error).__name__
            _log.warning(
                "Redis is unavailable (%s): sessions are single-instance and not durable for now", why
            )

    # What is known

    def _merged(self, conversation_id: str, owner: str, messages: Sequence[StoredMessage]) -> Conversation:
        waiting = self._backlog.of(conversation_id)
        together = (*messages, *waiting)
        return Conversation.of(conversation_id, owner, together, now=self._clock(), durable=not waiting)

    def _remember(self, conversation_id: str, owner: str, messages: Sequence[StoredMessage]) -> Conversation:
        """Merge with what waits, and keep it for an outage."""
        known = self._memory.peek(conversation_id)
        if known is not None and known.owner == owner:
            self._heal(known, messages)
        conversation = self._merged(conversation_id, owner, messages)
        self._memory.put(conversation)
        return conversation

    def _heal(self, known: Conversation, messages: Sequence[StoredMessage]) -> None:
        """Let what Redis acknowledged once and has lost since join the backlog: conversations only ever grow.

        That happens where the server writes to disk every second, the default, and is killed.
        """
        present = {message.id for message in messages}
        lost = [message for message in known.messages if message.id not in present]
        if lost and self._backlog.add(known.id, known.owner, lost):
            self._recovery.start()

    async def _write_back(self) -> None:
        """Give Redis everything that waits, and what joins it meanwhile; else just see that it answers.

        Raises SessionError where Redis answers and refuses a conversation all the same.
        """
        if self._circuit.is_open:
            await self._redis.ping()
            self._circuit.close()
        elif not self._backlog:
            await self._pipeline.call(self._redis.ping)
        refused: set[str] = set()
        while batch := [each for each in self._backlog.waiting() if each.conversation_id not in refused]:
            for waiting in batch:
                if not await self._write_back_one(waiting):
                    refused.add(waiting.conversation_id)
        if refused:
            raise SessionError(f"{len(refused)} conversations cannot be written back")

    async def _write_back_one(self, waiting: Waiting) -> bool:
        """False if Redis refuses it. Raises what means that Redis is unavailable."""
        conversation_id, owner, messages = waiting
        try:
            stored = await self._pipeline.call(self._redis.append, conversation_id, owner, messages)
        except Exception as error:
            if classify(error).unavailable:
                raise
            _log.error("conversation %r cannot be written back: %s", conversation_id, type(error).__name__)
            return False
        settled = self._backlog.settle(conversation_id, messages)
        if stored is None:
            _log.error("conversation %r has another owner in Redis; its turns are dropped", conversation_id)
            self._memory.discard(conversation_id)
        else:
            self._remember(conversation_id, owner, stored.messages)
            _log.warning("conversation %r: %d messages written back to Redis", conversation_id, settled)
        return True

    async def _translated(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except Exception as error:
            verdict = classify(error)
            if verdict.unavailable:
                raise SessionsUnavailable("sessions are unavailable", verdict.retry_after) from error
            raise

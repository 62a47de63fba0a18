"""Giving Redis what it missed in an outage."""

import logging

from mcp_server_langgraph.auth._backlog import Waiting
from mcp_server_langgraph.auth._held_conversations import HeldConversations
from mcp_server_langgraph.auth._recovery import CircuitCloser
from mcp_server_langgraph.auth._redis_conversations import RedisConversations
from mcp_server_langgraph.auth._session_errors import ConversationDeleted, SessionError
from mcp_server_langgraph.resilience import Pipeline, classify

__all__ = ["SessionWriteBack"]

_log = logging.getLogger(__name__)


class SessionWriteBack:
    """Calling it gives Redis everything that waits, and what joins it meanwhile; else just sees that it answers.

    Raises what means that Redis is unavailable, and SessionError where it answers and refuses a conversation all the
    same.
    """

    def __init__(self, redis: RedisConversations, held: HeldConversations, pipeline: Pipeline) -> None:
        self._redis = redis
        self._held = held
        self._pipeline = pipeline
        self._circuit = CircuitCloser(pipeline)

    async def __call__(self) -> None:
        if self._circuit.is_open:
            await self._redis.ping()
            self._circuit.close()
        elif not self._held.backlog:
            await self._pipeline.call(self._redis.ping)
        refused: set[tuple[str, str]] = set()
        while batch := [each for each in self._held.backlog.waiting() if each[:2] not in refused]:
            for waiting in batch:
                if not await self._write(waiting):
                    refused.add((waiting.conversation_id, waiting.owner))
        if refused:
            raise SessionError(f"{len(refused)} conversations cannot be written back")

    async def _write(self, waiting: Waiting) -> bool:
        """False if Redis refuses it. Raises what means that Redis is unavailable."""
        conversation_id, owner, messages = waiting
        try:
            stored = await self._pipeline.call(
                self._redis.append, conversation_id, owner, (), earlier=messages
            )
        except Exception as error:
            if classify(error).unavailable:
                raise
            _log.error("a conversation cannot be written back: %s", type(error).__name__)
            return False
        settled = self._held.backlog.settle(conversation_id, owner, messages)
        if isinstance(stored, SessionError):
            level = logging.WARNING if isinstance(stored, ConversationDeleted) else logging.ERROR
            _log.log(level, "%d messages are dropped: %s", settled, stored)
            self._held.memory.discard(conversation_id, owner)
        else:
            self._held.remember(stored)
            _log.warning("%d messages of a conversation written back to Redis", settled)
        return True

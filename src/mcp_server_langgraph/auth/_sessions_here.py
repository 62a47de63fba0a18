"""What the session store in Redis answers without Redis.

Plain functions, because a fallback after our own deadline must not wait. Each gets the error that made it necessary.
"""

import logging
from typing import Any

from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._conversation_search import SearchHit
from mcp_server_langgraph.auth._held_conversations import HeldConversations
from mcp_server_langgraph.auth._recovery import Recovery
from mcp_server_langgraph.auth._session_errors import SessionError
from mcp_server_langgraph.resilience.fallback import NOTHING

__all__ = ["SessionsHere"]

_log = logging.getLogger(__name__)


class SessionsHere:
    """Answers from what this process holds; `NOTHING` where it does not know. The first one starts the recovery."""

    def __init__(self, held: HeldConversations, recovery: Recovery) -> None:
        self._held = held
        self._recovery = recovery

    def get(self, error: Exception, conversation_id: str, owner: str) -> Any:
        self._begin(error)
        known = self._held.known(conversation_id, owner)
        if known is None and not self._held.memory.is_deleted(conversation_id, owner):
            return NOTHING
        return known

    def append(
        self,
        error: Exception,
        conversation_id: str,
        owner: str,
        messages: tuple[StoredMessage, ...],
        expected_version: int | None,
    ) -> Any:
        self._begin(error)
        accepted = self._held.accept(conversation_id, owner, messages, expected_version)
        if accepted is None:
            waiting = self._held.backlog
            _log.error(
                "%d messages (%d bytes) wait for Redis already; these are refused",
                len(waiting),
                waiting.bytes,
            )
            return NOTHING
        return accepted

    def room(self, error: Exception, owner: str, conversation: Conversation | None) -> SessionError | None:
        self._begin(error)
        return self._held.memory.refusal_of_room(owner, conversation)

    def search(self, error: Exception, owner: str, query: str, limit: int) -> list[SearchHit]:
        self._begin(error)
        return self._held.memory.find(owner, query, limit)

    def _begin(self, error: Exception) -> None:
        if self._recovery.start():
            why = type(error).__name__
            _log.warning(
                "Redis is unavailable (%s): sessions are single-instance and not durable for now", why
            )

"""Session stores: where conversations are kept, and what happens to them while Redis is down.

SessionError
+-- ConversationNotOwned    somebody else's; nothing was read or written
+-- SessionsUnavailable     cannot be known now; carries retry_after
"""

from mcp_server_langgraph.auth._conversation import (
    Conversation,
    ConversationNotOwned,
    SearchHit,
    SessionError,
    SessionStore,
    SessionsUnavailable,
    StoredMessage,
)
from mcp_server_langgraph.auth.session_memory import InMemorySessionStore
from mcp_server_langgraph.auth.session_redis import RedisSessionStore

__all__ = [
    "Conversation",
    "ConversationNotOwned",
    "InMemorySessionStore",
    "RedisSessionStore",
    "SearchHit",
    "SessionError",
    "SessionStore",
    "SessionsUnavailable",
    "StoredMessage",
]

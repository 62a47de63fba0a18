"""Session stores: where conversations are kept, and what happens to them while Redis is down.

SessionError
+-- ConversationConflict    went on meanwhile; nothing was written
+-- ConversationDeleted     by its owner; nothing was written
+-- ConversationNotOwned    what is kept there is somebody else's; nothing was read or written
+-- LimitReached            the owner may keep no more; nothing was written
+-- SessionDamaged          what is kept there is no conversation
+-- SessionsUnavailable     cannot be known now; carries retry_after
"""

from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._conversation_search import SearchHit
from mcp_server_langgraph.auth._session_errors import (
    ConversationConflict,
    ConversationDeleted,
    ConversationNotOwned,
    LimitReached,
    SessionDamaged,
    SessionError,
    SessionsUnavailable,
)
from mcp_server_langgraph.auth._session_limits import SessionLimits
from mcp_server_langgraph.auth._session_store import SessionStore
from mcp_server_langgraph.auth.session_memory import InMemorySessionStore
from mcp_server_langgraph.auth.session_redis import RedisSessionStore

__all__ = [
    "Conversation",
    "ConversationConflict",
    "ConversationDeleted",
    "ConversationNotOwned",
    "InMemorySessionStore",
    "LimitReached",
    "RedisSessionStore",
    "SearchHit",
    "SessionDamaged",
    "SessionError",
    "SessionLimits",
    "SessionStore",
    "SessionsUnavailable",
    "StoredMessage",
]

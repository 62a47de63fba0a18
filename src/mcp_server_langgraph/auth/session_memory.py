"""Sessions in the memory of one process: the default without Redis, and its stand-in while it is down."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from mcp_server_langgraph.auth._conversation import (
    Conversation,
    ConversationNotOwned,
    SearchHit,
    StoredMessage,
    best_hits,
    search_messages,
    search_patterns,
)

__all__ = ["InMemorySessionStore"]


class InMemorySessionStore:
    """Conversations of one process, bounded in number and age; gone when the process ends.

    The least recently used conversation makes room for a new one beyond `max_conversations`. `ttl` is the
    seconds a conversation is kept after its last append, None: for ever. `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        max_conversations: int = 10_000,
        ttl: float | None = 86_400.0,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_conversations < 1:
            raise ValueError(f"max_conversations must be at least 1, not {max_conversations}")
        if ttl is not None and ttl <= 0:
            raise ValueError(f"ttl must be more than 0 seconds or None, not {ttl}")
        self._max_conversations = max_conversations
        self._ttl = ttl
        self._clock = clock
        self._kept: OrderedDict[str, tuple[Conversation, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, conversation_id: str) -> Conversation | None:
        return self.peek(conversation_id)

    async def append(
        self, conversation_id: str, owner: str, messages: Sequence[StoredMessage]
    ) -> Conversation:
        now = self._clock()
        known = self.peek(conversation_id)
        if known is not None and known.owner != owner:
            raise ConversationNotOwned(f"conversation {conversation_id!r} belongs to somebody else")
        earlier = known.messages if known is not None else ()
        grown = Conversation.of(conversation_id, owner, (*earlier, *messages), now=now, durable=False)
        self.put(grown)
        return grown

    async def search(self, owner: str, query: str, limit: int = 10) -> list[SearchHit]:
        return self.find(owner, query, limit)

    async def aclose(self) -> None:
        """Nothing to close; the conversations stay readable."""

    def peek(self, conversation_id: str) -> Conversation | None:
        """What `get` gives, without waiting. Counts as a use."""
        kept = self._alive(conversation_id)
        if kept is not None:
            self._kept.move_to_end(conversation_id)
        return kept

    def find(self, owner: str, query: str, limit: int) -> list[SearchHit]:
        """What `search` gives, without waiting."""
        patterns = search_patterns(query)
        alive = [kept for conversation_id in list(self._kept) if (kept := self._alive(conversation_id))]
        own = [conversation for conversation in alive if conversation.owner == owner]
        return best_hits(
            (hit for conversation in own for hit in search_messages(conversation, patterns)), limit
        )

    def put(self, conversation: Conversation) -> None:
        """Keep this conversation as it is, in place of what was known of it."""
        self._kept[conversation.id] = (conversation, self._clock())
        self._kept.move_to_end(conversation.id)
        while len(self._kept) > self._max_conversations:
            self._kept.popitem(last=False)

    def discard(self, conversation_id: str) -> None:
        """Forget a conversation, if it is known."""
        self._kept.pop(conversation_id, None)

    def _alive(self, conversation_id: str) -> Conversation | None:
        kept = self._kept.get(conversation_id)
        if kept is None:
            return None
        conversation, touched = kept
        if self._ttl is not None and self._clock() - touched >= self._ttl:
            del self._kept[conversation_id]
            return None
        return conversation

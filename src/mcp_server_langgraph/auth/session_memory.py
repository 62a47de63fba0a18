"""Sessions in the memory of one process: the default without Redis, and its stand-in while it is down."""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._conversation_search import (
    SearchHit,
    best_hits,
    search_messages,
    search_patterns,
)
from mcp_server_langgraph.auth._footprint import CONVERSATION, FORGOTTEN, footprint
from mcp_server_langgraph.auth._kept_by_use import KeptByUse, Name
from mcp_server_langgraph.auth._session_errors import (
    ConversationConflict,
    ConversationDeleted,
    LimitReached,
    SessionError,
)
from mcp_server_langgraph.auth._session_limits import SHORTEST_TURN, SessionLimits

__all__ = ["InMemorySessionStore"]

_BYTES: Final = 268_435_456


class _Kept(NamedTuple):
    conversation: Conversation | None  # None: deleted
    touched: float


class InMemorySessionStore:
    """Conversations of one process, bounded in number, bytes and age; gone when the process ends.

    `max_conversations` and `max_bytes` bound this process's memory, `max_bytes_of_owner` one owner's part of it. An
    owner beyond its part loses the conversations that it used longest ago; beyond what all may
    have, those go that anybody used longest ago. A conversation that is by itself more than a part is refused.
    `limits` bound one owner too, but by refusing. `ttl` is the seconds a conversation is kept after its last append,
    and after its last reading too where `extend_on_read`; None: for ever. `clock`: seconds since the epoch.
    """

    def __init__(
        self,
        max_conversations: int = 10_000,
        ttl: float | None = 86_400.0,
        *,
        max_bytes: int = _BYTES,
        max_bytes_of_owner: int = _BYTES // 4,
        limits: SessionLimits | None = None,
        extend_on_read: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        bounds = {
            "max_conversations": max_conversations,
            "max_bytes": max_bytes,
            "max_bytes_of_owner": max_bytes_of_owner,
        }
        for name, bound in bounds.items():
            if bound < 1:
                raise ValueError(f"{name} must be at least 1, not {bound}")
        if ttl is not None and ttl <= 0:
            raise ValueError(f"ttl must be more than 0 seconds or None, not {ttl}")
        self._share = min(max_bytes_of_owner, max_bytes)
        self._ttl = ttl
        self._limits = limits or SessionLimits()
        self._extend_on_read = extend_on_read
        self._clock = clock
        self._kept: KeptByUse[_Kept] = KeptByUse(max_conversations, max_bytes, max_bytes_of_owner)

    def __len__(self) -> int:
        there = map(self._kept.get, self._kept.names())
        return sum(kept is not None and kept.conversation is not None for kept in there)

    @property
    def bytes(self) -> int:
        """Bytes of memory that what is kept takes, about."""
        return self._kept.bytes

    async def get(self, conversation_id: str, owner: str) -> Conversation | None:
        return self.read(conversation_id, owner)

    async def append(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        *,
        expected_version: int | None = None,
    ) -> Conversation:
        refusal = self.refusal(conversation_id, owner, messages, expected_version)
        if refusal is not None:
            raise refusal
        now = self._clock()
        known = self.peek(conversation_id, owner)
        grown = (
            Conversation.of(conversation_id, owner, messages, now=now, durable=False)
            if known is None
            else known.with_messages(messages, now=now, durable=False)
        )
        self.put(grown)
        return grown

    async def ensure_room(self, owner: str, conversation: Conversation | None) -> None:
        refusal = self.refusal_of_room(owner, conversation)
        if refusal is not None:
            raise refusal

    async def search(self, owner: str, query: str, limit: int = 10) -> list[SearchHit]:
        return self.find(owner, query, limit)

    async def delete(self, conversation_id: str, owner: str) -> bool:
        return self.forget(conversation_id, owner)

    async def delete_all(self, owner: str) -> int:
        own = [conversation.id for conversation in self.of(owner)]
        return sum(self.forget(conversation_id, owner) for conversation_id in own)

    async def aclose(self) -> None:
        """Nothing to close; the conversations stay readable."""

    # The same without waiting

    def peek(self, conversation_id: str, owner: str) -> Conversation | None:
        """What is kept of the conversation. Counts as a use for its place here, not for its time."""
        kept = self._alive((owner, conversation_id))
        if kept is None:
            return None
        self._kept.use((owner, conversation_id))
        return kept.conversation

    def read(self, conversation_id: str, owner: str) -> Conversation | None:
        """What `get` gives."""
        known = self.peek(conversation_id, owner)
        if known is not None and self._extend_on_read:
            self.put(known)
        return known

    def refusal(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        expected_version: int | None,
    ) -> SessionError | None:
        """Why an append would be refused; None if it would not."""
        if self.is_deleted(conversation_id, owner):
            return ConversationDeleted(f"conversation {conversation_id!r} was deleted")
        known = self.peek(conversation_id, owner)
        present = {message.id for message in known.messages} if known is not None else set()
        new = [message for message in messages if message.id not in present]
        if messages and not new:
            return None
        version = known.version if known is not None else 0
        if expected_version not in (None, version):
            return ConversationConflict(version)
        if known is None and (refused := self._limits.refusal_of_conversation(len(self.of(owner)))):
            return refused
        return self._limits.refusal_of_messages(known, new) or self._refusal_of_size(
            (owner, conversation_id), new
        )

    def refusal_of_room(self, owner: str, conversation: Conversation | None) -> SessionError | None:
        """Why a turn could not be kept; None if it could."""
        if conversation is None:
            return self._limits.refusal_of_conversation(len(self.of(owner)))
        return self._limits.refusal_of_turn(conversation) or self._refusal_of_size(
            (owner, conversation.id), SHORTEST_TURN
        )

    def _refusal_of_size(self, name: Name, new: Sequence[StoredMessage]) -> LimitReached | None:
        """Why the conversation would not fit into its owner's part of the memory: it would be gone at once."""
        if self._kept.fits(max(self._kept.size_of(name), CONVERSATION) + footprint(new)):
            return None
        return LimitReached("memory", self._share)

    def find(self, owner: str, query: str, limit: int) -> list[SearchHit]:
        """What `search` gives."""
        patterns = search_patterns(query)
        own = self.of(owner)
        return best_hits(
            (hit for conversation in own for hit in search_messages(conversation, patterns)), limit
        )

    def put(self, conversation: Conversation) -> None:
        """Keep this conversation as it is, in place of what was known of it."""
        self._put((conversation.owner, conversation.id), conversation)

    def forget(self, conversation_id: str, owner: str) -> bool:
        """Delete a conversation, and remember that. False if there was none."""
        known = self.peek(conversation_id, owner)
        if known is not None:
            self._put((owner, conversation_id), None)
        return known is not None

    def is_deleted(self, conversation_id: str, owner: str) -> bool:
        """Whether it is remembered as deleted."""
        kept = self._alive((owner, conversation_id))
        return kept is not None and kept.conversation is None

    def discard(self, conversation_id: str, owner: str) -> None:
        """Know nothing of a conversation any more."""
        self._kept.pop((owner, conversation_id))

    def _put(self, name: Name, conversation: Conversation | None) -> None:
        size = FORGOTTEN if conversation is None else self._size(name, conversation)
        self._kept.put(name, _Kept(conversation, self._clock()), size)

    def _size(self, name: Name, conversation: Conversation) -> int:
        """Its bytes. Of one that only grew at its end, what joined is counted, not the whole again."""
        kept = self._kept.get(name)
        before = () if kept is None or kept.conversation is None else kept.conversation.messages
        if before and conversation.messages[: len(before)] == before:
            return self._kept.size_of(name) + footprint(conversation.messages[len(before) :])
        return CONVERSATION + footprint(conversation.messages)

    def of(self, owner: str) -> list[Conversation]:
        """All that is kept of the owner's."""
        alive = [self._alive(name) for name in self._kept.names_of(owner)]
        return [kept.conversation for kept in alive if kept is not None and kept.conversation is not None]

    def _alive(self, name: Name) -> _Kept | None:
        kept = self._kept.get(name)
        if kept is not None and self._ttl is not None and self._clock() - kept.touched >= self._ttl:
            self._kept.pop(name)
            return None
        return kept

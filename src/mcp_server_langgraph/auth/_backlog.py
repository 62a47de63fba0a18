"""Messages that were accepted while Redis could not be reached, and that wait to be written there."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mcp_server_langgraph.auth._conversation import StoredMessage

__all__ = ["Backlog", "Waiting"]


class Waiting(NamedTuple):
    """What waits of one conversation."""

    conversation_id: str
    owner: str
    messages: tuple[StoredMessage, ...]


class Backlog:
    """Waiting messages by conversation, each once. Beyond `limit` messages it refuses rather than forgets."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[str, tuple[str, dict[str, StoredMessage]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, conversation_id: str, owner: str, messages: Iterable[StoredMessage]) -> bool:
        """False, and nothing added, when they would be too many."""
        _, kept = self._waiting.get(conversation_id, (owner, {}))
        new = {message.id: message for message in messages if message.id not in kept}
        if self._count + len(new) > self._limit:
            return False
        if new:
            self._waiting.setdefault(conversation_id, (owner, kept))[1].update(new)
            self._count += len(new)
        return True

    def of(self, conversation_id: str) -> tuple[StoredMessage, ...]:
        """What waits of this conversation, oldest addition first."""
        return tuple(self._waiting[conversation_id][1].values()) if conversation_id in self._waiting else ()

    def owner_of(self, conversation_id: str) -> str | None:
        """Whose the waiting conversation is; None if nothing of it waits."""
        return self._waiting[conversation_id][0] if conversation_id in self._waiting else None

    def settle(self, conversation_id: str, written: Iterable[StoredMessage]) -> int:
        """These are in Redis now. Returns how many of them had waited."""
        if conversation_id not in self._waiting:
            return 0
        kept = self._waiting[conversation_id][1]
        settled = sum(kept.pop(message.id, None) is not None for message in written)
        self._count -= settled
        if not kept:
            del self._waiting[conversation_id]
        return settled

    def waiting(self) -> Sequence[Waiting]:
        """Everything that waits now."""
        return [
            Waiting(conversation_id, owner, tuple(kept.values()))
            for conversation_id, (owner, kept) in self._waiting.items()
        ]

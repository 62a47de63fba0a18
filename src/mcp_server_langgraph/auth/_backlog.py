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
        self._waiting: dict[tuple[str, str], dict[str, StoredMessage]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, conversation_id: str, owner: str, messages: Iterable[StoredMessage]) -> bool:
        """False, and nothing added, when they would be too many."""
        kept = self._waiting.get((owner, conversation_id), {})
        new = {message.id: message for message in messages if message.id not in kept}
        if self._count + len(new) > self._limit:
            return False
        if new:
            self._waiting.setdefault((owner, conversation_id), kept).update(new)
            self._count += len(new)
        return True

    def of(self, conversation_id: str, owner: str) -> tuple[StoredMessage, ...]:
        """What waits of this conversation, oldest addition first."""
        return tuple(self._waiting.get((owner, conversation_id), {}).values())

    def ids_of(self, owner: str) -> list[str]:
        """The owner's conversations of which something waits."""
        return [conversation_id for whose, conversation_id in self._waiting if whose == owner]

    def settle(self, conversation_id: str, owner: str, written: Iterable[StoredMessage]) -> int:
        """These need not wait any more. Returns how many of them had waited."""
        kept = self._waiting.get((owner, conversation_id))
        if kept is None:
            return 0
        settled = sum(kept.pop(message.id, None) is not None for message in written)
        self._count -= settled
        if not kept:
            del self._waiting[owner, conversation_id]
        return settled

    def drop(self, conversation_id: str, owner: str) -> int:
        """Nothing of this conversation waits any more. Returns how many messages had."""
        return self.settle(conversation_id, owner, self.of(conversation_id, owner))

    def waiting(self) -> Sequence[Waiting]:
        """Everything that waits now."""
        return [
            Waiting(conversation_id, owner, tuple(kept.values()))
            for (owner, conversation_id), kept in self._waiting.items()
        ]

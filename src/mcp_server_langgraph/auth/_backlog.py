"""Messages that were accepted while Redis could not be reached, and that wait to be written there."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mcp_server_langgraph.auth._conversation import StoredMessage
from mcp_server_langgraph.auth._footprint import footprint
from mcp_server_langgraph.auth._kept_by_use import Name

__all__ = ["Backlog", "Waiting"]


class Waiting(NamedTuple):
    """What waits of one conversation."""

    conversation_id: str
    owner: str
    messages: tuple[StoredMessage, ...]


class _Sized(NamedTuple):
    message: StoredMessage
    size: int


class Backlog:
    """Waiting messages by conversation, each once.

    Beyond `limit` messages, `max_bytes` of them or `max_bytes_of_owner` of one owner's (None: no bound) it refuses
    rather than forgets.
    """

    def __init__(
        self, limit: int, max_bytes: int | None = None, max_bytes_of_owner: int | None = None
    ) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._share = max_bytes_of_owner
        self._waiting: dict[Name, dict[str, _Sized]] = {}
        self._parts: set[Name] = set()
        self._count = 0
        self._bytes = 0
        self._bytes_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """Bytes of memory that all of it takes, about."""
        return self._bytes

    def add(
        self, conversation_id: str, owner: str, messages: Iterable[StoredMessage], *, part: bool = False
    ) -> bool:
        """False, and nothing added, when they would be too many. `part`: their conversation has earlier messages."""
        name = owner, conversation_id
        kept = self._waiting.get(name, {})
        new = {each.id: _Sized(each, footprint([each])) for each in messages if each.id not in kept}
        size = sum(sized.size for sized in new.values())
        if self._is_too_much(owner, len(new), size):
            return False
        if new:
            self._waiting.setdefault(name, kept).update(new)
            self._count += len(new)
            self._bytes += size
            self._bytes_of[owner] += size
            if part:
                self._parts.add(name)
        return True

    def is_part(self, conversation_id: str, owner: str) -> bool:
        """Whether what waits of the conversation is known to be its end only."""
        return (owner, conversation_id) in self._parts

    def of(self, conversation_id: str, owner: str) -> tuple[StoredMessage, ...]:
        """What waits of this conversation, oldest addition first."""
        return _messages(self._waiting.get((owner, conversation_id), {}))

    def ids_of(self, owner: str) -> list[str]:
        """The owner's conversations of which something waits."""
        return [conversation_id for whose, conversation_id in self._waiting if whose == owner]

    def settle(self, conversation_id: str, owner: str, written: Iterable[StoredMessage]) -> int:
        """These need not wait any more. Returns how many of them had waited."""
        kept = self._waiting.get((owner, conversation_id))
        if kept is None:
            return 0
        settled = [gone.size for message in written if (gone := kept.pop(message.id, None)) is not None]
        self._count -= len(settled)
        self._bytes -= sum(settled)
        self._bytes_of[owner] -= sum(settled)
        if not kept:
            del self._waiting[owner, conversation_id]
            self._parts.discard((owner, conversation_id))
        elif settled:
            self._parts.add((owner, conversation_id))
        if not self._bytes_of[owner]:
            del self._bytes_of[owner]
        return len(settled)

    def drop(self, conversation_id: str, owner: str) -> int:
        """Nothing of this conversation waits any more. Returns how many messages had."""
        return self.settle(conversation_id, owner, self.of(conversation_id, owner))

    def waiting(self) -> Sequence[Waiting]:
        """Everything that waits now."""
        return [
            Waiting(conversation_id, owner, _messages(kept))
            for (owner, conversation_id), kept in self._waiting.items()
        ]

    def _is_too_much(self, owner: str, count: int, size: int) -> bool:
        bounds = (
            (self._count + count, self._limit),
            (self._bytes + size, self._max_bytes),
            (self._bytes_of[owner] + size, self._share),
        )
        return any(bound is not None and amount > bound for amount, bound in bounds)


def _messages(kept: Mapping[str, _Sized]) -> tuple[StoredMessage, ...]:
    return tuple(sized.message for sized in kept.values())

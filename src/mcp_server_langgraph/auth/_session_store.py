"""What every session store can do."""

from collections.abc import Sequence
from typing import Protocol

from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._conversation_search import SearchHit

__all__ = ["SessionStore"]


class SessionStore(Protocol):
    """Where conversations are kept, each under its owner: one owner's ids say nothing of another's conversations.

    Every method raises SessionsUnavailable when it can neither be done nor be stood in for.
    """

    async def get(self, conversation_id: str, owner: str) -> Conversation | None:
        """The owner's conversation, or None if there is none."""
        ...

    async def append(
        self,
        conversation_id: str,
        owner: str,
        messages: Sequence[StoredMessage],
        *,
        expected_version: int | None = None,
    ) -> Conversation:
        """Add messages, begin the conversation if it is new, and give back the whole of it.

        Messages that are there already (by id) are left as they are, so repeating an append is safe.
        `expected_version`: the version of the conversation that the messages were written for (0: a new one); with
        another one nothing is added. None: they are added to whatever is there.
        Raises ConversationConflict, ConversationDeleted, LimitReached.
        """
        ...

    async def ensure_room(self, owner: str, conversation: Conversation | None) -> None:
        """See before the work of a turn whether its messages could be kept; None: in a new conversation.

        Raises LimitReached. Reserves nothing: it is the append that counts.
        """
        ...

    async def search(self, owner: str, query: str, limit: int = 10) -> list[SearchHit]:
        """What the user and the assistant said in this owner's conversations that holds words of the query.

        Case is ignored. Messages with more of the words come first, then newer ones.
        """
        ...

    async def delete(self, conversation_id: str, owner: str) -> bool:
        """Delete a conversation for good: what is still on its way there is dropped. False if there is none."""
        ...

    async def delete_all(self, owner: str) -> int:
        """Delete all conversations of an owner. Returns how many there were."""
        ...

    async def aclose(self) -> None:
        """Write what can still be written and give connections back."""
        ...

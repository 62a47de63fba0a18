"""How much one owner may keep."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from mcp_server_langgraph.auth._conversation import Conversation, StoredMessage
from mcp_server_langgraph.auth._session_errors import LimitReached

__all__ = ["SHORTEST_TURN", "SessionLimits"]

SHORTEST_TURN = (StoredMessage.new("user", ""), StoredMessage.new("assistant", ""))


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Most conversations of one owner, most messages and bytes of text of one conversation (each >= 1; None: no limit).

    What is beyond them is refused, not made room for: an acknowledged message is never thrown away for a newer one.
    What was accepted in an outage is written back whatever the limits say.
    """

    conversations: int | None = 1_000
    messages: int | None = 2_000
    bytes: int | None = 4_194_304

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 1:
                raise ValueError(f"{field.name} must be at least 1 or None, not {value}")

    def refusal_of_conversation(self, kept: int) -> LimitReached | None:
        """Why an owner of `kept` conversations may not begin another; None if that is fine."""
        if self.conversations is not None and kept >= self.conversations:
            return LimitReached("conversations", self.conversations)
        return None

    def refusal_of_messages(
        self, known: Conversation | None, new: Iterable[StoredMessage]
    ) -> LimitReached | None:
        """Why these may not join the conversation; None if that is fine."""
        messages = list(new)
        count = len(messages) + (known.version if known is not None else 0)
        size = sum(message.size for message in messages) + (known.size if known is not None else 0)
        if self.messages is not None and count > self.messages:
            return LimitReached("messages", self.messages)
        if self.bytes is not None and size > self.bytes:
            return LimitReached("bytes", self.bytes)
        return None

    def refusal_of_turn(self, known: Conversation) -> LimitReached | None:
        """Why not even a question and an answer may join the conversation; None if they may."""
        return self.refusal_of_messages(known, SHORTEST_TURN)

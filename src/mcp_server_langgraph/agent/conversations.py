"""Ownership of conversations, and the errors of a turn. Light: the tools that only read need no agent."""

from __future__ import annotations

from mcp_server_langgraph.auth.session import Conversation, SessionStore

__all__ = ["ModelRefused", "UnknownConversation", "own_conversation"]


class UnknownConversation(LookupError):
    """There is no such conversation of this owner. Whether anybody else has it is not told."""

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"unknown conversation {conversation_id!r}")


class ModelRefused(RuntimeError):
    """The model's provider refused the request for a reason that no other model and no wait would cure."""


async def own_conversation(sessions: SessionStore, owner: str, conversation_id: str) -> Conversation:
    """The owner's conversation. Raises UnknownConversation, SessionsUnavailable."""
    conversation = await sessions.get(conversation_id, owner)
    if conversation is None or conversation.owner != owner:
        raise UnknownConversation(conversation_id)
    return conversation

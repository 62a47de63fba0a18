"""Between the messages that a model takes and the messages that a session store keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage

from mcp_server_langgraph.auth.session import StoredMessage

__all__ = ["from_stored", "to_stored"]

MAX_HISTORY: Final = 200
"""Messages of a conversation that are shown to the model; older ones stay in the store."""


def to_stored(messages: Iterable[BaseMessage]) -> list[StoredMessage]:
    """What is kept of these messages: text, tool calls and their results."""
    return [_stored(message) for message in messages]


def from_stored(messages: Sequence[StoredMessage]) -> list[BaseMessage]:
    """The newest ``MAX_HISTORY`` messages as a model takes them, beginning with a user's.

    A tool call without its result, or a result without its call, is left out: providers refuse such a history.
    """
    recent = list(messages[-MAX_HISTORY:])
    while recent and recent[0].role != "user":
        recent.pop(0)
    answered = {message.tool_call_id for message in recent if message.role == "tool"}
    return list(_restored(recent, answered))


def _stored(message: BaseMessage) -> StoredMessage:
    text = str(message.text)
    if isinstance(message, AIMessage):
        calls = [
            {"name": call["name"], "args": call["args"], "id": call["id"]} for call in message.tool_calls
        ]
        return StoredMessage.new("assistant", text, tool_calls=calls)
    if isinstance(message, ToolMessage):
        return StoredMessage.new("tool", text, name=message.name, tool_call_id=message.tool_call_id)
    return StoredMessage.new("user", text)


def _restored(messages: Iterable[StoredMessage], answered: set[str | None]) -> Iterator[BaseMessage]:
    asked: set[str | None] = set()
    for message in messages:
        if message.role == "user":
            yield HumanMessage(message.content)
        elif message.role == "tool":
            if message.tool_call_id in asked:
                yield ToolMessage(message.content, name=message.name, tool_call_id=message.tool_call_id)
        else:
            calls = [
                ToolCall(name=call["name"], args=call["args"], id=call["id"])
                for call in message.tool_calls
                if call["id"] in answered
            ]
            asked.update(call["id"] for call in calls)
            if calls or message.content:
                yield AIMessage(message.content, tool_calls=calls)

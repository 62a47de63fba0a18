"""What a small model is told of a conversation: who said what, no tools, and no more than its context holds.

Sizes are in bytes of UTF-8, because the model's tokens are bytes or longer: what fits in bytes always fits, in any
language, without asking its tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

__all__ = ["HISTORY_BYTES", "SYSTEM_PROMPT", "plain_chat"]

SYSTEM_PROMPT: Final = "You are a helpful assistant."
"""Longer ones confuse it: with this one it knows the capital of France."""

HISTORY_BYTES: Final = 1200
"""A few hundred words. Reading costs time: about 60 tokens a second on one thread, so 20 s at the very worst."""

_FRAME: Final = 8
"""Tokens that the chat format puts around each message, and some to spare."""
_LEFT_OUT: Final = " [...] "


def plain_chat(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The newest of ``messages`` that fit, as a chat without tools that begins with a user's.

    Results of tools stand with the question that they were asked for. The last question is always there, shortened in
    its middle where it is too long.
    """
    said = _said(messages)
    room = HISTORY_BYTES
    kept: list[BaseMessage] = []
    for message in reversed(said):
        text = str(message.text)
        size = len(text.encode()) + _FRAME
        if size > room:
            if not kept:
                kept.append(HumanMessage(shortened(text, room - _FRAME)))
            break
        kept.append(message)
        room -= size
    while kept and not isinstance(kept[-1], HumanMessage):
        kept.pop()
    return [SystemMessage(SYSTEM_PROMPT), *reversed(kept)]


def _said(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Questions and answers in words, up to the last question."""
    said: list[BaseMessage] = []
    last = 0
    for message in messages:
        text = str(message.text)
        if isinstance(message, HumanMessage):
            said.append(HumanMessage(text))
            last = len(said)
        elif isinstance(message, AIMessage) and text and not message.tool_calls:
            said.append(AIMessage(text))
        elif isinstance(message, ToolMessage) and last:
            asked = said[last - 1]
            said[last - 1] = HumanMessage(f"{asked.text}\n({message.name or 'a tool'} says: {text})")
    return said[:last]


def shortened(text: str, size: int) -> str:
    """``text`` in at most ``size`` bytes: its beginning and its end."""
    raw = text.encode()
    if len(raw) <= size:
        return text
    half = max(0, size - len(_LEFT_OUT)) // 2
    head, tail = raw[:half], raw[len(raw) - half :]
    return head.decode(errors="ignore") + _LEFT_OUT + tail.decode(errors="ignore")
